"""Gradient estimates: the smoothed objective's gradient on average, and how they spread."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smoothed import OBJECTIVES, THETA, A, B, draws, estimates_of, quadratic, standard_error, waves

import zovh_jax as zo
from zovh_jax.baselines import leave_one_out, mean, none, origin, variance_optimal
from zovh_jax.directions import explicit, masked, orthogonal, sphere
from zovh_jax.stencils import central, forward, three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

ESTIMATORS = {
    "none": (forward(), none()),
    "origin (E13)": (forward(), origin()),
    "mean (E15)": (forward(), mean()),
    "leave_one_out": (forward(), leave_one_out()),
    "variance_optimal": (forward(), variance_optimal()),
    "central (E14)": (central(), mean()),
    "three_point": (three_point(), origin()),
}


estimates = functools.partial(estimates_of, zo.estimators.gradient)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased_for_the_smoothed_gradient(name, objective):
    f, smoothed = OBJECTIVES[objective]
    radius = 0.7
    samples = estimates(f, draws(40_000, 4), radius, *ESTIMATORS[name])
    expected = np.asarray(jax.grad(smoothed)(jnp.asarray(THETA), radius))
    error = standard_error(samples)
    assert np.max(error) < 0.02
    gap = np.abs(expected - np.asarray(jax.grad(f)(jnp.asarray(THETA))))
    assert np.max(gap / error) > 7  # enough to tell F_μ's gradient from f's
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error)


@pytest.mark.parametrize(
    ("family", "stencil"),
    [(sphere(), forward()), (orthogonal(), forward()), (orthogonal(), central())],
)
def test_families_are_unbiased_on_a_quadratic(family, stencil):
    x = jnp.asarray(THETA)

    def one(key):
        queries = zo.query(
            quadratic,
            x,
            key,
            num_directions=3,
            radius=0.5,
            directions=family,
            stencil=stencil,
            store_directions=True,
        )
        return zo.estimators.gradient(queries, x)

    samples = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 20_000)))
    expected = A @ THETA + B
    error = standard_error(samples)
    assert np.max(error) < 0.02
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error + 1e-12)
    if stencil == central():  # d directions: every slope, exactly
        np.testing.assert_allclose(samples, np.broadcast_to(expected, samples.shape), rtol=1e-9)


def test_frozen_leaves_get_zero_and_the_others_their_gradient():
    def f(p):
        return quadratic(p["x"]) * (1 + p["frozen"])

    params = {"frozen": jnp.asarray(0.5), "x": jnp.asarray(THETA)}
    directions = masked(orthogonal(), {"frozen": False, "x": True})

    @jax.jit
    def estimate(key):
        queries = zo.query(
            f,
            params,
            key,
            num_directions=3,
            radius=0.1,
            directions=directions,
            stencil=central(),
            store_directions=True,
        )
        return zo.estimators.gradient(queries, params)

    gradient = estimate(jax.random.key(0, impl="rbg"))
    assert gradient["frozen"] == 0
    np.testing.assert_allclose(gradient["x"], 1.5 * (A @ THETA + B), rtol=1e-9)


@pytest.mark.parametrize("name", ["mean (E15)", "central (E14)", "origin (E13)"])
def test_variance_falls_like_one_over_k(name):
    total = {
        k: estimates(waves, draws(300_000 // k, k), 0.3, *ESTIMATORS[name]).var(0).sum()
        for k in (4, 16, 64)
    }
    # ``mean`` has a term of order 1/k² as well: E|F − F_μ|² tr(I)/(k(k−1)).
    slack = 0.25 if name.startswith("mean") else 0.06
    assert abs(total[4] / total[16] / 4 - 1) < slack
    assert abs(total[16] / total[64] / 4 - 1) < 0.06


def test_a_baseline_is_what_makes_one_sided_queries_usable():
    def far_from_zero(x):
        return quadratic(x) + 100

    spread = {
        name: estimates(far_from_zero, draws(20_000, 8), 0.1, forward(), b).var(0).sum()
        for name, b in [("none", none()), ("mean", mean()), ("origin", origin())]
    }
    assert spread["none"] > 1000 * spread["mean"]
    assert spread["mean"] < 2 * spread["origin"]


def importance_round(n, num_rounds):
    """Directions from N(m, s²I), their ratios, and values of the quadratic."""
    shift, scale, d, radius = np.array([0.3, -0.2]), 1.4, 2, 0.5
    a, b = np.array([[1.5, 0.4], [0.4, -0.5]]), np.array([0.7, -0.4])

    def f(u):
        x = radius * u
        return 1.0 + 0.5 * np.einsum("...i,ij,...j->...", x, a, x) + x @ b

    def ratio(u):
        log = -np.sum(u**2, -1) / 2 + np.sum((u - shift) ** 2, -1) / (2 * scale**2)
        return np.exp(log) * scale**d

    u = shift + scale * np.random.default_rng(n).standard_normal((num_rounds, n, d))
    return u, ratio, f, b, radius


def importance_estimates(n, num_rounds, **options):
    u, ratio, f, b, radius = importance_round(n, num_rounds)

    def one(u, values, ratios):
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
        return zo.estimators.gradient(queries, jnp.zeros(2), weights=ratios, **options)

    return np.asarray(jax.jit(jax.vmap(one))(u, f(u), ratio(u))), b


@pytest.mark.parametrize("baseline", [none(), leave_one_out(), variance_optimal()])
def test_importance_weights_leave_no_bias(baseline):
    samples, expected = importance_estimates(3, 200_000, baseline=baseline)
    error = standard_error(samples)
    assert np.max(error) < 0.02
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error)


@pytest.mark.parametrize("n", [2, 8])
def test_importance_weights_bias_the_mean_baseline_by_one_over_n(n):
    # F̄ contains W_k F_k, so E[ĝ] = ∇F_μ + (E_π[F u] − E_π[W F u]) / (μ(n − 1)).
    samples, gradient = importance_estimates(n, 400_000 // n, baseline=mean())
    _, ratio, f, _, radius = importance_round(1, 1)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    u = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    p = np.outer(weights, weights).ravel() / (2 * np.pi)
    np.testing.assert_allclose((p * f(u)) @ u / radius, gradient, rtol=1e-10)
    bias = (p * f(u) * (1 - ratio(u))) @ u / (radius * (n - 1))
    error = standard_error(samples)
    if n == 2:
        assert np.max(np.abs(bias) / error) > 10
    assert np.all(np.abs(samples.mean(0) - gradient - bias) < 5 * error)


def test_self_normalised_weights_are_consistent():
    samples, expected = importance_estimates(2000, 100, baseline=mean(), self_normalized=True)
    error = standard_error(samples)
    assert np.max(error) < 0.02
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error + 0.01)  # bias of order 1/n
    # A common factor in the ratios cancels.
    u, ratio, f, _, radius = importance_round(20, 1)

    @jax.jit
    def estimate(ratios):
        queries = zo.Queries.from_values(f(u[0]), directions=explicit(u[0]), radius=radius)
        x = jnp.zeros(2)
        return zo.estimators.gradient(queries, x, weights=ratios, self_normalized=True)

    once, twice = (estimate(c * ratio(u[0])) for c in (1.0, 7.0))
    np.testing.assert_allclose(once, twice, rtol=1e-12)
