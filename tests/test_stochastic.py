"""Values of examples, and keys of an objective's own, in one round of queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

B, K = 7, 5
DATA = jax.random.normal(jax.random.key(0), (B, 3))
X = {"w": jnp.array([0.3, -0.2, 0.5]), "b": jnp.ones(2)}
KEY = jax.random.key(1)
MASKED = zo.directions.masked(zo.directions.gaussian(), {"w": True, "b": False})
OPTIONS = {"num_directions": K, "radius": 0.1}


def losses(x):
    return jnp.square(DATA @ x["w"] - 1 + jnp.sum(x["b"]))


def mean_loss(x):
    return jnp.mean(losses(x))


def assert_same(actual, desired):
    check = lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)  # noqa: E731
    jax.tree.map(check, actual, desired)


def error(x):
    return np.std(x, -1, ddof=1) / np.sqrt(B)


@pytest.mark.parametrize(
    ("evaluate", "stencil"),
    [
        (zo.evaluators.vmapped(), zo.stencils.three_point()),
        (zo.evaluators.chunked(2), zo.stencils.forward()),
        (zo.evaluators.chunked(1), zo.stencils.three_point()),
        pytest.param(zo.evaluators.vmapped(), zo.stencils.forward(), marks=pytest.mark.slow),
        pytest.param(zo.evaluators.chunked(2), zo.stencils.three_point(), marks=pytest.mark.slow),
        pytest.param(zo.evaluators.chunked(1), zo.stencils.forward(), marks=pytest.mark.slow),
    ],
)
def test_losses_of_examples(stencil, evaluate):
    """The values are those of the mean; the errors are those of differences over the examples."""
    options = OPTIONS | {"stencil": stencil, "evaluate": evaluate, "directions": MASKED}
    calls = []

    def counted(x):
        calls.append(1)
        return losses(x)

    queries = zo.query(counted, X, KEY, origin=True, reduce="mean", **options)
    assert len(calls) == 1
    plain = zo.query(mean_loss, X, KEY, origin=True, **options)
    np.testing.assert_allclose(queries.values, plain.values, rtol=1e-6)
    np.testing.assert_allclose(queries.origin, plain.origin, rtol=1e-6)

    u = plain.plan.draw(X)
    at = {
        sign: np.stack(
            [losses(jax.tree.map(lambda x, v: x + sign * 0.1 * v[k], X, u)) for k in range(K)]  # noqa: B023
        )
        for sign in (1, -1)
    }
    here = losses(X)
    odd, even = at[1] - here, at[1] - here
    if stencil.paired:
        odd, even = (at[1] - at[-1]) / 2, (at[1] + at[-1]) / 2 - here
    np.testing.assert_allclose(queries.noise.odd, error(odd), rtol=1e-3)
    np.testing.assert_allclose(queries.noise.even, error(even), rtol=1e-2, atol=1e-6)
    np.testing.assert_allclose(queries.noise.level, error(here), rtol=1e-4)
    assert np.all(queries.noise.odd < queries.noise.level / 2)  # what is common cancels


def test_examples_without_a_center_or_with_holes():
    """The round's mean has the place of f(θ); a query with one bad example is dropped."""
    holed = lambda x: losses(x).at[0].set(jnp.where(x["w"][1] > -0.2, jnp.nan, 1.0))  # noqa: E731
    queries = zo.query(holed, X, KEY, reduce="mean", **OPTIONS)
    left = np.isfinite(queries.values)
    assert 0 < left.sum() < K
    assert np.all(np.isfinite(queries.noise.odd) == left) and np.isfinite(queries.noise.level)
    known = zo.query(losses, X, KEY, reduce="mean", value=losses(X), **OPTIONS)
    asked = zo.query(losses, X, KEY, reduce="mean", origin=True, **OPTIONS)
    assert_same(
        (known.values, known.origin, known.noise), (asked.values, asked.origin, asked.noise)
    )
    one = zo.query(lambda x: losses(x)[:1], X, KEY, reduce="mean", **OPTIONS)
    assert one.noise is None


def test_a_transformation_takes_losses_of_examples():
    def step(value_fn, **options):
        gradient = zo.zo_gradient(
            key=KEY, baseline=zo.baselines.origin(), history_size=2, **OPTIONS, **options
        )
        return jax.jit(
            lambda value: gradient.update(None, gradient.init(X), X, value_fn=value_fn, value=value)
        )

    expected, _ = step(mean_loss)(mean_loss(X))
    for value in (losses(X), mean_loss(X)):
        updates, state = step(losses, reduce="mean")(value)
        assert_same(updates, expected)
        assert int(zo.num_queries(state)) == K
    with pytest.raises(TypeError, match=r"vector of floats.*shape \(\)"):
        step(mean_loss, reduce="mean")(1.0)
    with pytest.raises(TypeError, match='reduce="mean"'):
        step(losses)(1.0)
    with pytest.raises(ValueError, match="reduce must be"):
        step(losses, reduce="sum")


def noise_alone(x, key):
    return jax.random.normal(key) + 0 * jnp.sum(x["w"])


@pytest.mark.parametrize("evaluate", [zo.evaluators.chunked(2), zo.evaluators.chunked(1)])
def test_keys_of_the_objective(evaluate):
    """One for all queries of a round, or each its own, whatever the evaluator."""

    @jax.jit
    def asked():
        options = OPTIONS | {"stencil": zo.stencils.three_point()}
        return (
            zo.query(noise_alone, X, KEY, evaluate=evaluate, **options),
            zo.query(noise_alone, X, KEY, evaluate=evaluate, common_key=False, **options),
            zo.query(noise_alone, X, KEY, common_key=False, **options),
        )

    common, own, vmapped = asked()
    assert np.all(common.values == common.origin)
    assert len({float(x) for x in [*own.values.reshape(-1), own.origin]}) == 2 * K + 1
    np.testing.assert_array_equal(own.values, vmapped.values)


def test_keys_of_the_objective_in_an_optimiser():
    def values(**options):
        gradient = zo.zo_gradient(key=KEY, history_size=2, **OPTIONS, **options)

        @jax.jit
        def two_steps():
            state = gradient.init(X)
            for _ in range(2):
                _, state = gradient.update(None, state, X, value_fn=noise_alone)
            return state.history.rounds.values

        return np.asarray(two_steps())

    common, own = values(), values(common_key=False)
    assert np.all(np.ptp(common, 1) == 0) and common[0, 0] != common[1, 0]
    assert np.unique(own).size == 2 * K
    with pytest.raises(TypeError, match=r"common_key=False.*value_fn\(params, key\)"):
        zo.query(mean_loss, X, KEY, common_key=False, **OPTIONS)
