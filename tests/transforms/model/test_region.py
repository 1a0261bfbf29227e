"""Where the model is asked for: minimisers within balls, and coordinates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zovh_jax.transforms.model.region import (
    REACHES,
    SPREAD,
    STRETCH,
    Region,
    Sizes,
    ask,
    changed,
    minimiser,
    orthonormal,
)
from zovh_jax.transforms.model.regression import Model

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")
EIGENVALUES = {"convex": [0.5, 1, 2, 4], "indefinite": [-3, -1, 2, 4], "concave": [-4, -3, -2, -1]}


def rotated(eigenvalues, seed=0):
    r = np.random.default_rng(seed)
    basis = np.linalg.qr(r.standard_normal((4, 4)))[0]
    return jnp.asarray((basis * np.asarray(eigenvalues, float)) @ basis.T), jnp.asarray(
        r.standard_normal(4)
    )


@pytest.mark.parametrize("kind", EIGENVALUES)
def test_minimisers_satisfy_the_conditions_of_optimality(kind):
    eigenvalues, (_, slopes) = jnp.asarray(EIGENVALUES[kind], float), rotated([1] * 4)
    radii = jnp.array([0.1, 1.0, 30.0])
    for radius, z in zip(radii, jax.jit(minimiser)(eigenvalues, slopes, radii), strict=True):
        length, force = np.linalg.norm(z), -(eigenvalues * z + slopes)
        assert length <= radius * (1 + 1e-9)
        shift = z @ force / length**2  # (H + shift I) z = -g
        np.testing.assert_allclose(force, shift * z, atol=1e-8)
        assert shift >= max(0, -min(EIGENVALUES[kind])) - 1e-8
        assert length > radius * (1 - 1e-6) or abs(shift) < 1e-8


def model_of(slopes, hessian, points=None, weights=()):
    """A model; without points one that has no cubic form."""
    points = jnp.zeros((0, len(slopes))) if points is None else points
    one = jnp.ones(())
    return Model(slopes, one, hessian, one, one, points, jnp.asarray(weights, float))


def test_coordinates_there_and_back():
    hessian, _ = rotated([0.5, 1, 2, 4])
    region = Region(hessian, jnp.asarray(0.1))
    points = jax.random.normal(jax.random.key(0), (7, 4))
    np.testing.assert_allclose(region.inside(region.outside(points)), points, rtol=1e-10)


def test_sizes_have_powers_of_determinant_1():
    hessian, _ = rotated([-0.5, 1, 2, 400])
    sizes = Sizes.of(hessian, jnp.asarray(1.0))
    np.testing.assert_allclose(jnp.linalg.det(sizes.power(-0.5, 100.0)), 1)
    typical = 1.5  # the median of the sizes
    found = np.asarray(sizes.factors(1.0, 100.0))
    np.testing.assert_allclose(found[1:] / found[0], np.array([1, 2, 100 * typical]) / 0.5)


def test_steps_come_first_and_points_around_them():
    hessian, slopes = rotated([0.5, 1, 2, 4])
    others = orthonormal(jax.random.key(1), 6, 4, jnp.dtype(float))
    np.testing.assert_allclose(others[:4] @ others[:4].T, np.eye(4), atol=1e-12)
    points = jax.jit(ask, static_argnums=3)
    sizes = Sizes.of(hessian, jnp.asarray(1.0))
    far = points(model_of(100 * slopes, hessian), sizes, others, 4, jnp.asarray(1.0))
    np.testing.assert_allclose(far.lengths[:4], REACHES)
    apart = (far.points[4:] - far.points[0]) @ sizes.power(0.5, STRETCH)
    around = np.linalg.norm(apart, axis=1)
    np.testing.assert_allclose(around, SPREAD)

    farther = points(model_of(100 * slopes, hessian), sizes, others, 4, jnp.asarray(3.0))
    np.testing.assert_allclose(farther.lengths[:4], 3 * np.array(REACHES))

    near = points(model_of(0.01 * slopes, hessian), sizes, others, 4, jnp.asarray(1.0))
    newton = -jnp.linalg.solve(hessian, 0.01 * slopes)
    np.testing.assert_allclose(near.points[0], newton, atol=1e-12)
    np.testing.assert_allclose(near.lengths[1], near.lengths[0] / 2)
    assert len(np.unique(np.round(near.points, 12), axis=0)) == 6


def test_steps_go_where_the_model_with_its_cubic_form_is_lower():
    """That is -0.1 z₁ + ½ (z₂² + z₃² + z₄²) - 0.4 z₁² z₂: a valley along z₂ = 0.4 z₁²."""
    one, two = jnp.eye(4)[:2]
    points = jnp.stack([two + one, two - one, two])
    hessian = jnp.diag(jnp.array([1e-3, 1.0, 1.0, 1.0]))
    model = model_of(-0.1 * one, hessian, points, -0.4 * np.array([1, 1, -2]) / 6)
    others = orthonormal(jax.random.key(1), 6, 4, jnp.dtype(float))
    sizes, radius = Sizes.of(hessian, jnp.asarray(1.0)), jnp.asarray(0.3)
    z = jax.jit(ask, static_argnums=3)(model, sizes, others, 4, radius).points
    straight = ask(model_of(-0.1 * one, hessian), sizes, others, 4, radius).points
    foretold = jax.vmap(model.foretold)
    assert np.all(foretold(z[:4]) > foretold(straight[:4]))
    edge = orthonormal(jax.random.key(2), 4_000, 4, jnp.dtype(float)) @ sizes.power(-0.5, STRETCH)
    assert foretold(z[:1])[0] > 0.98 * jnp.max(foretold(radius * edge))


@pytest.mark.parametrize(
    "moved, length, gain, certain, factor",
    [
        (1.0, 1.0, 0.9, True, 1.5),
        (4.0, 1.0, 0.9, True, 2.0),
        (1.0, 1.0, 0.1, True, 1.0),
        (0.0, 0.4, -1.0, True, 0.2),
        (0.0, 0.4, -1.0, False, np.exp(-0.06)),
    ],
)
def test_the_radius(moved, length, gain, certain, factor):
    arrays = map(jnp.asarray, (2.0, moved, length, gain, certain))
    np.testing.assert_allclose(changed(*arrays, 0.5), 2 * factor)
