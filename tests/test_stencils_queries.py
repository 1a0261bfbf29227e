"""Where a round asks, what it keeps, and the reductions over directions."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import Directions, explicit, masked, orthogonal, rademacher
from zovh_jax.evaluators import chunked, vmapped
from zovh_jax.stencils import central, forward, three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

PARAMS = {"a": np.float64(0.3), "b": (np.linspace(-1, 1, 6).reshape(2, 3), np.array([0.5, -0.2]))}
THETA = np.concatenate([[0.3], np.linspace(-1, 1, 6), [0.5, -0.2]])
RADIUS = 0.25
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Waves(Directions):
    """Numbers that depend on key, index and leaf, and compile much faster than random ones."""

    joint: bool = False
    law = "waves"

    def draw(self, key, structure, num_directions, indices):
        seed = jax.random.key_data(key)[-1].astype(float) / 2**32
        phase = (1.0 + seed + indices)[:, None] * (1.0 + jnp.arange(structure.size)) ** 1.5
        flat, start, leaves = jnp.sin(phase), 0, []
        for shape in structure.shapes:
            size = int(np.prod(shape))
            leaves.append(flat[:, start : start + size].reshape(-1, *shape))
            start += size
        return leaves


def f(p):
    return jnp.sin(p["a"]) * jnp.sum(p["b"][0] ** 3) + jnp.sum(jnp.exp(p["b"][1])) * p["a"]


def f_numpy(x):
    return np.sin(x[0]) * np.sum(x[1:7] ** 3) + np.sum(np.exp(x[7:])) * x[0]


def rows(tree):
    return np.concatenate([np.asarray(u).reshape(u.shape[0], -1) for u in jax.tree.leaves(tree)], 1)


def ravel(tree):
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(tree)])


def given(n):
    rng = np.random.default_rng(n)
    return explicit(jax.tree.map(lambda x: rng.standard_normal((n, *np.shape(x))), PARAMS))


def ask(k, directions, radius=RADIUS, **options):
    options |= {"num_directions": k, "radius": radius, "directions": directions}
    return jax.jit(lambda key: zo.query(f, PARAMS, key, **options))(jax.random.key(11))


@pytest.mark.parametrize(
    ("evaluate", "directions"),
    [
        (vmapped(), given(7)),
        (chunked(1), given(7)),
        (chunked(3), given(7)),
        (chunked(100), given(7)),
        (chunked(3), Waves()),
        (chunked(3), masked(Waves(), {"a": False, "b": True})),
        (chunked(2), Waves(joint=True)),
    ],
)
@pytest.mark.parametrize("stencil", [forward(), central(), three_point()])
def test_values_are_f_at_the_stencil_points(stencil, evaluate, directions):
    queries = ask(7, directions, stencil=stencil, evaluate=evaluate)
    u = rows(queries.plan.draw(PARAMS))
    plus = np.array([f_numpy(THETA + RADIUS * row) for row in u])
    minus = np.array([f_numpy(THETA - RADIUS * row) for row in u])
    paired = stencil != forward()
    np.testing.assert_allclose(
        queries.values, np.stack([plus, minus], -1) if paired else plus, **CLOSE
    )
    np.testing.assert_allclose(queries.even, (plus + minus) / 2 if paired else plus, **CLOSE)
    np.testing.assert_allclose(queries.odd, (plus - minus) / 2 if paired else plus, **CLOSE)
    if stencil == three_point():
        np.testing.assert_allclose(queries.origin, f_numpy(THETA), **CLOSE)
    else:
        assert queries.origin is None


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({"origin": True}, f_numpy(THETA)),
        ({"origin": True, "stencil": central()}, f_numpy(THETA)),
        ({"value": 42.0}, 42.0),  # a value given is believed, not queried
        ({"value": 42.0, "origin": True}, 42.0),
        ({"value": 42.0, "stencil": three_point()}, 42.0),
    ],
)
def test_origin(options, origin):
    np.testing.assert_allclose(ask(2, given(2), **options).origin, origin, rtol=1e-12)


@pytest.mark.parametrize("radius", [1e-3, 0.7])
def test_radius_scales_the_step(radius):
    queries = ask(3, given(3), radius)
    u = rows(given(3).tree)
    np.testing.assert_allclose(queries.values, [f_numpy(THETA + radius * x) for x in u], **CLOSE)
    np.testing.assert_allclose(queries.radii, [radius] * 3)


def test_from_values_is_the_same_as_query():
    key, stencil = jax.random.key(11), three_point()
    asked = ask(3, rademacher(), stencil=stencil)
    told = zo.Queries.from_values(
        np.asarray(asked.values),
        key=key,
        directions=rademacher(),
        radius=RADIUS,
        stencil=stencil,
        origin=asked.origin,
    )
    estimate = jax.jit(zo.estimators.gradient)
    np.testing.assert_allclose(
        ravel(estimate(asked, PARAMS)), ravel(estimate(told, PARAMS)), **CLOSE
    )


def test_ask_and_tell():
    key = jax.random.key(2)
    u = jax.jit(zo.Plan(key, rademacher(), num_directions=4).draw)(PARAMS)
    values = [f_numpy(THETA + RADIUS * row) for row in rows(u)]
    queries = zo.Queries.from_values(values, key=key, directions=rademacher(), radius=RADIUS)
    gradient = ravel(jax.jit(zo.estimators.gradient)(queries, PARAMS))
    expected = np.cov(np.asarray(values), rows(u), rowvar=False)[0, 1:] / RADIUS
    np.testing.assert_allclose(gradient, expected, **CLOSE)


@pytest.mark.parametrize("directions", [Waves(), masked(rademacher(), {"a": False, "b": True})])
def test_stored_directions_are_the_replayed_ones(directions):
    kept, replayed = (ask(2, directions, store_directions=s) for s in (True, False))
    assert kept.plan.stored is not None and replayed.plan.stored is None
    np.testing.assert_allclose(kept.values, replayed.values, **CLOSE)
    draws = [rows(jax.jit(q.plan.draw)(PARAMS)) for q in (kept, replayed)]
    np.testing.assert_allclose(*draws, **CLOSE)


PLANS = {
    "one block": (6, None, 6, Waves()),
    "one by one": (6, None, 1, Waves()),
    "blocks": (6, None, 2, Waves()),
    "blocks that do not divide": (7, None, 3, Waves()),
    "whole rounds": (2, 3, 2, Waves()),
    "rounds in blocks": (4, 3, 2, Waves()),
    "many rounds": (1, 20, 1, Waves()),
    "joint": (4, 2, 1, Waves(joint=True)),
    "masked": (6, None, 3, masked(Waves(), {"a": False, "b": (True, False)})),
    "masked rounds": (4, 2, 2, masked(Waves(), {"a": True, "b": (False, True)})),
    "masked orthogonal": (4, 2, 2, masked(orthogonal(), {"a": False, "b": (True, False)})),
    "explicit": (6, None, 1, given(6)),
    "explicit rounds": (6, 2, 1, given(12)),
}


@pytest.mark.parametrize("name", PLANS)
def test_reductions_against_dense_algebra(name):
    k, rounds, block_size, directions = PLANS[name]
    key, n = jax.random.key(1), k * (rounds or 1)
    if rounds is not None:
        key = jax.random.split(key, rounds)
    if "explicit" in name:
        key = None
    plan = zo.Plan(key, directions, num_directions=k, num_rounds=rounds, block_size=block_size)
    structure = layout_of(PARAMS)
    rng = np.random.default_rng(0)
    c, per_leaf, v = (rng.standard_normal(shape) for shape in [n, (n, 3), 9])
    vector = [v[0], v[1:7].reshape(2, 3), v[7:]]

    @jax.jit
    def reduce(plan):
        return (
            plan.draw(PARAMS),
            plan.combine(c, structure),
            plan.combine(per_leaf, structure),
            plan.combine_squares(c, structure),
            plan.inner([jnp.asarray(x) for x in vector], structure),
            plan.squared_norms(structure),
            plan.gram(structure),
            plan.fold(structure, lambda s, u, x: (s + jnp.sum(x), x * x), 1.0, c),
        )

    drawn, combined, apart, squares, (dots, norms), total, gram, folded = reduce(plan)
    u, leaf = rows(drawn), np.repeat([0, 1, 2], [1, 6, 2])
    assert u.shape == (n, 9) and plan.size == n
    assert np.linalg.matrix_rank(u) == min(n, np.sum(np.any(u != 0, 0)))
    assert len(np.unique(u[:, leaf == 1].round(9), axis=0)) == (1 if name == "masked rounds" else n)
    by_leaf = [u * (leaf == i) for i in range(3)]

    def flat(leaves):
        shapes = [(1,), (6,), (2,)]
        return ravel([np.zeros(s) if x is None else x for x, s in zip(leaves, shapes, strict=True)])

    np.testing.assert_allclose(flat(combined), c @ u, **CLOSE)
    np.testing.assert_allclose(flat(apart), np.sum(per_leaf[:, leaf] * u, 0), **CLOSE)
    np.testing.assert_allclose(flat(squares), c @ u**2, **CLOSE)
    np.testing.assert_allclose(dots, np.stack([x @ v for x in by_leaf], 1), **CLOSE)
    np.testing.assert_allclose(norms, np.stack([(x**2).sum(1) for x in by_leaf], 1), **CLOSE)
    np.testing.assert_allclose(total, np.sum(u**2, 1), **CLOSE)
    np.testing.assert_allclose(gram, np.stack([x @ x.T for x in by_leaf], -1), **CLOSE)
    np.testing.assert_allclose(folded[0], 1 + np.sum(c), **CLOSE)
    np.testing.assert_allclose(folded[1], c**2, **CLOSE)


def test_stacked_rounds_draw_what_single_rounds_draw():
    keys = jax.random.split(jax.random.key(1), 3)
    x = jnp.zeros(5)

    def draw(key, rounds):
        return jax.jit(zo.Plan(key, rademacher(), None, 2, rounds).draw)(x)

    singles = np.concatenate([draw(key, None) for key in keys])
    assert len(np.unique(singles, axis=0)) > 2
    np.testing.assert_array_equal(draw(keys, 3), singles)


def test_views_of_stacked_rounds():
    keys = jax.random.split(jax.random.key(0), 2)
    plan = zo.Plan(keys, rademacher(), num_directions=3, num_rounds=2)
    values = jnp.array(
        [[[1.0, 3.0], [2.0, 2.0], [jnp.nan, 0.0]], [[4.0, 0.0], [5.0, 1.0], [6.0, 0.0]]]
    )
    radius, origin = jnp.array([0.1, 0.2]), jnp.array([7.0, jnp.inf])
    queries = zo.Queries(plan, values, radius, origin, three_point())
    assert queries.plan.size == 6
    np.testing.assert_array_equal(queries.even, [2, 2, np.nan, 2, 3, 3])
    np.testing.assert_array_equal(queries.odd, [-1, 0, np.nan, 2, 2, 3])
    np.testing.assert_array_equal(queries.radii, [0.1] * 3 + [0.2] * 3)
    np.testing.assert_array_equal(queries.origins, [7.0] * 3 + [np.inf] * 3)
    np.testing.assert_array_equal(queries.valid, [True, True, False, True, True, True])
    assert int(queries.num_nonfinite) == 2
