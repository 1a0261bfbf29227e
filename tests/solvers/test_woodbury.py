"""The exact inverse (E16) against dense solves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit, gaussian, masked

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

DAMPING = 0.3


def operator_of(u, weights, scale=0.0, params=None):
    params = jnp.zeros(u.shape[1]) if params is None else params
    plan = zo.Plan(None, explicit(u), num_directions=len(u))
    return zo.LowRankPlusScaled(plan, jnp.asarray(weights), jnp.asarray(scale), layout_of(params))


solve = jax.jit(lambda operator, v: zo.solve(operator, v, damping=DAMPING))


@pytest.mark.parametrize(
    ("weights", "scale"),
    [
        ([1.0, 0.5, 2.0, 0.1, 0.9, 3.0], 0.0),
        ([1.0, -0.5, 2.0, -3.0, 0.9, -1.0], 0.0),  # indefinite
        ([-1.0, -0.5, -2.0, -3.0, -0.9, -1.0], 0.0),
        ([1.0, 0.0, 2.0, 0.0, -0.9, 0.0], 0.0),
        ([0.0] * 6, 0.0),
        ([1e-300, 1e8, -1e-12, 1.0, -1e6, 0.0], 0.0),
        ([1.0, -0.5, 2.0, -3.0, 0.9, 0.0], -0.8),  # λ + scale < 0
        ([1.0, -0.5, 2.0, -3.0, 0.9, 0.0], 5.0),
    ],
)
@pytest.mark.parametrize("d", [4, 9])  # fewer and more parameters than directions
def test_equals_the_dense_solve(d, weights, scale):
    rng = np.random.default_rng(d)
    u, v = rng.standard_normal((6, d)), rng.standard_normal(d)
    dense = u.T @ np.diag(weights) @ u + (scale + DAMPING) * np.eye(d)
    x = np.asarray(solve(operator_of(u, weights, scale), v))
    expected = np.linalg.solve(dense, v)
    error = np.linalg.norm(x - expected) / np.linalg.norm(expected)
    assert error < 1e-14 * max(np.linalg.cond(dense), 100)


def test_one_direction():
    u, v = np.array([[3.0, 4.0]]), np.array([1.0, 2.0])
    x = solve(operator_of(u, [0.5]), v)
    np.testing.assert_allclose(x, np.linalg.solve(0.5 * u.T @ u + 0.3 * np.eye(2), v), rtol=1e-13)


def test_frozen_leaves_see_the_damping_only():
    params = {"frozen": jnp.zeros(2), "x": jnp.zeros((2, 2))}
    directions = masked(gaussian(), {"frozen": False, "x": True})
    plan = zo.Plan(jax.random.key(0), directions, num_directions=3)
    operator = zo.LowRankPlusScaled(
        plan, jnp.array([1.0, -0.2, 0.6]), jnp.asarray(0.5), plan.layout(params)
    )
    v = {"frozen": jnp.array([1.0, -2.0]), "x": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    x, dense = solve(operator, v), np.asarray(jax.jit(lambda op: op.as_matrix())(operator))
    np.testing.assert_array_equal(dense[:2], 0)
    np.testing.assert_allclose(x["frozen"], v["frozen"] / DAMPING, rtol=1e-13)
    expected = np.linalg.solve(dense[2:, 2:] + DAMPING * np.eye(4), v["x"].ravel())
    np.testing.assert_allclose(x["x"].ravel(), expected, rtol=1e-11)


def test_single_precision():
    rng = np.random.default_rng(0)
    u, v = (rng.standard_normal(s).astype(np.float32) for s in [(6, 50), (50,)])
    weights = rng.standard_normal(6)
    dense = (u.T * weights) @ u + DAMPING * np.eye(50)
    with jax.enable_x64(False):
        weights = jnp.asarray(weights, jnp.float32)
        x = zo.solve(operator_of(u, weights), v, damping=DAMPING)
        assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, np.linalg.solve(dense, v), rtol=0, atol=2e-4)
