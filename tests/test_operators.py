"""Operators against the dense matrices that they stand for, and the arithmetic of them."""

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
    structure = plan.layout(PARAMS)
    if key is not None:  # drawn once: the products would each compile the draws again
        stored = jax.jit(lambda: plan.materialise(structure))()
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


class Products(zo.Operator):
    """A dense matrix that knows its products only: the defaults do the rest."""

    def __init__(self, matrix, like=PARAMS):
        self.matrix, self.layout = matrix, layout_of(like)

    def mv(self, vector):
        flat, unravel = ravel_pytree(vector)
        return unravel(self.matrix @ flat)


def symmetric(seed, d=D):
    a = np.random.default_rng(seed).standard_normal((d, d))
    return a + a.T


def check(operator, dense, like=PARAMS):
    """Every method of an operator against a dense matrix."""
    v = np.random.default_rng(1).standard_normal(len(dense))
    flat = lambda x: ravel_pytree(x)[0]  # noqa: E731
    tree = ravel_pytree(like)[1](v)
    close = {"rtol": 1e-10, "atol": 1e-11}
    rows = np.random.default_rng(2).standard_normal((5, len(dense)))

    @jax.jit
    def everything(tree, rows):
        leaves = jax.tree.leaves(jax.vmap(ravel_pytree(like)[1])(rows))
        return (
            flat(operator.mv(tree)),
            flat(operator @ tree),
            flat(operator.diagonal()),
            operator.trace(),
            operator.as_matrix(),
            operator.quadratic_forms(leaves, layout_of(like)),
        )

    forms = np.einsum("ki,ij,kj->k", rows, dense, rows)
    expected = (dense @ v, dense @ v, np.diag(dense), np.trace(dense), dense, forms)
    for actual, desired in zip(everything(tree, rows), expected, strict=True):
        np.testing.assert_allclose(actual, desired, **close)


def test_the_defaults_need_products_only():
    dense = symmetric(0)
    check(Products(dense), dense)


def test_arithmetic():
    low, dense = build("explicit rounds")
    other = symmetric(3)
    check(low * 2.0, 2 * dense)
    assert isinstance(np.float64(2) * low, zo.LowRankPlusScaled)
    check(jnp.float32(3) * low, 3 * dense)
    check(np.float64(0.5) * Products(other) * 4, 2 * other)
    check(-low + Products(other) - low * 0.25, other - 1.25 * dense)
    assert len((low + low + low).terms) == 3
    for bad in ("a", jnp.ones(3), np.ones(2), None):
        with pytest.raises(TypeError):
            low * bad
        with pytest.raises(TypeError):
            low + bad


@pytest.mark.parametrize("name", [pytest.param("masked", marks=pytest.mark.slow), "masked sphere"])
def test_sums_of_operators_with_other_frozen_leaves(name):
    low, dense = build(name)
    full, other = build("explicit")
    check(low + 2 * full, dense + 2 * other)
    both, (first, _), (second, _) = low + full, build("masked"), build("masked sphere")
    assert both.layout.active == (True,) * 4
    # "a" is frozen in one, "z" in the other, nothing in both.
    assert (first + second).layout.active == (True, True, True, True)
    check(first + second, build("masked")[1] + build("masked sphere")[1])
    only = first + first
    assert only.layout == first.layout


def test_operators_of_other_params_cannot_be_added():
    low, _ = build("explicit")
    with pytest.raises(ValueError, match="different params"):
        low + Products(symmetric(0, 3), jnp.zeros(3))


def test_through_jit_and_vmap():
    low, dense = build("replayed rounds")
    matrix = jax.jit(lambda op, c: (op * c + op).as_matrix())(low, 2.0)
    np.testing.assert_allclose(matrix, 3 * dense, rtol=1e-11, atol=1e-12)
    traces = jax.vmap(lambda c: (c * low - low).trace())(jnp.arange(3.0))
    np.testing.assert_allclose(traces, (np.arange(3) - 1) * np.trace(dense), rtol=1e-11)


@pytest.mark.parametrize("summed", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_frozen_leaves_of_any_dtype(summed):
    """Of a sum of operators, whose parts are asked too."""
    params = {"k": jax.random.key(0), "i": jnp.zeros(2, jnp.int8), "x": jnp.zeros(3)}
    directions = masked(rademacher(), {"k": False, "i": False, "x": True})
    plan = zo.Plan(jax.random.key(1), directions, num_directions=2)
    layout = plan.layout(params)
    plan = dataclasses.replace(plan, stored=plan.materialise(layout))  # drawn by one program
    low = zo.LowRankPlusScaled(plan, jnp.array([1.0, -2.0]), jnp.asarray(0.5), layout)
    v = {"k": None, "i": jnp.ones(2, jnp.int8), "x": jnp.arange(3.0)}
    u = np.asarray(plan.stored[0])
    dense = u.T @ np.diag([1.0, -2.0]) @ u + 0.5 * np.eye(3)
    solvers = (zo.solvers.woodbury(), zo.solvers.cg(tol=1e-12))

    @jax.jit
    def everything(operator):
        inverse = zo.inverse(operator, damping=5.0)
        parts = operator.mv(v), operator.diagonal(), inverse.diagonal()
        return (
            [part["x"] for part in parts],
            operator.trace(),
            operator.as_matrix(),
            [zo.solve(operator, v, damping=5.0, solver=solver) for solver in solvers],
            inverse.sample(jax.random.key(0), 4)["x"],
            inverse.logdet(),
        )

    operator = 2 * low - low if summed else low
    parts, trace, matrix, solved, samples, logdet = everything(operator)
    np.testing.assert_allclose(parts[0], dense @ np.arange(3.0), rtol=1e-12)
    np.testing.assert_allclose(parts[1], np.diag(dense), rtol=1e-12)
    np.testing.assert_allclose(trace, np.trace(dense), rtol=1e-12)
    assert matrix.shape == (6, 6)
    for x in solved:
        expected = np.linalg.solve(dense + 5 * np.eye(3), np.arange(3.0))
        np.testing.assert_allclose(x["x"], expected, rtol=1e-9)
        assert x["k"] is None and not np.any(x["i"])
    assert samples.shape == (4, 3) and np.isfinite(logdet) and parts[2].shape == (3,)


@pytest.mark.parametrize(
    "problem",
    [
        zo.problems.rosenbrock(),
        pytest.param(zo.problems.quadratic(10.0), marks=pytest.mark.slow),
    ],
)
def test_exact_hessians_of_the_problems(problem):
    x = jnp.linspace(-1, 1, 6)
    hessian = problem.hessian(x)
    assert isinstance(hessian, zo.Operator)
    dense = np.asarray(jax.jit(jax.hessian(problem))(x))
    check(hessian, dense, x)
    damping = 100.0 - float(np.linalg.eigvalsh(dense)[0])

    @jax.jit
    def back_again():
        queries = zo.query(
            problem,
            x,
            jax.random.key(1),
            num_directions=4,
            radius=1e-2,
            stencil=zo.stencils.three_point(),
        )
        estimate = zo.estimators.interpolated_hessian(queries, x, prior=hessian)
        v = zo.solve(estimate, x, damping=damping, solver=zo.solvers.cg(tol=1e-12))
        return estimate @ v + damping * v

    np.testing.assert_allclose(back_again(), x, rtol=1e-6, atol=1e-9)
