"""Conjugate gradients against dense solves, and what is reported when they fail."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit
from zovh_jax.solvers import cg

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

RNG = np.random.default_rng(0)
Q = np.linalg.qr(RNG.standard_normal((8, 8)))[0]
V = RNG.standard_normal(8)


def matrix(eigenvalues):
    return (Q * np.asarray(eigenvalues)) @ Q.T


def solve(operator, v=V, damping=0.5, **options):
    run = lambda v: zo.solve(operator, v, damping=damping, solver=cg(**options), return_info=True)  # noqa: E731
    return jax.jit(run)(v)


@pytest.mark.parametrize(
    "eigenvalues",
    [[1, 2, 3, 4, 5, 6, 7, 8], [-3, -2, -1.5, 0.1, 1, 2, 3, 9], [-9, -8, -7, -6, -5, -4, -3, -2]],
    ids=["positive", "indefinite", "negative"],
)
def test_equals_the_dense_solve(eigenvalues):
    h = matrix(eigenvalues)
    x, info = solve(lambda x: h @ x, tol=1e-12)
    np.testing.assert_allclose(x, np.linalg.solve(h + 0.5 * np.eye(8), V), rtol=1e-9)
    assert not info.diverged and info.residual < 1e-11


@pytest.mark.parametrize(
    ("weights", "steps"), [([1.0, 2.0, 0.5], 4), ([1.0, -2.0, 0.5], 4), ([0.0, 0.0, 0.0], 1)]
)
def test_low_rank_operators(weights, steps):
    """As many steps as there are distinct eigenvalues."""
    u = RNG.standard_normal((3, 8))
    plan = zo.Plan(None, explicit(u), num_directions=3)
    operator = zo.LowRankPlusScaled(
        plan, jnp.asarray(weights), jnp.asarray(0.2), layout_of(jnp.zeros(8))
    )
    dense = u.T @ np.diag(weights) @ u + 0.7 * np.eye(8)
    x, info = solve(operator, max_steps=4, tol=1e-14)
    np.testing.assert_allclose(x, np.linalg.solve(dense, V), rtol=1e-8)
    assert int(info.num_matvecs) == steps + 1  # one for the residual


def test_pytrees():
    h = matrix([1, 2, 3, 4, 5, 6, 7, 8])

    def matvec(tree):
        y = h @ jnp.concatenate([tree["a"].ravel(), tree["b"]])
        return {"a": y[:6].reshape(2, 3), "b": y[6:]}

    x, _ = solve(matvec, {"a": V[:6].reshape(2, 3), "b": V[6:]}, tol=1e-12)
    flat = np.concatenate([x["a"].ravel(), x["b"]])
    np.testing.assert_allclose(flat, np.linalg.solve(h + 0.5 * np.eye(8), V), rtol=1e-9)


@pytest.mark.parametrize("max_steps", [1, 3])
def test_the_residual_is_the_true_one(max_steps):
    h = matrix([1, 2, 3, 4, 5, 6, 7, 8])
    x, info = solve(lambda x: h @ x, max_steps=max_steps)
    residual = np.linalg.norm(V - (h + 0.5 * np.eye(8)) @ x) / np.linalg.norm(V)
    assert 1e-3 < residual < 1
    np.testing.assert_allclose(info.residual, residual, rtol=1e-9)
    assert not info.diverged


def test_a_worthless_answer_is_nan():
    # The first step divides by pᵀ(H + λI)p, here nearly zero.
    h = np.diag([1.0, -1.0 - 1e-3])
    x, info = solve(lambda x: h @ x, np.ones(2), damping=1e-4, max_steps=1)
    assert info.diverged and np.all(np.isnan(x))


def test_on_an_explicit_mesh():
    mesh = jax.make_mesh((1,), ("a",), axis_types=(jax.sharding.AxisType.Explicit,))
    split = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("a"))
    x, _ = solve(lambda x: 2 * x, jax.device_put(V, split))
    np.testing.assert_allclose(x, V / 2.5)
    assert jax.typeof(x).sharding.spec == split.spec


def test_derivatives_are_those_of_the_solution():
    h = matrix([1, 2, 3, 4, 5, 6, 7, 8])
    found = jax.grad(lambda v: V @ solve(lambda x: h @ x, v, tol=1e-12)[0])(V)
    np.testing.assert_allclose(found, np.linalg.solve(h + 0.5 * np.eye(8), V), rtol=1e-8)


def test_zero_right_hand_side():
    h = matrix(np.arange(8.0))
    x, info = solve(lambda x: h @ x, np.zeros(8))
    np.testing.assert_array_equal(x, np.zeros(8))
    assert not info.diverged
