"""Neumann series (E19): its sum, its residual, random truncation, and divergence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit
from zovh_jax.solvers import neumann

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

RNG = np.random.default_rng(0)
Q = np.linalg.qr(RNG.standard_normal((6, 6)))[0]
V = RNG.standard_normal(6)
POSITIVE = [0.5, 1, 1.5, 2, 3, 4]


def matrix(eigenvalues):
    return (Q * np.asarray(eigenvalues)) @ Q.T


def solve(h, v=V, **options):
    run = lambda v: zo.neumann_solve(lambda x: h @ x, v, return_info=True, **options)  # noqa: E731
    return jax.jit(run)(v)


@pytest.mark.parametrize(("num_terms", "step_size"), [(1, 0.3), (4, 0.1), (9, 0.39)])
def test_is_the_written_sum(num_terms, step_size):
    h, damping = matrix(POSITIVE), 0.7
    x, info = solve(h, num_terms=num_terms, step_size=step_size, damping=damping)
    a = h + damping * np.eye(6)
    step = np.eye(6) - step_size * a
    powers = [np.linalg.matrix_power(step, i) @ V for i in range(num_terms + 1)]
    np.testing.assert_allclose(x, step_size * sum(powers), rtol=1e-12)
    residual = np.linalg.norm(V - a @ x) / np.linalg.norm(V)
    np.testing.assert_allclose(info.residual, residual, rtol=1e-10)
    assert not info.diverged and int(info.num_matvecs) == num_terms + 1


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_default_step_size_suits_any_scale(size):
    h = matrix(POSITIVE) * size
    x, info = solve(h, num_terms=300)
    np.testing.assert_allclose(x, np.linalg.solve(h, V), rtol=1e-9)
    assert info.residual < 1e-9 and not info.diverged
    assert int(info.num_matvecs) == 300 + 1 + 12


def test_convergence_to_rounding_is_not_divergence():
    with jax.enable_x64(False):
        h = matrix([1, 1.2, 1.4, 1.6, 1.8, 2]).astype(np.float32)
        x, info = solve(h, V.astype(np.float32), num_terms=200)
    assert not info.diverged and info.residual < 1e-5
    np.testing.assert_allclose(x, np.linalg.solve(h.astype(float), V), rtol=1e-4)


@pytest.mark.parametrize("step_size", [None, 0.05])
@pytest.mark.parametrize("num_terms", [60, 1000])
def test_indefinite_is_reported(step_size, num_terms):
    h = matrix([-0.5, 1, 1.5, 2, 3, 4])
    x, info = solve(h, num_terms=num_terms, step_size=step_size, damping=0.1)
    assert info.diverged and np.all(np.isnan(x))
    x, info = solve(h, num_terms=num_terms, step_size=step_size, damping=0.8)  # definite again
    assert not info.diverged and np.all(np.isfinite(x))


@pytest.mark.parametrize(("step_size", "diverges"), [(0.49, False), (0.51, True), (100.0, True)])
def test_step_size_must_stay_below_two_over_the_norm(step_size, diverges):
    x, info = solve(matrix(POSITIVE), num_terms=400, step_size=step_size)
    assert bool(info.diverged) == diverges
    assert np.all(np.isnan(x)) == diverges
    if not diverges:
        np.testing.assert_allclose(x, np.linalg.solve(matrix(POSITIVE), V), rtol=1e-2)


@pytest.mark.parametrize("epsilon", [1e-4, 1e-6, 1e-8])
def test_small_negative_eigenvalues_are_seen_once_the_others_have_died_down(epsilon):
    """Terms that grow by less than 1e-4 each: their curvature is negative all the same."""
    h, alpha = matrix([-epsilon, 1, 1.5, 2, 3, 4]), 0.25
    components = Q.T @ V

    def shows(i):  # the documented condition
        powers = (1 - alpha * np.array([1, 1.5, 2, 3, 4])) ** (2 * i)
        rest = np.array([1, 1.5, 2, 3, 4]) @ (components[1:] ** 2 * powers)
        return epsilon * components[0] ** 2 * (1 + alpha * epsilon) ** (2 * i) > rest

    first = next(i for i in range(200) if shows(i))
    x, info = solve(h, num_terms=first + 1, step_size=alpha)
    assert info.diverged and np.all(np.isnan(x))
    x, info = solve(h, num_terms=first - 2, step_size=alpha)
    assert not info.diverged  # the blind spot
    least = abs(components[0]) / np.linalg.norm(V)
    assert info.residual >= least > 1e-2  # but no small residual
    x, info = solve(-h, num_terms=5, step_size=alpha)
    assert info.diverged


def test_small_positive_eigenvalues_are_not_taken_for_negative_ones():
    for epsilon in (0.0, 1e-12, 1e-6):
        _, info = solve(matrix([epsilon, 1, 1.5, 2, 3, 4]), num_terms=300)
        assert not info.diverged
    with jax.enable_x64(False):
        for seed in range(20):
            v = np.random.default_rng(seed).standard_normal(6).astype(np.float32)
            h = matrix([1e-5, 1, 1.5, 2, 3, 4]).astype(np.float32)
            _, info = solve(h, v, num_terms=300)
            assert not info.diverged


def test_overflow_is_reported():
    x, info = solve(matrix(POSITIVE), num_terms=2000, step_size=1e6)
    assert info.diverged and np.all(np.isnan(x))


def test_low_rank_operators():
    u = RNG.standard_normal((3, 6))
    plan = zo.Plan(None, explicit(u), num_directions=3)
    structure = layout_of(jnp.zeros(6))

    @jax.jit
    def run(weights):
        operator = zo.LowRankPlusScaled(plan, weights, jnp.asarray(0.1), structure)
        solver = neumann(num_terms=400)
        return zo.solve(operator, V, damping=1.0, solver=solver, return_info=True)

    weights = np.array([1.0, 2.0, 0.5])
    dense = u.T @ np.diag(weights) @ u + 1.1 * np.eye(6)
    x, info = run(weights)
    np.testing.assert_allclose(x, np.linalg.solve(dense, V), rtol=1e-7)
    assert not info.diverged
    x, info = run(-weights)
    assert info.diverged and np.all(np.isnan(x))


def test_pytrees_of_any_matvec():
    h = matrix(POSITIVE)

    def matvec(tree):
        y = h @ jnp.concatenate([tree["a"].ravel(), tree["b"]])
        return {"a": y[:4].reshape(2, 2), "b": y[4:]}

    v = {"a": jnp.asarray(V[:4].reshape(2, 2)), "b": jnp.asarray(V[4:])}
    x = jax.jit(lambda v: zo.neumann_solve(matvec, v, num_terms=300, damping=0.5))(v)
    expected = np.linalg.solve(h + 0.5 * np.eye(6), V)
    np.testing.assert_allclose(np.concatenate([x["a"].ravel(), x["b"]]), expected, rtol=1e-9)


def test_zero_right_hand_side():
    x, info = solve(matrix(POSITIVE), np.zeros(6), num_terms=5)
    np.testing.assert_array_equal(x, np.zeros(6))
    assert not info.diverged and info.residual == 0


def test_narrow_vectors_are_summed_wide():
    v = jnp.ones(3, jnp.bfloat16)
    x = zo.neumann_solve(lambda x: 3 * x, v, num_terms=4, step_size=0.3)
    assert x.dtype == jnp.float32
    np.testing.assert_allclose(x, 0.3 * sum(0.1**i for i in range(5)), rtol=1e-6)


def test_random_truncation_is_unbiased_for_the_whole_series():
    h, num_terms = matrix([1.0, 1.2, 1.5, 1.7, 2, 2.5]), 3

    def one(key):
        return zo.neumann_solve(
            lambda x: h @ x,
            V,
            num_terms=num_terms,
            step_size=0.5,
            truncation="random",
            key=key,
            return_info=True,
        )

    x, info = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 50_000))
    x, exact = np.asarray(x), np.linalg.solve(h, V)
    error = x.std(0) / np.sqrt(len(x))
    assert np.max(error) < 0.005 * np.linalg.norm(exact)
    assert np.all(np.abs(x.mean(0) - exact) < 5 * error)
    fixed, _ = solve(h, num_terms=num_terms, step_size=0.5)
    assert np.max(np.abs(fixed - exact) / error) > 10  # the same budget, fixed, is biased

    residuals = np.linalg.norm(V - x @ h, axis=1) / np.linalg.norm(V)
    np.testing.assert_allclose(info.residual, residuals, rtol=1e-8)

    last = np.asarray(info.num_matvecs) - 1  # T: geometric with mean num_terms
    keep = num_terms / (num_terms + 1)
    for i in range(8):
        p = keep**i
        assert abs(np.mean(last >= i) - p) <= 5 * np.sqrt(p * (1 - p) / len(last))
    assert abs(np.mean(last) - num_terms) < 5 * np.sqrt(num_terms * (num_terms + 1) / len(last))


def test_random_truncation_of_an_indefinite_system_is_nan_or_short():
    h = matrix([-3.0, 1, 1, 1, 1, 2])

    def one(key):
        return zo.neumann_solve(
            lambda x: h @ x,
            V,
            num_terms=20,
            step_size=0.5,
            truncation="random",
            key=key,
            return_info=True,
        )

    x, info = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 50))
    np.testing.assert_array_equal(np.all(np.isnan(x), 1), info.diverged)
    assert np.mean(info.diverged) > 0.8
