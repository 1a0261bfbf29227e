"""Hessian estimates: the smoothed objective's Hessian on average, and how they spread."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from smoothed import OBJECTIVES, THETA, A, D, draws, estimates_of, quadratic, standard_error, waves

import zovh_jax as zo
from zovh_jax.baselines import leave_one_out, mean, none, origin, variance_optimal
from zovh_jax.directions import explicit, masked, orthogonal, sphere
from zovh_jax.stencils import central, forward, three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

ESTIMATORS = {
    "S1 (E6)": (forward(), none()),
    "S2 (E7)": (forward(), origin()),
    "S3 (E8)": (three_point(), origin()),
    "ZoVH (E10)": (forward(), mean()),
    "leave_one_out": (forward(), leave_one_out()),
    "variance_optimal (E12)": (forward(), variance_optimal()),
    "central": (central(), mean()),
    "three_point variance_optimal": (three_point(), variance_optimal()),
}


def matrix(queries, theta, **options):
    return zo.estimators.hessian(queries, theta, **options).as_matrix()


estimates = functools.partial(estimates_of, matrix)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("name", ESTIMATORS)
def test_unbiased_for_the_smoothed_hessian(name, objective):
    f, smoothed = OBJECTIVES[objective]
    radius = 0.7
    samples = estimates(f, draws(60_000, 4), radius, *ESTIMATORS[name])
    expected = np.asarray(jax.hessian(smoothed)(jnp.asarray(THETA), radius))
    error = standard_error(samples)
    assert np.max(error) < 0.04
    gap = np.abs(expected - np.asarray(jax.hessian(f)(jnp.asarray(THETA))))
    assert np.max(gap / error) > 7  # enough to tell F_μ's Hessian from f's
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error)


def test_central_differences_without_identity_are_biased_by_half_the_trace():
    samples = estimates(
        quadratic, draws(60_000, 4), 0.7, three_point(), origin(), identity_term=False
    )
    error = standard_error(samples)
    bias = 0.5 * np.trace(A) * np.eye(D)
    assert np.max(error) < 0.03 and np.trace(A) > 2
    assert np.all(np.abs(samples.mean(0) - A - bias) < 5 * error)


@pytest.mark.parametrize(
    ("family", "stencil", "k"),
    [
        (sphere(), three_point(), 3),
        (orthogonal(), three_point(), 3),
        (orthogonal(), forward(), 5),
        (masked(sphere(), (False, True)), three_point(), 1),
    ],
)
def test_constant_norm_directions_with_origin(family, stencil, k):
    # Unbiased on a quadratic; the raw sum is d/(d+2)·(H − tr(H)/d·I).
    params = (jnp.asarray(1.0), jnp.asarray(THETA))
    if not isinstance(family, masked):
        params = params[1]

    def f(p):
        return quadratic(p[1] if isinstance(p, tuple) else p)

    def one(key):
        queries = zo.query(
            f,
            params,
            key,
            num_directions=k,
            radius=0.7,
            directions=family,
            stencil=stencil,
            origin=True,
            store_directions=family == orthogonal(),  # its docstring says why
        )
        hessian = zo.estimators.hessian(queries, params, baseline=origin())
        return hessian.as_matrix(), queries.even - queries.origin, queries.plan.draw(params)

    keys = jax.random.split(jax.random.key(1), 20_000)
    samples, rises, u = jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
    if isinstance(family, masked):
        np.testing.assert_array_equal(samples[:, 0], 0)
        samples, u = samples[:, 1:, 1:], u[1]
    error = standard_error(samples)
    assert np.max(error) < 0.04
    assert np.all(np.abs(samples.mean(0) - A) < 5 * error + 1e-12)

    raw = np.einsum("rk,rki,rkj->rij", rises, u, u) / k / 0.7**2
    raw = raw - rises.mean(1)[:, None, None] / 0.7**2 * np.eye(D)
    law = D / (D + 2) * (A - np.trace(A) / D * np.eye(D))
    error = standard_error(raw)
    assert np.all(np.abs(raw.mean(0) - law) < 5 * error + 1e-12)
    assert np.max(np.abs(law - A) / error) > 20


def test_replayed_gaussian_directions():
    x = jnp.asarray(THETA)

    def one(key):
        queries = zo.query(quadratic, x, key, num_directions=4, radius=0.7)
        return zo.estimators.hessian(queries, x).as_matrix()

    samples = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 40_000)))
    error = standard_error(samples)
    assert np.max(error) < 0.04
    assert np.all(np.abs(samples.mean(0) - A) < 5 * error)


@pytest.mark.parametrize("name", ["ZoVH (E10)", "S3 (E8)", "variance_optimal (E12)"])
def test_variance_falls_like_one_over_k(name):
    total = {
        k: estimates(waves, draws(400_000 // k, k), 0.7, *ESTIMATORS[name]).var(0).sum((0, 1))
        for k in (4, 16, 64)
    }
    # An estimated baseline adds a term of order 1/k².
    slack = 0.06 if name.startswith("S3") else 0.6
    assert abs(total[4] / total[16] / 4 - 1) < slack
    assert abs(total[16] / total[64] / 4 - 1) < max(0.06, slack / 3)


def test_variance_of_the_named_estimators():
    # Values far from zero ruin S1; a slope ruins one-sided S2; pairs see neither.
    def f(x):
        return quadratic(x) + 20 + 3 * jnp.sum(x)

    u = draws(20_000, 8)
    names = ["S1 (E6)", "S2 (E7)", "S3 (E8)", "ZoVH (E10)"]
    spread = {n: estimates(f, u, 0.3, *ESTIMATORS[n]).var(0).sum() for n in names}
    assert spread["S1 (E6)"] > 5 * spread["S2 (E7)"] > 50 * spread["S3 (E8)"]
    assert spread["S1 (E6)"] > 5 * spread["ZoVH (E10)"]


@pytest.mark.parametrize("d", [3, *(pytest.param(d, marks=pytest.mark.slow) for d in (2, 4))])
def test_variance_optimal_baseline_beats_the_mean_in_small_dimensions(d):
    def f(x):
        return 0.5 * jnp.sum(x**2 * (1.0 + jnp.arange(d)))

    u = draws(20 * 3000, 32, d)
    squares = [
        np.sum(
            (estimates(f, u, 1.0, forward(), b, np.zeros(d)) - np.diag(1.0 + np.arange(d))) ** 2,
            (1, 2),
        )
        for b in (mean(), variance_optimal())
    ]
    gain = squares[0] - squares[1]  # paired: both saw the same directions
    error = np.std(gain) / np.sqrt(len(gain))
    assert error < 0.05 * squares[0].mean()
    assert gain.mean() > 5 * error


def importance_estimates(n, num_rounds, **options):
    """Directions from N(m, s²I), with ratios of the densities."""
    shift, scale, d, radius = np.array([0.2, -0.1]), 1.5, 2, 0.8
    h, g = np.array([[1.5, 0.4], [0.4, -0.5]]), np.array([0.7, -0.4])

    def f(u):
        x = radius * u
        return 0.5 + 0.5 * np.einsum("...i,ij,...j->...", x, h, x) + x @ g

    def ratio(u):
        log = -np.sum(u**2, -1) / 2 + np.sum((u - shift) ** 2, -1) / (2 * scale**2)
        return np.exp(log) * scale**d

    def one(u, values, ratios):
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
        hessian = zo.estimators.hessian(queries, jnp.zeros(2), weights=ratios, **options)
        return hessian.as_matrix()

    u = shift + scale * np.random.default_rng(n).standard_normal((num_rounds, n, d))
    samples = np.asarray(jax.jit(jax.vmap(one))(u, f(u), ratio(u)))

    nodes, p = np.polynomial.hermite_e.hermegauss(60)
    u = np.stack(np.meshgrid(nodes, nodes), -1).reshape(-1, 2)
    p = np.outer(p, p).ravel() / (2 * np.pi)
    bias = np.einsum("k,ki,kj->ij", p * f(u) * (1 - ratio(u)), u, u) / radius**2
    return samples, h, bias


@pytest.mark.parametrize("baseline", [none(), leave_one_out(), variance_optimal()])
def test_importance_weights_leave_no_bias(baseline):
    samples, expected, _ = importance_estimates(3, 200_000, baseline=baseline)
    error = standard_error(samples)
    assert np.max(error) < 0.02
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error)


@pytest.mark.parametrize("n", [2, 8])
def test_importance_weights_bias_the_mean_baseline_by_one_over_n(n):
    # E[Ĥ] = ∇²F_μ + (E_π[F uuᵀ] − E_π[W F uuᵀ]) / (μ²(n − 1)), as F̄ contains W_k F_k.
    samples, expected, bias = importance_estimates(n, 800_000 // n, baseline=mean())
    bias = bias / (n - 1)
    error = standard_error(samples)
    if n == 2:
        assert np.max(np.abs(bias) / error) > 10
    assert np.all(np.abs(samples.mean(0) - expected - bias) < 5 * error)
