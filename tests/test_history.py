"""Query reuse: a history's estimates are those of its last rounds laid end to end."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import ravel, rows

import zovh_jax as zo
from zovh_jax.baselines import mean, origin, variance_optimal
from zovh_jax.directions import explicit, gaussian, masked, rademacher
from zovh_jax.stencils import central, forward, three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

N, K, D = 3, 2, 4
PARAMS = (np.zeros(3), np.zeros(()))
STRUCT = jax.ShapeDtypeStruct


def make_rounds(num_rounds, kind, paired=False):
    """Rounds with random values, their own radius and origin; and the same as dense arrays."""
    rng = np.random.default_rng(3)
    family = {
        "replayed": gaussian(),
        "stored": gaussian(),
        "masked": masked(gaussian(), (True, False)),
        "explicit": None,
    }[kind]
    draw = jax.jit(lambda key: zo.Plan(key, family, num_directions=K).draw(PARAMS))
    rounds = []
    for i in range(num_rounds):
        key = jax.random.key(100 + i)
        if family is None:
            tree = (rng.standard_normal((K, 3)), rng.standard_normal(K))
            where, u = {"directions": explicit(tree)}, rows(tree)
        else:
            where, u = {"plan": zo.Plan(key, family, num_directions=K)}, rows(draw(key))
        values = rng.standard_normal((K, 2) if paired else K)
        radius, f0 = 0.1 * (i + 1), rng.standard_normal()
        stencil = three_point() if paired else forward()
        queries = zo.Queries.from_values(values, **where, radius=radius, stencil=stencil, origin=f0)
        if kind == "stored":
            plan = dataclasses.replace(queries.plan, stored=draw(key))
            queries = zo.Queries(plan, queries.values, queries.radius, queries.origin, stencil)
        rounds.append((queries, (u, values, np.full(K, radius), np.full(K, f0))))
    return rounds


def init(rounds, kind, **options):
    queries = rounds[0][0]
    return zo.History.init(
        PARAMS,
        size=N,
        num_directions=K,
        directions=queries.plan.directions,
        stencil=queries.stencil,
        origin=True,
        store_directions=kind == "stored",
        **options,
    )


@pytest.mark.parametrize("kind", ["replayed", "stored", "masked", "explicit"])
def test_estimates_use_the_last_rounds(kind):
    rounds = make_rounds(5, kind)
    history = init(rounds, kind)
    active = np.diag([1.0, 1, 1, 0] if kind == "masked" else np.ones(D))

    @jax.jit
    def estimates(queries):
        e = zo.estimators
        return (
            e.gradient(queries, PARAMS),
            e.gradient(queries, PARAMS, baseline=origin()),
            e.hessian(queries, PARAMS).as_matrix(),
            e.hessian(queries, PARAMS, baseline=origin()).as_matrix(),
        )

    push = jax.jit(lambda history, queries: history.push(queries))
    for i in range(5):
        history = push(history, rounds[i][0])
        window = [dense for _, dense in rounds[max(0, i + 1 - N) : i + 1]]
        u, values, radii, origins = map(np.concatenate, zip(*window, strict=True))
        n = len(values)
        assert n == K * min(i + 1, N) and int(history.num_pushed) == i + 1
        centred, steps = (values - values.mean()) / (n - 1), (values - origins) / n
        outer = u[:, :, None] * u[:, None, :]
        expected = (
            (centred / radii) @ u,
            (steps / radii) @ u,
            np.einsum("k,kij->ij", centred / radii**2, outer - active),
            np.einsum("k,kij->ij", steps / radii**2, outer - active),
        )
        for actual, desired in zip(estimates(history.queries()), expected, strict=True):
            actual = actual if getattr(actual, "ndim", 0) == 2 else ravel(actual)
            np.testing.assert_allclose(actual, desired, rtol=1e-10, atol=1e-11)


def test_paired_rounds():
    rounds = make_rounds(4, "explicit", paired=True)
    history = init(rounds, "explicit")
    for queries, _ in rounds:
        history = history.push(queries)
    window = [dense for _, dense in rounds[1:]]
    u, values, radii, origins = map(np.concatenate, zip(*window, strict=True))
    gradient = zo.estimators.gradient(history.queries(), PARAMS)
    slopes = (values[:, 0] - values[:, 1]) / (2 * radii)
    np.testing.assert_allclose(ravel(gradient), slopes @ u / (N * K), rtol=1e-10)
    hessian = zo.estimators.hessian(history.queries(), PARAMS, baseline=origin()).as_matrix()
    curvatures = (values.sum(1) - 2 * origins) / (2 * radii**2)
    terms = u[:, :, None] * u[:, None, :] - np.eye(D)
    np.testing.assert_allclose(
        hessian, np.einsum("k,kij->ij", curvatures, terms) / (N * K), rtol=1e-9
    )


@pytest.mark.parametrize("block_size", [1, 2])
def test_ring_order_and_scan(block_size):
    rounds = make_rounds(5, "replayed")
    history = init(rounds, "replayed", block_size=block_size)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *[queries for queries, _ in rounds])
    history, _ = jax.lax.scan(lambda h, q: (h.push(q), ()), history, stacked)
    queries = history.queries()
    for slot, i in enumerate([3, 4, 2]):  # the oldest round, 2, is the next to go
        u, values, radii, origins = rounds[i][1]
        np.testing.assert_array_equal(queries.values[slot], values)
        np.testing.assert_allclose(queries.radii[K * slot : K * slot + K], radii)
        np.testing.assert_allclose(queries.origins[K * slot : K * slot + K], origins)
    u = np.concatenate([rounds[i][1][0] for i in [3, 4, 2]])
    drawn = jax.jit(lambda q: q.plan.draw(PARAMS))(queries)
    np.testing.assert_allclose(rows(drawn), u, rtol=1e-12)


def test_size_one_keeps_the_last_round_only():
    history = zo.History.init(PARAMS, size=1, num_directions=K, origin=True)
    for queries, _ in make_rounds(2, "replayed"):
        history = history.push(queries)
        np.testing.assert_array_equal(history.queries().values, queries.values[None])


@pytest.mark.parametrize("baseline", [mean(), origin(), variance_optimal()])
def test_an_empty_history_estimates_zero(baseline):
    rounds = make_rounds(1, "explicit")
    empty = init(rounds, "explicit").queries()
    assert not np.any(empty.valid)
    np.testing.assert_array_equal(
        ravel(zo.estimators.gradient(empty, PARAMS, baseline=baseline)), np.zeros(D)
    )
    hessian = zo.estimators.hessian(empty, PARAMS, baseline=baseline)
    np.testing.assert_array_equal(hessian.as_matrix(), np.zeros((D, D)))


def nbytes(d, **options):
    x = STRUCT((d,), jnp.float32)
    history = jax.eval_shape(lambda: zo.History.init(x, size=5, num_directions=3, **options))
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(history) if x.dtype != "key<fry>")


@pytest.mark.parametrize("stencil", [forward(), central(), three_point()])
def test_memory_does_not_depend_on_d(stencil):
    small, large = (nbytes(d, stencil=stencil, directions=rademacher()) for d in (10, 10**9))
    assert small == large < 5 * (2 * 3 + 2) * 8 + 50
    assert nbytes(10**6, store_directions=True) >= 15 * 4 * 10**6
