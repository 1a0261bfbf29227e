"""The quadratic regressed on values: against dense algebra, and exact where it can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from zovh_jax.transforms.model.regression import VAGUE, Levels, regress, search, taus

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")


def sample(m, d, seed=0):
    """Points, a gradient and a Hessian at random."""
    r = np.random.default_rng(seed)
    hessian = r.standard_normal((d, d))
    return r.standard_normal((m, d)), r.standard_normal(d), hessian + hessian.T


def values_of(points, g, hessian):
    return points @ g + 0.5 * np.einsum("mi,ij,mj->m", points, hessian, points)


def levels(tau, smooth=False):
    place = int(np.argmin(abs(np.log(taus() / tau))))
    return Levels(jnp.asarray(place), jnp.asarray(smooth))


@pytest.mark.parametrize("smooth", [False, True])
def test_against_dense_algebra(smooth):
    """Mean and evidence of the normal law that the docstring states."""
    m, d, tau, nu = 30, 3, 0.1, 0.02
    z, g, hessian = sample(m, d)
    y = values_of(z, g, hessian) + 0.1 * np.random.default_rng(1).standard_normal(m)
    used = np.arange(m) != 7
    model = regress(z, jnp.asarray(y), jnp.asarray(used), jnp.asarray(nu), levels(tau, smooth))

    z, y = z[used], y[used]
    squares = np.sum(z * z, 1)
    w = (squares + 0.01) ** 1.5 / 2 if smooth else (squares + 1) / 2
    features = np.concatenate([np.ones((len(z), 1)), z, squares[:, None] / 2], 1)
    prior = np.diag(np.repeat(VAGUE, (1, d, 1)) ** 2)
    kernel = (z @ z.T) ** 2 / 2
    covariance = features @ prior @ features.T + kernel + np.diag((tau * w) ** 2 + nu**2)
    duals = np.linalg.solve(covariance, y)
    variance = y @ duals / len(y)
    means = prior @ features.T @ duals
    expected = means[-1] * np.eye(d) + (z.T * duals) @ z
    np.testing.assert_allclose(model.scale, np.sqrt(variance), rtol=1e-8)
    np.testing.assert_allclose(model.slopes, means[1:-1], rtol=1e-6)
    np.testing.assert_allclose(model.hessian, expected, rtol=1e-6, atol=1e-8)
    evidence = -len(y) / 2 * np.log(variance) - np.linalg.slogdet(covariance)[1] / 2
    np.testing.assert_allclose(model.evidence, evidence, atol=1e-6)


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
    found = Levels(jnp.asarray(0), jnp.asarray(False))
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
