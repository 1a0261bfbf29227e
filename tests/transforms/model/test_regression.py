"""The quadratic regressed on values: against dense algebra, and exact where it can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zovh_jax.transforms.model.regression import BENT, KINDS, VAGUE, Levels, regress, search, taus

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")


def sample(m, d, seed=0):
    """Points, a gradient and a Hessian at random."""
    r = np.random.default_rng(seed)
    hessian = r.standard_normal((d, d))
    return r.standard_normal((m, d)), r.standard_normal(d), hessian + hessian.T


def values_of(points, g, hessian):
    return points @ g + 0.5 * np.einsum("mi,ij,mj->m", points, hessian, points)


def levels(tau, kind=0):
    place = int(np.argmin(abs(np.log(taus() / tau))))
    return Levels(jnp.asarray(place), jnp.asarray(kind))


@pytest.mark.parametrize("kind", range(KINDS))
def test_against_dense_algebra(kind):
    """Mean and evidence of the normal law that the module's docstring states."""
    m, d, tau, nu = 30, 3, 0.1, 0.02
    z, g, hessian = sample(m, d)
    y = values_of(z, g, hessian) + 0.1 * np.random.default_rng(1).standard_normal(m)
    used = np.arange(m) != 7
    model = regress(z, jnp.asarray(y), jnp.asarray(used), jnp.asarray(nu), levels(tau, kind))

    z, y = z[used], y[used]
    squares = np.sum(z * z, 1)
    smooth, bent = (squares + 0.01) ** 1.5 / 2, tau * (squares + 0.01) ** 2 / 2
    w = ((squares + 1) ** 1.5 / 2, smooth, bent)[kind]
    features = np.concatenate([np.ones((len(z), 1)), z, squares[:, None] / 2], 1)
    prior = np.diag(np.repeat(VAGUE, (1, d, 1)) ** 2)
    kernel = (z @ z.T) ** 2 / 2
    cubes = (z @ z.T) ** 3 * tau**2 / 4 * (kind == BENT)
    covariance = features @ prior @ features.T + kernel + cubes + np.diag((tau * w) ** 2 + nu**2)
    duals = np.linalg.solve(covariance, y)
    variance = y @ duals / len(y)
    means = prior @ features.T @ duals
    expected = means[-1] * np.eye(d) + (z.T * duals) @ z
    np.testing.assert_allclose(model.scale, np.sqrt(variance), rtol=1e-6)
    np.testing.assert_allclose(model.slopes, means[1:-1], rtol=1e-6)
    np.testing.assert_allclose(model.hessian, expected, rtol=1e-6, atol=1e-8)
    evidence = -len(y) / 2 * np.log(variance) - np.linalg.slogdet(covariance)[1] / 2
    np.testing.assert_allclose(model.evidence, evidence, atol=1e-4)

    at = np.array([0.3, -0.7, 0.5])
    third = (z @ at) ** 3 @ duals * tau**2 / 4 * (kind == BENT)
    fall = -means[1:-1] @ at - at @ expected @ at / 2 - third
    np.testing.assert_allclose(model.foretold(jnp.asarray(at)), fall, rtol=1e-6)


def test_a_quadratic_touches_the_model_at_a_point():
    z, g, hessian = sample(60, 3)
    y = jnp.asarray(values_of(z, g, hessian) + z[:, 0] ** 2 * z[:, 1])
    used, at = jnp.ones(60, bool), jnp.array([0.3, -0.7, 0.5])
    model = regress(z, y, used, jnp.zeros(()), levels(0.1, BENT))
    slopes, curvatures = model.touching(at)
    np.testing.assert_allclose(slopes + curvatures @ at, -jax.grad(model.foretold)(at), rtol=1e-8)
    np.testing.assert_allclose(curvatures, -jax.hessian(model.foretold)(at), rtol=1e-8)


def test_a_cubic_is_found_where_a_function_is_bent():
    z, g, hessian = sample(60, 4)  # of 35 unknowns
    y = jnp.asarray(values_of(z, g, hessian) + 0.3 * z[:, 0] ** 2 * z[:, 1])
    step = jax.jit(lambda found, t: search(z, y, jnp.ones(60, bool), jnp.zeros(()), found, t))
    found = Levels.init()
    for count in range(3):
        model, found = step(found, jnp.asarray(count))
    assert found.kind == BENT
    np.testing.assert_allclose(model.foretold(jnp.asarray(z[0])), -y[0], rtol=2e-2)


def test_a_quadratic_is_found_exactly_and_believed():
    d = 5
    z, g, hessian = sample(24, d)  # of 21 unknowns
    y, used = jnp.asarray(values_of(z, g, hessian)), jnp.ones(24, bool)
    found = Levels.init()
    step = jax.jit(lambda found, count: search(z, y, used, jnp.zeros(()), found, count))
    for count in range(2):
        model, found = step(found, jnp.asarray(count))
    assert taus()[found.tau] < 1e-5
    np.testing.assert_allclose(model.slopes, g, atol=1e-6)
    np.testing.assert_allclose(model.hessian, hessian, atol=1e-6)


def test_where_nothing_is_quadratic_values_are_not_believed():
    z, *_ = sample(40, 3)
    y, used = jnp.asarray(np.random.default_rng(2).standard_normal(40)), jnp.ones(40, bool)
    found = Levels(jnp.asarray(0), jnp.asarray(0))
    step = jax.jit(lambda found, count: search(z, y, used, jnp.zeros(()), found, count)[1])
    for count in range(len(taus())):
        found = step(found, jnp.asarray(count))
    assert taus()[found.tau] > 0.1


def test_without_values_the_model_is_flat():
    z, *_ = sample(6, 3)
    unused = jnp.zeros(6, bool)
    model = regress(z, jnp.zeros(6), unused, jnp.zeros(()), Levels.init())
    assert all(jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(model._replace(evidence=0.0)))
    np.testing.assert_array_equal(model.slopes, 0)
