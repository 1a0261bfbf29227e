"""The Gram-diagonal inverse (E17): its formula, where it is exact, and its guard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit
from zovh_jax.solvers import gram_diagonal

pytestmark = pytest.mark.usefixtures("fast_compilation")

N, D, DAMPING = 4, 6, 0.5
RNG = np.random.default_rng(0)
GAUSSIAN = RNG.standard_normal((N, D))
ORTHOGONAL = np.linalg.qr(RNG.standard_normal((D, N)))[0].T * np.array([[1.0], [2], [0.5], [3]])
V = RNG.standard_normal(D)


def solve(u, weights, v, damping=DAMPING, scale=0.0, solver=gram_diagonal()):
    @jax.jit
    def run(weights, scale):
        plan = zo.Plan(None, explicit(u), num_directions=len(u))
        operator = zo.LowRankPlusScaled(plan, weights, scale, layout_of(jnp.zeros(u.shape[1])))
        return zo.solve(operator, v, damping=damping, solver=solver)

    return np.asarray(run(jnp.asarray(weights), jnp.asarray(scale)))


def formula(u, weights, v, damping=DAMPING, scale=0.0):
    """(E17), with λ + scale for λ and w_k for ν_k/(n − 1)."""
    beta = damping + scale
    x = v / beta
    for w, row in zip(weights, u, strict=True):
        x = x - w * (row @ v) / (beta**2 + beta * w * (row @ row)) * row
    return x


def inverse_curvatures(weights, damping=DAMPING, floor=0.1, scale=0.0):
    """What the guard should make of 1/e_k and of 1/β."""
    curvature = damping + scale + np.asarray(weights) * np.sum(ORTHOGONAL**2, 1)
    guarded = np.maximum(np.abs(curvature), floor * damping)
    return 1 / guarded, 1 / max(abs(damping + scale), floor * damping)


@pytest.mark.parametrize("scale", [0.0, 1.5, -0.2, -0.9])
@pytest.mark.parametrize("weights", [[1.0, 0.2, 0.0, 2.0], [-1.0, 0.3, 0.0, -2.0]])
def test_unguarded_is_the_papers_formula(weights, scale, x64):
    x = solve(GAUSSIAN, weights, V, scale=scale, solver=gram_diagonal(guard=False))
    np.testing.assert_allclose(x, formula(GAUSSIAN, weights, V, scale=scale), rtol=1e-11)


@pytest.mark.parametrize("solver", [gram_diagonal(), gram_diagonal(guard=False)])
def test_exact_for_orthogonal_directions(solver, x64):
    weights = [1.0, -0.1, 0.7, 0.0]
    dense = ORTHOGONAL.T @ np.diag(weights) @ ORTHOGONAL + DAMPING * np.eye(D)
    assert np.min(np.linalg.eigvalsh(dense)) > 0.1 * DAMPING
    x = solve(ORTHOGONAL, weights, V, solver=solver)
    np.testing.assert_allclose(x, np.linalg.solve(dense, V), rtol=1e-12)


def test_unguarded_is_exact_for_indefinite_orthogonal_directions(x64):
    weights = [-3.0, -0.3, 4.0, 1.0]
    dense = ORTHOGONAL.T @ np.diag(weights) @ ORTHOGONAL + DAMPING * np.eye(D)
    x = solve(ORTHOGONAL, weights, V, solver=gram_diagonal(guard=False))
    np.testing.assert_allclose(x, np.linalg.solve(dense, V), rtol=1e-12)


@pytest.mark.parametrize("floor", [0.1, 0.5])
def test_guard_changes_nothing_above_the_floor(floor, x64):
    lowest = (floor * DAMPING - DAMPING) / np.sum(GAUSSIAN**2, 1)  # e_k = floor·λ
    for weights in (lowest + 1e-9, lowest * [0.5, 1 - 1e-9, 0, -3]):
        guarded, plain = (
            solve(GAUSSIAN, weights, V, solver=gram_diagonal(guard, floor))
            for guard in (True, False)
        )
        np.testing.assert_allclose(guarded, plain, rtol=1e-12)
    below = solve(GAUSSIAN, 1.1 * lowest, V, solver=gram_diagonal(floor=floor))
    assert np.max(np.abs(below - formula(GAUSSIAN, 1.1 * lowest, V))) > 1e-3


@pytest.mark.parametrize("scale", [0.0, -0.5, -0.52, -2.0, 3.0])
@pytest.mark.parametrize("floor", [0.1, 1.0])
def test_guard_inverts_the_magnitude_along_each_direction(floor, scale, x64):
    norms = np.sum(ORTHOGONAL**2, 1)
    for curvature in ([0.0, 0.0, 0.0, 0.0], [-1e-9, 0.04, -0.04, 1e-300], [-5.0, -1e6, 1e6, 2.0]):
        weights = (np.asarray(curvature) - DAMPING - scale) / norms
        along, across = inverse_curvatures(weights, floor=floor, scale=scale)
        x = solve(ORTHOGONAL, weights, V, scale=scale, solver=gram_diagonal(floor=floor))
        unit = ORTHOGONAL / np.sqrt(norms)[:, None]
        expected = across * (V - unit.T @ (unit @ V)) + unit.T @ (along * (unit @ V))
        np.testing.assert_allclose(x, expected, rtol=1e-8, atol=1e-10)
        bound = np.linalg.norm(V) / (floor * DAMPING)
        assert np.linalg.norm(x) <= bound * (1 + 1e-9)


@pytest.mark.parametrize("limit", [0.2, 0.7, 3.0])
def test_a_limit_bounds_what_each_direction_takes(limit, x64):
    weights = np.array([5.0, 0.02, -0.05, -5.0])
    norms = np.sum(ORTHOGONAL**2, 1)
    along, across = inverse_curvatures(weights)
    part = np.clip(1 - along / across, -limit, limit)
    unit = ORTHOGONAL / np.sqrt(norms)[:, None]
    expected = across * (V - unit.T @ (part * (unit @ V)))
    x = solve(ORTHOGONAL, weights, V, solver=gram_diagonal(limit=limit))
    np.testing.assert_allclose(x, expected, rtol=1e-12)
    unlimited = solve(ORTHOGONAL, weights, V)
    assert np.allclose(x, unlimited) == (limit == 3.0)


def test_a_limit_needs_the_guard_and_is_positive():
    with pytest.raises(ValueError, match="needs guard=True"):
        gram_diagonal(guard=False, limit=0.5)
    with pytest.raises(ValueError, match="limit must be"):
        gram_diagonal(limit=0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_guard_is_finite_for_every_weight(dtype):
    # One weight at a time, next to harmless ones: all signs, sizes and exact zeros of (E17).
    with jax.enable_x64(dtype == "float64"):
        u = GAUSSIAN.astype(dtype)
        norms = np.sum(u * u, 1)
        sizes = 10.0 ** np.arange(-30, 31, 2)
        vanishing = [-DAMPING / x * f for x in norms for f in (1, 1 - 1e-7, 1 + 1e-7)]
        grid = np.concatenate([sizes, -sizes, [0.0], vanishing]).astype(dtype)
        plan = zo.Plan(None, explicit(u), num_directions=N)
        structure = layout_of(jnp.zeros(D, dtype))

        def run(weight):
            weights = jnp.full(N, weight).at[1].set(0.3)
            operator = zo.LowRankPlusScaled(plan, weights, jnp.zeros((), dtype), structure)
            v = jnp.asarray(V, dtype)
            return zo.solve(operator, v, damping=DAMPING, solver=gram_diagonal())

        x = np.asarray(jax.jit(jax.vmap(run))(grid))
    assert np.all(np.isfinite(x))
    # No direction adds more than |1/floor·λ − 1/β| along itself: a crude bound on the sum.
    assert np.max(np.linalg.norm(x, axis=1)) < (2 + N * 20) * np.linalg.norm(V)


def test_a_direction_of_zeros_does_nothing(x64):
    u = GAUSSIAN.copy()
    u[2] = 0
    for guard in (True, False):
        x = solve(u, [0.3, 0.4, -7.0, 0.1], V, solver=gram_diagonal(guard=guard))
        others = formula(u[[0, 1, 3]], [0.3, 0.4, 0.1], V)
        np.testing.assert_allclose(x, others, rtol=1e-12)


def test_error_falls_like_the_square_root_of_n_over_d(x64):
    def error(d):
        rng = np.random.default_rng(d)
        structure = layout_of(jnp.zeros(d))

        @jax.jit
        def solve(u, weights, v):
            plan = zo.Plan(None, explicit(u), num_directions=8)
            operator = zo.LowRankPlusScaled(plan, weights, jnp.zeros(()), structure)
            return zo.solve(operator, v, damping=DAMPING, solver=gram_diagonal())

        errors = []
        for _ in range(10):
            u, weights = rng.standard_normal((8, d)), rng.uniform(0.5, 1.5, 8) / d
            v = u.T @ rng.standard_normal(8)
            gram = np.eye(8) + weights[:, None] * (u @ u.T) / DAMPING
            exact = v / DAMPING - u.T @ np.linalg.solve(gram, weights * (u @ v)) / DAMPING**2
            errors.append(np.linalg.norm(solve(u, weights, v) - exact) / np.linalg.norm(exact))
        return np.mean(errors)

    ratio = error(400) / error(40_000)
    assert 7 < ratio < 14  # √100
