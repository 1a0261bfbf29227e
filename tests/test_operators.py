"""Operators against the dense matrices that they stand for."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit, masked, rademacher, sphere

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

# Keys out of order: ravel_pytree sorts them, so "a" (a scalar) comes first.
PARAMS = {"z": (np.zeros((2, 2)), np.zeros(1)), "a": np.zeros(()), "m": np.zeros(3)}
D = 9


def given(n):
    rng = np.random.default_rng(4)
    return explicit(jax.tree.map(lambda x: rng.standard_normal((n, *x.shape)), PARAMS))


CASES = {
    "explicit": (given(4), None),
    "explicit rounds": (given(6), 2),
    "replayed rounds": (rademacher(), 2),
    "masked": (masked(rademacher(), {"a": True, "m": False, "z": True}), None),
    "masked sphere": (masked(sphere(), {"a": False, "m": True, "z": (False, False)}), None),
}


def build(name):
    """An operator, its directions as rows and a dense copy."""
    directions, rounds = CASES[name]
    key = jax.random.key(0)
    if rounds is not None:
        key = jax.random.split(key, rounds)
    if isinstance(directions, explicit):
        key = None
    k = 3 if rounds else 4
    plan = zo.Plan(key, directions, num_directions=k, num_rounds=rounds, block_size=2)
    structure = layout_of(PARAMS)
    if key is not None:  # drawn once: the products would each compile the draws again
        stored = jax.jit(lambda: structure.unflatten(plan.materialise(structure)))()
        plan = dataclasses.replace(plan, stored=stored)
    weights = jnp.asarray([2.0, -1.0, 0.5, 0.0, 3.0, -0.3][: plan.size])
    operator = zo.LowRankPlusScaled(plan, weights, jnp.asarray(0.7), structure)
    u = jax.jit(lambda p: jax.vmap(lambda x: ravel_pytree(x)[0])(p.draw(PARAMS)))(plan)
    u = np.asarray(u)
    active = np.any(u != 0, 0)
    dense = 0.7 * np.diag(1.0 * active) + u.T @ np.diag(weights) @ u
    assert np.sum(active) == {"masked": 6, "masked sphere": 3}.get(name, D)
    return operator, dense


@pytest.mark.parametrize("name", CASES)
def test_products_diagonal_trace_and_matrix(name):
    operator, dense = build(name)
    v = np.random.default_rng(1).standard_normal(D)
    tree = ravel_pytree(PARAMS)[1](v)

    @jax.jit
    def everything(operator):
        flat = lambda x: ravel_pytree(x)[0]  # noqa: E731
        return (
            flat(operator.mv(tree)),
            flat(operator.diagonal()),
            operator.trace(),
            operator.as_matrix(),
        )

    expected = (dense @ v, np.diag(dense), np.trace(dense), dense)
    for actual, desired in zip(everything(operator), expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-11, atol=1e-12)
    assert jax.tree.structure(operator.mv(tree)) == jax.tree.structure(PARAMS)
    assert [x.shape for x in jax.tree.leaves(operator.diagonal())] == [(), (3,), (2, 2), (1,)]


def test_is_a_pytree():
    operator, dense = build("explicit")
    doubled = jax.jit(lambda op: jax.tree.map(lambda x: 2 * x, op))(operator)
    assert isinstance(doubled, zo.LowRankPlusScaled)  # 2·weights, 2·scale and 2·directions
    expected = 8 * dense + (2 - 8) * 0.7 * np.eye(D)
    np.testing.assert_allclose(doubled.as_matrix(), expected, rtol=1e-12, atol=1e-12)
    weights, scale = operator.weights, operator.scale

    def trace(weights, scale):
        return zo.LowRankPlusScaled(operator.plan, weights, scale, operator.layout).trace()

    batch = jnp.stack([weights, 0 * weights, -weights]), jnp.stack([scale, 1 + 0 * scale, -scale])
    expected = [np.trace(dense), D, -np.trace(dense)]
    np.testing.assert_allclose(jax.vmap(trace)(*batch), expected, rtol=1e-12)


def test_vmap_over_estimated_operators():
    def f(x):
        return jnp.sum(x**2)

    def one(values):
        u = np.eye(3)
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=1.0)
        return zo.estimators.hessian(queries, jnp.zeros(3))

    values = jnp.array([[1.0, 2.0, 4.0], [0.0, 0.0, 3.0]])
    operators = jax.jit(jax.vmap(one))(values)
    assert operators.weights.shape == (2, 3)
    diagonals = jax.vmap(lambda op: op.diagonal())(operators)
    centred = (values - values.mean(1, keepdims=True)) / 2
    np.testing.assert_allclose(diagonals, centred, rtol=1e-12)


def test_narrow_parameters_give_wide_products():
    params = jnp.zeros(4, jnp.bfloat16)
    plan = zo.Plan(None, explicit(np.eye(4)[:2].astype(np.float32)), num_directions=2)
    weights = jnp.asarray([1.0, 2.0])
    operator = zo.LowRankPlusScaled(plan, weights, jnp.asarray(1 / 3), layout_of(params))
    product = operator.mv(jnp.ones(4, jnp.bfloat16))
    assert product.dtype == operator.diagonal().dtype == jnp.float32
    np.testing.assert_allclose(product, [4 / 3, 7 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert operator.as_matrix().dtype == jnp.float64
