"""Posteriors from values, against exact ones."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")
D, N = 8, 40
RNG = np.random.default_rng(0)
X = jnp.asarray(RNG.normal(size=(N, D)) * np.linspace(0.3, 2, D), jnp.float32)
Y = jnp.asarray(X @ RNG.normal(size=D) + RNG.normal(size=N), jnp.float32)
ALPHA = 2.0
HESSIAN = np.asarray(X.T @ X, np.float64)
WHOLE = zo.structures.interpolated(44)
FEW, SIX = (zo.structures.interpolated(n) for n in (3, 6))


def loss(p):
    """The negative log likelihood of linear regression with unit noise."""
    w = jnp.concatenate([p["a"], p["b"].reshape(-1)])
    return 0.5 * jnp.sum((X @ w - Y) ** 2) + 0.5 * N * jnp.log(2 * jnp.pi)


def tree(w):
    w = jnp.asarray(w, jnp.float32)
    return {"a": w[:2], "b": w[2:].reshape(3, 2)}


def ridge_solution(alpha):
    return np.linalg.solve(HESSIAN + alpha * np.eye(D), np.asarray(X.T @ Y, np.float64))


def compiled(f, mean, seed=0, **options):
    """A posterior from one program: op by op, each operation would be compiled."""
    return jax.jit(lambda mean, key: zo.laplace(f, mean, key=key, **options))(
        mean, jax.random.key(seed)
    )


@functools.cache
def plain(structure):
    return posterior(structure)


def posterior(structure, alpha=ALPHA, at=None, **options):
    mean = tree(ridge_solution(ALPHA) if at is None else at)
    options |= {"prior_precision": alpha, "structure": structure, "radius": 0.3}
    return compiled(loss, mean, **options)


def exact_log_evidence(alpha):
    """Of y ~ N(0, I + XXᵀ/α)."""
    covariance = np.eye(N) + np.asarray(X @ X.T, np.float64) / alpha
    y = np.asarray(Y, np.float64)
    square = y @ np.linalg.solve(covariance, y)
    return -0.5 * (square + np.linalg.slogdet(covariance)[1] + N * np.log(2 * np.pi))


def flat(p):
    return np.concatenate([np.ravel(p["a"]), np.ravel(p["b"])])


def test_with_all_curvatures_it_is_the_exact_posterior():
    found = plain(WHOLE)
    covariance = np.linalg.inv(HESSIAN + ALPHA * np.eye(D))
    np.testing.assert_allclose(
        found.precision.as_matrix(), HESSIAN + ALPHA * np.eye(D), atol=1e-4 * HESSIAN.max()
    )
    np.testing.assert_allclose(flat(found.variance()), np.diag(covariance), rtol=1e-3)
    assert abs(found.log_evidence() - exact_log_evidence(ALPHA)) < 0.01
    gamma = np.trace(HESSIAN @ covariance)
    np.testing.assert_allclose(found.num_determined, gamma, rtol=1e-3)
    assert found.num_queries == 2 * 44 + 1


def test_samples_have_its_moments():
    found = plain(WHOLE)
    samples = jax.jit(found.sample, static_argnums=1)(jax.random.key(1), 4000)
    assert jax.tree.map(jnp.shape, samples) == {"a": (4000, 2), "b": (4000, 3, 2)}
    rows = np.concatenate([samples["a"], samples["b"].reshape(4000, -1)], 1)
    np.testing.assert_allclose(rows.mean(0), flat(found.mean), atol=0.02)
    covariance = np.linalg.inv(HESSIAN + ALPHA * np.eye(D))
    np.testing.assert_allclose(np.cov(rows.T), covariance, atol=0.1 * covariance.max())


def test_the_prior_of_the_largest_evidence():
    """At the mean of the best prior it is near it: the iteration holds the mean fixed."""
    alphas = np.geomspace(0.05, 20, 400)
    best = alphas[np.argmax([exact_log_evidence(a) for a in alphas])]
    found = posterior(WHOLE, alpha="evidence", at=ridge_solution(best))
    np.testing.assert_allclose(found.prior_precision, best, rtol=0.1)


def test_few_queries_know_that_they_know_little():
    """The trace is right on average, and no more is determined than was measured."""
    found, whole = plain(FEW), plain(WHOLE)
    assert found.num_determined <= 3 < whole.num_determined
    assert len(found.curvature.eigenvalues) == 4
    none = posterior(zo.structures.interpolated(3, prior=None))
    assert none.curvature.eigenvalues[-1] == 0  # the prior alone across what was measured
    assert jnp.all(flat(none.variance()) <= 1 / ALPHA + 1e-5)
    assert none.log_evidence() > found.log_evidence() > whole.log_evidence() - 20


def test_frozen_leaves_have_no_variance():
    found = posterior(FEW, mask={"a": True, "b": False})
    block = HESSIAN[:2, :2] + ALPHA * np.eye(2)
    np.testing.assert_allclose(found.variance()["a"], np.diag(np.linalg.inv(block)), rtol=0.05)
    assert not np.any(found.variance()["b"])
    samples = found.sample(jax.random.key(0), 3)
    np.testing.assert_array_equal(samples["b"], [found.mean["b"]] * 3)
    assert np.all(samples["a"] != found.mean["a"])


def test_negative_curvature_counts_as_none():
    saddle = lambda x: 5 * (x[0] ** 2 - x[1] ** 2)  # noqa: E731
    found = compiled(saddle, jnp.zeros(2), prior_precision=1.0, structure=FEW, radius=0.1)
    np.testing.assert_allclose(found.variance(), [1 / 11, 1], rtol=0.02)
    assert jnp.all(jnp.isfinite(found.sample(jax.random.key(0), 2)))


def test_missing_values_and_low_precision():
    """A value that is missing costs its pair; parameters of bfloat16 keep their dtype."""
    mean = jnp.zeros(3, jnp.bfloat16)

    def loss(x):
        x = x.astype(jnp.float32)
        return jnp.where(x[0] > 1.5, jnp.nan, 2 * jnp.sum(x**2))

    structure = zo.structures.interpolated(12)
    found = compiled(loss, mean, prior_precision=1.0, structure=structure, radius=1.0)
    np.testing.assert_allclose(found.variance(), [0.2] * 3, rtol=0.1)
    assert found.sample(jax.random.key(0), 2).dtype == jnp.bfloat16


def test_nothing_is_learnt_from_missing_values():
    def lossy(x):
        return jnp.where(x[0] > 0, jnp.nan, 50 * jnp.sum(x**2))

    def of(mean, **options):
        return compiled(lossy, mean, seed=3, prior_precision=1.0, radius=0.1, **options)

    found = of(jnp.full(30, -0.05), structure=SIX)
    few = jnp.sum(jnp.sum(jnp.square(found.curvature.modes[0]), 1) > 0.5)
    assert 0 < few < 6 and found.num_determined <= few
    assert jnp.all(jnp.isnan(of(jnp.ones(30), structure=SIX).variance()))


@pytest.mark.parametrize("alpha", [-1.0, 0.0, "most"])
def test_wrong_priors_raise(alpha):
    with pytest.raises(ValueError, match="prior_precision"):
        posterior(WHOLE, alpha=alpha)


def test_it_is_a_pytree_and_works_under_jit():
    found = plain(FEW)  # returned from a compiled function
    assert isinstance(found, zo.Laplace)
    same = jax.tree.map(jnp.asarray, found)
    np.testing.assert_array_equal(same.log_evidence(), found.log_evidence())


def test_num_directions_is_short_for_interpolation():
    def of(**options):
        return compiled(jnp.sum, jnp.ones(3), prior_precision=1.0, radius=0.1, **options)

    short, full = of(num_directions=4), of(structure=zo.structures.interpolated(4))
    np.testing.assert_array_equal(short.curvature.eigenvalues, full.curvature.eigenvalues)
    for options in ({}, {"num_directions": 4, "structure": zo.structures.full()}):
        with pytest.raises(ValueError, match="give either num_directions"):
            of(**options)


def test_all_entries_leave_nothing_to_cancel():
    """Variances far below the prior's are right, to rounding of the curvature."""
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 4)))[0]
    hessian = (basis * np.array([5e5, 1e6, 1.5e6, 2e6])) @ basis.T
    f = lambda x: x @ jnp.asarray(hessian, jnp.float32) @ x / 2  # noqa: E731
    options = {"prior_precision": 1e-3, "radius": 1.0, "structure": zo.structures.full()}
    made = compiled(f, jnp.zeros(4), **options)
    np.testing.assert_allclose(made.variance(), np.diag(np.linalg.inv(hessian)), rtol=1e-4)
