"""`low_rank_newton`: its model against dense algebra, and the queries that it saves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import walks

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.transforms.newton.spikes import Spikes, Whitened, learned

pytestmark = pytest.mark.usefixtures("fast_compilation")

D, RANK = 16, 3
PARAMS = {"a": jnp.zeros(4), "b": jnp.zeros((3, 4))}
LAYOUT = layout_of(PARAMS)


def tree_of(rows):
    rows = jnp.asarray(rows)
    return {"a": rows[..., :4], "b": rows[..., 4:].reshape(*rows.shape[:-1], 3, 4)}


def leaves_of(rows):
    return jax.tree.leaves(tree_of(rows))


def ravel(leaves):
    rows = [np.asarray(x) for x in leaves]
    return np.concatenate([rows[0], rows[1].reshape(*rows[0].shape[:-1], 12)], -1)


def spiked(values, size=D, seed=0):
    """A Hessian I + Σ (values_j − 1) v_j v_jᵀ, and its v_j as columns."""
    basis = np.linalg.qr(np.random.default_rng(seed).standard_normal((size, len(values))))[0]
    return np.eye(size) + basis * (np.asarray(values) - 1) @ basis.T, basis


def some_spikes():
    _, basis = spiked([1.0] * RANK, seed=1)
    return Spikes(tree_of(basis.T), jnp.asarray([9.0, 5.0, 0.5]), jnp.asarray(2.0)), basis


def metric_of(spikes):
    basis = ravel(jax.tree.leaves(spikes.basis))
    return np.eye(D) + basis.T @ (np.asarray(spikes.weights)[:, None] * basis)


@pytest.mark.parametrize("exponent", [-0.5, 1.0])
def test_powers_of_the_metric(x64, exponent):
    spikes, _ = some_spikes()
    rows = np.random.default_rng(2).standard_normal((4, D))
    values, basis = np.linalg.eigh(metric_of(spikes))
    want = rows @ (basis * values**exponent) @ basis.T
    np.testing.assert_allclose(ravel(spikes.power(exponent, leaves_of(rows))), want, rtol=1e-12)
    np.testing.assert_allclose(np.sort(values)[-2:], [2.5, 4.5])  # h/s, but none below 1


def test_whitened_directions_have_the_inverse_metric(x64):
    spikes, _ = some_spikes()
    u = ravel(
        Whitened(zo.directions.hadamard(), spikes).draw(jax.random.key(0), LAYOUT, D, jnp.arange(D))
    )
    np.testing.assert_allclose(u.T @ u / D, np.linalg.inv(metric_of(spikes)), atol=1e-6)


@pytest.mark.slow
def test_as_many_probes_as_spikes_find_them_all(x64):
    """With s below the rest's curvature, every probe takes one from the rank of the error."""
    values = [400.0, 50.0, 8.0]
    hessian, basis = spiked(values)
    spikes = Spikes.init(RANK, LAYOUT)._replace(scale=jnp.asarray(1.0))
    rng = np.random.default_rng(3)
    for _ in range(RANK):
        metric = metric_of(spikes)
        # Along what is left to be found, where curvature is well above s.
        v = np.linalg.solve(metric, basis @ rng.standard_normal(RANK))
        v *= np.sqrt(D / (v @ metric @ v))
        residual = np.linalg.solve(metric, hessian @ v) - float(spikes.scale) * v
        trace = np.trace(np.linalg.solve(metric, hessian))
        new, gain = learned(spikes, leaves_of(v), leaves_of(residual), jnp.asarray(trace), D)
        assert 0 < gain <= 1
        # In units of which the excess over s was kept entirely.
        kept = np.asarray(spikes.weights) * 0.1 * float(spikes.scale)
        old = ravel(jax.tree.leaves(spikes.basis))
        model = float(spikes.scale) * np.eye(D) + old.T @ (kept[:, None] * old)
        rows = ravel(jax.tree.leaves(new.basis))
        excess = np.maximum(np.asarray(new.eigenvalues) - float(spikes.scale), 0)
        model += rows.T @ (excess[:, None] * rows)
        np.testing.assert_allclose(model @ v, hessian @ v, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(rows @ rows.T, np.diag(np.diag(rows @ rows.T)), atol=1e-9)
        spikes = Spikes(
            tree_of(np.linalg.eigh(model)[1][:, :-4:-1].T),
            jnp.asarray(np.linalg.eigvalsh(model)[:-4:-1]),
            spikes.scale,
        )
    np.testing.assert_allclose(np.sort(spikes.eigenvalues)[::-1], values, rtol=1e-6)


@pytest.mark.parametrize("trace", [0.0, np.nan])
def test_nothing_is_learned_from_nothing(trace):
    spikes, _ = some_spikes()
    v = leaves_of(np.ones(D, np.float32))
    new, gain = learned(spikes, v, [jnp.full_like(x, jnp.nan) for x in v], jnp.asarray(trace), D)
    assert float(gain) == 0
    for x, y in zip(jax.tree.leaves(new), jax.tree.leaves(spikes), strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(
    "stencil",
    [pytest.param(zo.stencils.forward(), marks=pytest.mark.slow), zo.stencils.three_point()],
)
def test_the_first_epoch_measures_the_product(x64, stencil):
    """P⁻¹Hv to rounding, though θ moves on, D > d, and an epoch ends with its first rows again."""
    size, k = 13, 5
    hessian, _ = spiked([30.0, 7.0], size)
    rounds = -(-16 // k)
    optimizer = zo.low_rank_newton(k, 0.1, rank=2, stencil=stencil, key=jax.random.key(1))
    _, states = walks.run(optimizer, lambda x: x @ hessian @ x / 2, jnp.ones(size), rounds)
    probe = states.probe
    np.testing.assert_allclose(probe.residual[-1], hessian @ probe.direction[-1], rtol=1e-6)
    assert bool(probe.active[-1])


@pytest.mark.slow
def test_queries_on_a_spiked_quadratic():
    """A few large eigenvalues: in a fifth of `scalar_newton`'s queries."""
    size = 256
    _, basis = spiked([1.0] * 3, size)
    values, basis = jnp.asarray([3000.0, 1000.0, 300.0]), jnp.asarray(basis, jnp.float32)

    def f(x):
        along = jnp.dot(x, basis, precision="highest")
        return (jnp.sum(x**2) + jnp.sum((values - 1) * along**2)) / 2

    x = jax.random.normal(jax.random.key(1), (size,))
    spent = {}
    for name, steps in (("low_rank_newton", 600), ("scalar_newton", 2000)):
        optimizer = getattr(zo, name)(8, 0.1, key=jax.random.key(0))
        xs, states = walks.run(optimizer, f, x, steps)
        queries = states.counts.num_queries
        below = np.flatnonzero(np.asarray(jax.vmap(f)(xs)) <= 1e-3 * float(f(x)))
        spent[name] = int(queries[below[0]]) if len(below) else int(queries[-1])
    assert spent["low_rank_newton"] < spent["scalar_newton"] / 3, spent


@pytest.mark.slow
def test_probes_stop_where_nothing_dominates():
    optimizer = zo.low_rank_newton(8, 0.1, rank=2, key=jax.random.key(0))
    f = zo.problems.quadratic(10.0)
    _, states = walks.run(optimizer, f, jnp.ones(128), 120)
    assert np.all(np.asarray(states.probe.active)[:16])
    assert np.mean(states.probe.active[16:]) < 0.2


def test_errors():
    with pytest.raises(ValueError, match="rank"):
        zo.low_rank_newton(4, 0.1, key=jax.random.key(0), rank=0)
