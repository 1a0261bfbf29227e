"""ZO-SAH's fits: exact ones, other subspaces' moves, and what is done with them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planes import dense, points, symmetric, together

from zovh_jax.transforms.sah.fit import (
    Seen,
    clipped_product,
    clipped_solve,
    fit_hessians,
    gradients_of,
)
from zovh_jax.transforms.sah.joint import shortening

pytestmark = pytest.mark.usefixtures("fast_compilation")


@jax.jit
def fit(seen, ridge, prior, **options):
    return fit_hessians(seen, points(prior.shape[-1]), prior, ridge=jnp.asarray(ridge), **options)


def quadratic_steps(rng, hessian, num_steps, radius=0.5):
    """What steps around random centres see of a quadratic, each with a constant of its own."""
    q = len(hessian)
    gradient, centres = rng.normal(size=q), rng.normal(size=(num_steps, q))
    f = lambda x: gradient @ x + x @ hessian @ x / 2  # noqa: E731
    slopes = [[(f(c + radius * w) - f(c)) / radius for w in points(q)] for c in centres]
    radii = np.full(num_steps, radius)
    return Seen(*(jnp.asarray(x) for x in (np.array(slopes)[:, None], centres[:, None], radii)))


@pytest.mark.parametrize("q", [1, 2, 3, 5])
def test_fit_recovers_a_block_from_one_step(q, x64):
    rng = np.random.default_rng(q)
    hessian = symmetric(rng, q, q)
    steps = quadratic_steps(rng, hessian, 1)
    fitted = fit(steps, 1e-13, jnp.zeros((1, q, q)))
    np.testing.assert_allclose(fitted[0], hessian, rtol=1e-9, atol=1e-9)


def test_fit_recovers_a_block_from_forward_slopes_of_three_steps(x64):
    """Reuse alone: no curvature point is known, and the steps' constants differ."""
    rng = np.random.default_rng(0)
    hessian = symmetric(rng, 2, 2)
    steps = quadratic_steps(rng, hessian, 3)
    steps = steps._replace(slopes=steps.slopes.at[..., 2:].set(jnp.nan))
    for scales in (None, jnp.ones(1)):  # alone, nothing else can have moved
        fitted = fit(steps, 1e-13, jnp.zeros((1, 2, 2)), scales=scales)
        np.testing.assert_allclose(fitted[0], hessian, rtol=1e-9, atol=1e-9)


def test_ridge_leaves_what_is_not_determined_at_the_prior(x64):
    """Steps along the first axis show the first row of H; the rest is the prior's."""
    hessian, prior = np.array([[3.0, 1.0], [1.0, 5.0]]), np.array([[9.0, 9.0], [9.0, 7.0]])
    c, mu = np.array([[0.0, 0.0], [1.0, 0.0]]), 1e-9
    slopes = np.full((2, 1, 5), np.nan)
    slopes[:, 0, :2] = c @ hessian
    steps = Seen(jnp.asarray(slopes), jnp.asarray(c[:, None]), jnp.full(2, mu))
    fitted = fit(steps, 1e-9, jnp.asarray(prior[None]))
    np.testing.assert_allclose(fitted[0], [[3, 1], [1, 7]], atol=1e-6)


def test_fit_without_its_forward_slopes_is_the_prior(x64):
    steps = quadratic_steps(np.random.default_rng(0), np.eye(2), 2)
    steps = steps._replace(slopes=steps.slopes.at[0, 0, 1].set(jnp.nan))
    prior = jnp.array([[[2.0, 1.0], [1.0, 4.0]]])
    np.testing.assert_array_equal(fit(steps, 1e-6, prior), prior)


@pytest.mark.parametrize("seed", range(4))
def test_other_groups_moves_are_no_curvature(seed, x64):
    """The bound of `fit_hessians` with the exact prior; without scales, errors are far above.

    The groups move very differently, so that what a small one sees is mostly the others' doing.
    """
    rng = np.random.default_rng(seed)
    hessian, blocks = dense(rng, 20)
    centres = rng.normal(size=(3, 20)) * np.repeat(np.logspace(-3, 0, 10), 2)
    seen, size = together(rng, hessian, centres, 1e-3, 2), np.linalg.norm(blocks, axis=(1, 2))
    errors = {}
    for scales in (None, jnp.asarray(size)):
        fitted = fit(seen, 1e-6, jnp.asarray(blocks), scales=scales)
        errors[scales is None] = np.linalg.norm(fitted - blocks, axis=(1, 2)) / size
    assert errors[False].max() < 0.5
    assert errors[True].max() > 10


def test_a_group_that_moves_alone_learns_as_if_there_were_no_others(x64):
    rng = np.random.default_rng(0)
    hessian, blocks = dense(rng, 6)
    centres = np.zeros((3, 6))
    centres[:, 2:4] = rng.normal(size=(3, 2))
    seen = together(rng, hessian, centres, 1e-3, 2)
    fitted = fit(seen, 1e-12, jnp.zeros_like(blocks), scales=jnp.ones(3))
    np.testing.assert_allclose(fitted[1], blocks[1], rtol=1e-6)


def test_the_fit_does_not_depend_on_units(x64):
    """Parameters in other units, each group in its own: the same fit in these units."""
    rng = np.random.default_rng(1)
    hessian, blocks = dense(rng, 6)
    centres, units = rng.normal(size=(3, 6)), np.repeat([1.0, 100.0, 0.01], 2)
    fits = []
    for unit in (np.ones(6), units):
        scaled = np.outer(unit, unit) * hessian
        prior = jnp.asarray(blocks * (unit[::2] ** 2)[:, None, None]) * 0.8
        size = jnp.linalg.norm(prior, axis=(1, 2))
        seen = together(np.random.default_rng(2), scaled, centres / unit, 1e-12, 2)
        slopes = (scaled @ (centres / unit).T).T.reshape(3, 3, 2)  # exact, for a radius of zero
        seen = seen._replace(slopes=seen.slopes.at[..., :2].set(slopes))
        fitted = fit(seen, 1e-3, prior, scales=size)
        fits.append(fitted / (unit[::2] ** 2)[:, None, None])
    np.testing.assert_allclose(fits[0], fits[1], rtol=1e-6)
    assert np.abs(fits[0] - 0.8 * blocks).max() > 1e-3


def test_slopes_that_are_mostly_rounding_leave_the_prior(x64):
    steps = quadratic_steps(np.random.default_rng(0), np.eye(2), 3)
    prior, scales = jnp.array([[[2.0, 1.0], [1.0, 4.0]]]), jnp.array([5.0])
    kept, moved = (fit(steps, 1e-9, prior, scales=scales, rounding=r) for r in (1e4, 1e-9))
    np.testing.assert_allclose(kept, prior, atol=1e-3)
    np.testing.assert_allclose(moved[0], np.eye(2), atol=1e-6)


def test_gradients_are_central_where_minus_points_are_known(x64):
    """And elsewhere free of μ/2·H_aa; on a quadratic both are exact, on x³ they are off by μ²."""
    h, g, mu = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([1.0, -2.0]), 0.5
    slopes = jnp.asarray([[w @ g + mu / 2 * w @ h @ w for w in points(2)]])
    for known in (5, 2):
        seen = jnp.where(jnp.arange(5) < known, slopes, jnp.nan)
        np.testing.assert_allclose(gradients_of(seen, jnp.asarray(h[None]), mu)[0], g, rtol=1e-12)
    cubic = jnp.array([[mu**2, -(mu**2), jnp.nan]])
    np.testing.assert_allclose(gradients_of(cubic, jnp.ones((1, 1, 1)), mu), mu**2)
    assert jnp.isnan(gradients_of(jnp.full((1, 3), jnp.nan), jnp.ones((1, 1, 1)), mu)).all()


def test_eigenvalues_are_made_positive_and_clipped(x64):
    rng = np.random.default_rng(1)
    basis, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    hessian, v = basis @ np.diag([-4.0, 0.01, 2.0]) @ basis.T, rng.normal(size=3)
    expected = basis @ np.diag([1 / 4, 1 / 0.1, 1 / 2]) @ basis.T @ v
    hessians = jnp.asarray(hessian[None])
    solved = jax.jit(clipped_solve)(hessians, jnp.asarray(v[None]), 0.1)
    np.testing.assert_allclose(solved[0], expected, rtol=1e-9)
    np.testing.assert_allclose(clipped_product(hessians, solved, 0.1)[0], v, rtol=1e-9)


def test_shortening_is_the_ratio_of_curvatures_along_the_last_move(x64):
    """1 without couplings, J where all groups pull at one sum; limited for anything else."""
    rng = np.random.default_rng(3)
    d, q, move = 6, 2, np.zeros((2, 6))
    move[0] = 1
    ones = np.ones((d, d))
    for hessian, growth, expected in (
        (np.kron(np.eye(3), ones[:2, :2]), 1, 1),
        (ones, 1, 3),
        (ones, 1e3, 12),
        (-ones, 1, 1),
    ):
        seen = together(rng, growth * hessian, move, 1e-4, q)
        blocks = jnp.broadcast_to(jnp.asarray(hessian[:2, :2]), (3, 2, 2))
        got = shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(1.0))
        np.testing.assert_allclose(got, expected, rtol=0.01 if growth == 1 else 1e-9)
    assert abs(shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(5.0)) - 4) < 1e-9  # forgotten slowly
    seen = seen._replace(slopes=seen.slopes.at[1].set(jnp.nan))
    assert shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(7.0)) == 3  # kept, up to J
    assert shortening(seen, blocks, 1e-3, 0.0, jnp.asarray(2.0)) == 2
