"""Families of a user's own, and what families say that they can do."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled_run, ravel, rows

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import (
    Directions,
    Wrapper,
    explicit,
    gaussian,
    hadamard,
    masked,
    orthogonal,
    rademacher,
    scaled,
    sphere,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")
CAPABILITIES = (
    "isotropic",
    "constant_norm",
    "rotation_invariant",
    "gaussian_moments",
    "standard_normal",
    "sees_diagonal",
)
PARAMS = {"a": jnp.ones(3), "b": jnp.full((2, 2), 2.0)}


class Silent(Directions):
    """Uniform numbers of variance 1; says nothing about itself, and JAX has never heard of it."""

    def draw(self, key, layout, num_directions, indices):
        def one(index, leaf, shape):
            k = jax.random.fold_in(jax.random.fold_in(key, index), leaf)
            return 3**0.5 * jax.random.uniform(k, shape, minval=-1.0)

        return [
            jax.vmap(lambda i, leaf=leaf, shape=shape: one(i, leaf, shape))(indices)
            for leaf, shape in enumerate(layout.shapes)
        ]


@dataclasses.dataclass(frozen=True)
class Uniform(Silent):
    """The same, but it says that E[u uᵀ] = I."""

    width: float = 1.0
    isotropic = True


@dataclasses.dataclass(frozen=True)
class Doubled(Wrapper):
    """A wrapper of a user's own."""

    directions: Directions

    def draw(self, key, layout, num_directions, indices):
        return [2 * u for u in super().draw(key, layout, num_directions, indices)]


def f(p):
    return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(p))


def new(base):
    """A class that has not been used before: nothing can have registered it."""
    return dataclasses.dataclass(frozen=True)(type(base.__name__, (base,), {}))


OPTIONS = {"num_directions": 6, "radius": 0.1}


@pytest.mark.parametrize("make", [new(Silent), new(Uniform), lambda: masked(new(Silent)(), True)])
def test_a_plan_of_ones_own_family(make):
    """The first use may be a plan, outside of jit or inside; blocks replay the whole."""
    key = jax.random.key(3)
    whole = rows(zo.Plan(key, make(), num_directions=6, block_size=6).draw(PARAMS))
    plan = zo.Plan(key, make(), num_directions=6, block_size=2)
    blocks = rows(jax.jit(lambda: plan.draw(PARAMS))())
    np.testing.assert_allclose(blocks, whole, rtol=1e-6)
    assert np.max(np.abs(whole)) < 3**0.5 and np.linalg.matrix_rank(whole) == 6


def test_jit_vmap_and_scan_of_ones_own_family():
    """Queries may be arguments and results of compiled functions; nothing is registered by hand."""
    family = new(Uniform)()

    def gradient(key):
        queries = jax.jit(lambda k: zo.query(f, PARAMS, k, directions=family, **OPTIONS))(key)
        return queries, jax.jit(zo.estimators.gradient)(queries, PARAMS)

    keys = jax.random.split(jax.random.key(0), 3)
    queries, single = gradient(keys[1])
    assert queries.plan.directions == family
    u = rows(queries.plan.draw(PARAMS))
    expected = np.cov(np.asarray(queries.values), u, rowvar=False)[0, 1:] / 0.1
    np.testing.assert_allclose(ravel(single), expected, rtol=1e-4, atol=1e-4)
    _, many = jax.vmap(gradient)(keys)
    _, scanned = jax.lax.scan(lambda c, k: (c, gradient(k)[1]), 0, keys)
    for tree in (many, scanned):
        for x, y in zip(jax.tree.leaves(tree), jax.tree.leaves(single), strict=True):
            np.testing.assert_allclose(x[1], y, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("history_size", [1, 3])
def test_optimisers_and_histories_of_ones_own_family(history_size):
    optimizer = zo.zo_sgd if history_size == 1 else zo.zoar
    options = {"history_size": history_size} if history_size > 1 else {}
    optimizer = optimizer(
        0.02,
        num_directions=8,
        radius=0.5,
        key=jax.random.key(0),
        directions=new(Silent)(),
        **options,
    )
    path, _ = compiled_run(optimizer, f, PARAMS, 40)
    assert f(jax.tree.map(lambda x: x[-1], path)) < 0.3 * f(PARAMS)


def test_a_wrapper_of_ones_own():
    """It is not trusted with what it doesn't say; frozen leaves and rounds are the inner ones."""
    key, inner = jax.random.key(0), masked(hadamard(), {"a": False, "b": True})
    outer = Doubled(inner)
    assert not any(getattr(outer, name) for name in CAPABILITIES)
    u, v = (zo.Plan(key, d, num_directions=3).draw(PARAMS) for d in (outer, inner))
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, 2 * b), u, v)
    layout = layout_of(PARAMS, outer.active)
    assert layout.active == (False, True)
    assert outer.round_key(key, 5, layout, 3) == inner.round_key(key, 5, layout, 3)
    assert outer.joint == inner.joint and Doubled(orthogonal()).joint


SAY = {
    gaussian(): (1, 0, 1, 1, 1, 1),
    gaussian(fast=True): (1, 0, 1, 1, 1, 1),
    sphere(): (1, 1, 1, 0, 0, 1),
    rademacher(): (1, 1, 0, 0, 0, 0),
    orthogonal(): (1, 1, 1, 0, 0, 1),
    hadamard(): (1, 1, 0, 0, 0, 0),
    explicit(PARAMS): (0, 0, 0, 0, 0, 1),
    Silent(): (0, 0, 0, 0, 0, 0),
    Uniform(): (1, 0, 0, 0, 0, 0),
}


def says(directions):
    return tuple(int(getattr(directions, name)) for name in CAPABILITIES)


def test_what_families_say():
    """A mask changes nothing of it; a scale leaves only that squares differ."""
    for directions, expected in SAY.items():
        assert says(directions) == expected, directions
        if not directions.given:
            mask = masked(directions, {"a": True, "b": False})
            assert says(mask) == expected
            sees = (0, 0, 0, 0, 0, expected[-1])
            assert says(scaled(directions, PARAMS)) == says(scaled(mask, PARAMS)) == sees


def test_what_is_said_is_true():
    """Norms, and the differences between squares, of the families that draw."""
    for directions in SAY:
        if directions.given:
            continue
        u = rows(zo.Plan(jax.random.key(1), directions, num_directions=5).draw(PARAMS))
        if directions.constant_norm:
            np.testing.assert_allclose(np.sum(u**2, 1), 7, rtol=1e-5)
        if directions.sees_diagonal:
            assert np.min(np.std(u**2, 0)) > 0.01


@pytest.mark.parametrize(
    "call",
    [
        lambda d: zo.zo_newton(4, 0.1, damping=1.0, key=jax.random.key(0), directions=d),
        lambda d: zo.zovh(
            0.1, num_directions=4, radius=0.1, damping=1.0, key=jax.random.key(0), directions=d
        ),
        lambda d: zo.estimators.hessian(
            zo.query(f, PARAMS, jax.random.key(0), directions=d, **OPTIONS), PARAMS
        ),
        lambda d: zo.estimators.newton_direction(
            zo.query(f, PARAMS, jax.random.key(0), directions=d, **OPTIONS), PARAMS, damping=1.0
        ),
        lambda d: d.shrinkage(3, layout_of(PARAMS)),
        lambda d: zo.zoar(
            0.1,
            num_directions=4,
            radius=0.1,
            key=jax.random.key(0),
            directions=d,
            history_size=2,
            reuse=zo.reuse.importance(),
        ),
    ],
)
def test_what_is_not_said_is_not_trusted(call):

    def abstractly(directions):
        jax.eval_shape(lambda: (call(directions), None)[1])

    for directions in (Silent(), Uniform(), masked(Uniform(), True)):
        with pytest.raises(ValueError, match=r"Silent|Uniform"):
            abstractly(directions)
    abstractly(gaussian())
