"""``solve`` and ``inverse`` with every solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit
from zovh_jax.solvers import cg, gram_diagonal, neumann, woodbury

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

DAMPING = 0.8
PARAMS = {"z": np.zeros((2, 2)), "a": np.zeros(2)}  # ravelled with "a" first
RNG = np.random.default_rng(0)
U = np.linalg.qr(RNG.standard_normal((6, 3)))[0].T * 2  # orthogonal: gram_diagonal is exact too
WEIGHTS = np.array([1.0, 0.5, -0.1])
DENSE = U.T @ np.diag(WEIGHTS) @ U + (DAMPING + 0.3) * np.eye(6)
SOLVERS = {
    "woodbury": woodbury(),
    "gram_diagonal": gram_diagonal(),
    "cg": cg(tol=1e-12),
    "neumann": neumann(num_terms=300),
}


def operator():
    tree = {"a": U[:, :2], "z": U[:, 2:].reshape(3, 2, 2)}
    plan = zo.Plan(None, explicit(tree), num_directions=3)
    structure = layout_of(PARAMS)
    return zo.LowRankPlusScaled(plan, jnp.asarray(WEIGHTS), jnp.asarray(0.3), structure)


@pytest.mark.parametrize("name", SOLVERS)
def test_inverse(name):
    inverse = zo.inverse(operator(), damping=DAMPING, solver=SOLVERS[name])
    matrix = jax.jit(lambda inverse: inverse.as_matrix())(inverse)
    np.testing.assert_allclose(matrix, np.linalg.inv(DENSE), rtol=1e-9, atol=1e-10)
    v = RNG.standard_normal(6)
    tree = {"a": v[:2], "z": v[2:].reshape(2, 2)}
    x = jax.jit(lambda inverse, tree: inverse.mv(tree))(inverse, tree)
    solved = jax.jit(lambda v: zo.solve(operator(), v, damping=DAMPING, solver=SOLVERS[name]))(tree)
    for y in (x, solved):
        flat = np.concatenate([y["a"], np.ravel(y["z"])])
        np.testing.assert_allclose(flat, np.linalg.solve(DENSE, v), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["cg", "neumann"])
def test_bare_matvecs(name):
    v = RNG.standard_normal(6)
    h = DENSE - DAMPING * np.eye(6)
    inverse = zo.inverse(lambda x: h @ x, damping=DAMPING, solver=SOLVERS[name])
    np.testing.assert_allclose(jax.jit(inverse.mv)(v), np.linalg.solve(DENSE, v), rtol=1e-9)


def test_damping_may_be_traced():
    v = jnp.asarray(RNG.standard_normal(6))
    tree = {"a": v[:2], "z": v[2:].reshape(2, 2)}
    run = jax.jit(jax.vmap(lambda damping: zo.solve(operator(), tree, damping=damping)["a"]))
    for damping, x in zip([0.5, 2.0], run(jnp.array([0.5, 2.0])), strict=True):
        dense = DENSE + (damping - DAMPING) * np.eye(6)
        np.testing.assert_allclose(x, np.linalg.solve(dense, v)[:2], rtol=1e-11)
