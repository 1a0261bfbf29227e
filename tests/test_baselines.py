"""Baselines against sums written out in numpy, with importance weights and dropped queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.baselines import leave_one_out, mean, none, origin, past, variance_optimal
from zovh_jax.directions import explicit

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

N, D, RADIUS, F0 = 7, 5, 0.3, 0.8
RNG = np.random.default_rng(0)
U = RNG.standard_normal((N, D))
VALUES = RNG.standard_normal(N) + 2
RATIOS = RNG.lognormal(size=N)

BASELINES = {
    "none": none(),
    "origin": origin(),
    "mean": mean(),
    "leave_one_out": leave_one_out(),
    "variance_optimal": variance_optimal(),
    "past": past(1.7),
}


def coefficients(name, values, ratios, moments, normalized, norms):
    """c_k by its definition, one query at a time."""
    n = len(values)
    c = np.zeros(n)
    for k in range(n):
        others = [j for j in range(n) if j != k]
        b = {
            "none": lambda: 0.0,
            "origin": lambda: F0,
            "past": lambda k=k: F0 + RADIUS**2 / 2 * 1.7 / D * norms[k],
            "mean": lambda: sum(ratios * values) / n,
            "leave_one_out": lambda k=k, o=others: sum(ratios[j] * values[j] for j in o) / (n - 1),
            "variance_optimal": lambda k=k, o=others: (
                sum(ratios[j] ** 2 * moments[j] * values[j] for j in o)
                / sum(ratios[j] ** 2 * moments[j] for j in o)
            ),
        }[name]()
        # Where the ratios add up to n this is n − 1 for equal ones, and unbiased for any.
        divisor = n - sum(ratios**2) / n if normalized else n - 1
        c[k] = ratios[k] * (values[k] - b) / (divisor if name == "mean" else n)
    return c


def queries_from(values, u=U, **options):
    return zo.Queries.from_values(
        values, directions=explicit(u), radius=RADIUS, origin=F0, **options
    )


@pytest.mark.parametrize("weights", ["no", "plain", "self-normalised"])
@pytest.mark.parametrize("name", BASELINES)
def test_estimates_are_the_written_sums(name, weights):
    options = {"baseline": BASELINES[name], "self_normalized": weights == "self-normalised"}
    if weights != "no":
        options["weights"] = RATIOS

    @jax.jit
    def estimate(values):
        queries = queries_from(values)
        x = jnp.zeros(D)
        gradient = zo.estimators.gradient(queries, x, **options)
        if name == "past":
            return gradient, None
        return gradient, zo.estimators.hessian(queries, x, **options).as_matrix()

    dropped = VALUES.copy()
    dropped[[1, 4]] = np.nan, -np.inf
    for values in (VALUES, dropped):
        kept = np.isfinite(values)
        f, u = values[kept], U[kept]
        ratios = np.ones(len(f)) if weights == "no" else RATIOS[kept]
        if weights == "self-normalised":
            ratios = ratios / ratios.mean()
        gradient, hessian = estimate(values)

        normalized = weights == "self-normalised"
        norms = [sum(x**2) for x in u]
        c = coefficients(name, f, ratios, norms, normalized, norms)
        expected = sum(c[k] * u[k] for k in range(len(f))) / RADIUS
        np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-12)

        if name == "past":  # for gradients only
            continue
        terms = [np.outer(x, x) - (name != "mean") * np.eye(D) for x in u]
        moments = [np.linalg.norm(np.outer(x, x) - np.eye(D)) ** 2 for x in u]
        c = coefficients(name, f, ratios, moments, normalized, norms)
        expected = sum(c[k] * terms[k] for k in range(len(f))) / RADIUS**2
        np.testing.assert_allclose(hessian, expected, rtol=1e-11, atol=1e-12)


def test_past_is_for_gradients_of_one_round():
    x = jnp.zeros(D)
    with pytest.raises(ValueError, match=r"past\(trace\) follows"):
        zo.estimators.hessian(queries_from(VALUES), x, baseline=past(1.0))
    history = zo.History.init(x, size=2, num_directions=N, origin=True)
    with pytest.raises(ValueError, match="rounds of a history"):
        zo.estimators.gradient(history.queries(), x, baseline=past(1.0))


@pytest.mark.parametrize("seed", range(3))
def test_mean_without_identity_equals_leave_one_out_with_it(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(2, 12, 2)
    queries = queries_from(rng.standard_normal(n) * 100, rng.standard_normal((n, d)))
    x = jnp.zeros(d)
    plain = zo.estimators.hessian(queries, x, baseline=mean(), identity_term=False)
    other = zo.estimators.hessian(queries, x, baseline=leave_one_out(), identity_term=True)
    assert abs(float(plain.scale)) == 0
    scale = np.max(np.abs(plain.as_matrix()))
    np.testing.assert_allclose(
        plain.as_matrix() / scale, other.as_matrix() / scale, rtol=0, atol=1e-13
    )
    gradients = [zo.estimators.gradient(queries, x, baseline=b) for b in (mean(), leave_one_out())]
    np.testing.assert_allclose(*gradients, rtol=1e-11)


def test_past_leaves_the_slopes_alone_where_curvature_is_the_same_everywhere():
    """Fewer directions than any other baseline needs, and no noise but that of the directions."""
    x = jnp.linspace(-1.0, 1.0, D)
    queries = zo.query(
        lambda x: 1.5 * jnp.sum(x**2),
        x,
        jax.random.key(0),
        num_directions=1,
        radius=0.7,
        origin=True,
        store_directions=True,
    )
    u = queries.plan.draw(x)[0]
    found = zo.estimators.gradient(queries, x, baseline=past(3.0 * D))
    np.testing.assert_allclose(found, 3 * jnp.vdot(x, u) * u, rtol=1e-9)


@pytest.mark.parametrize("name", ["mean", "origin", "leave_one_out", "variance_optimal"])
def test_a_constant_added_to_the_values_changes_nothing(name):
    def estimate(shift):
        queries = zo.Queries.from_values(
            VALUES + shift, directions=explicit(U), radius=RADIUS, origin=F0 + shift
        )
        return zo.estimators.gradient(queries, jnp.zeros(D), baseline=BASELINES[name])

    np.testing.assert_allclose(estimate(0.0), estimate(50.0), rtol=1e-11, atol=1e-11)


def test_variance_optimal_baseline_on_a_quadratic():
    # (E12): b* = F_μ + 2μ² tr(H)/d, seen through the public weights: F_k − n μ² w_k.
    rng = np.random.default_rng(1)
    n, d, radius = 400_000, 3, 0.5
    a = rng.standard_normal((d, d))
    h, g = a + a.T + 2 * np.eye(d), rng.standard_normal(d)
    u = rng.standard_normal((n, d))
    values = 1.5 + radius * u @ g + radius**2 / 2 * np.einsum("ki,ij,kj->k", u, h, u)
    queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
    weights = zo.estimators.hessian(queries, jnp.zeros(d), baseline=variance_optimal()).weights
    baselines = values - n * radius**2 * np.asarray(weights)
    smoothed = 1.5 + radius**2 / 2 * np.trace(h)
    gap = 2 * radius**2 * np.trace(h) / d
    moments = np.sum(u**2, 1) ** 2 - 2 * np.sum(u**2, 1) + d
    standard_error = np.std(moments * (values - smoothed - gap)) / moments.mean() / np.sqrt(n)
    assert standard_error < abs(gap) / 50
    np.testing.assert_allclose(baselines, smoothed + gap, rtol=0, atol=5 * standard_error)


def test_least_variance_of_all_constant_baselines():
    # The same constant minimises the total variance of the dense sum over constants.
    rng = np.random.default_rng(2)
    n, d, radius = 200_000, 2, 1.0
    h = np.diag([2.0, 1.0])
    u = rng.standard_normal((n, d))
    values = radius**2 / 2 * np.einsum("ki,ij,kj->k", u, h, u)
    queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
    weights = zo.estimators.hessian(queries, jnp.zeros(d), baseline=variance_optimal()).weights
    chosen = float(np.mean(values - n * radius**2 * np.asarray(weights)))
    terms = u[:, :, None] * u[:, None, :] - np.eye(d)

    def variance(b):
        return np.var((values - b)[:, None, None] * terms, axis=0).sum()

    grid = chosen + np.linspace(-1, 1, 41)
    assert abs(grid[np.argmin([variance(b) for b in grid])] - chosen) < 0.051
    assert variance(chosen) < 0.9 * variance(values.mean())


@pytest.mark.parametrize("order", [1, 2])
def test_variance_optimal_over_rounds_of_different_radii(order):
    """b* weighs the others by W² ‖φ‖²/μ^(2 order), their factor in the squared error."""
    radii, k = (0.1, 0.3, 1e-12), 4
    rng = np.random.default_rng(5)
    history = zo.History.init(jnp.zeros(D), size=3, num_directions=k, directions=explicit(U[:k]))
    u, f = rng.standard_normal((3, k, D)), rng.standard_normal((3, k))
    for i, radius in enumerate(radii):
        history = history.push(
            zo.Queries.from_values(f[i], directions=explicit(u[i]), radius=radius)
        )
    ratios = rng.lognormal(size=3 * k)
    estimate = zo.estimators.gradient if order == 1 else zo.estimators.hessian
    found = estimate(history.queries(), jnp.zeros(D), baseline=variance_optimal(), weights=ratios)
    mu, u, f = np.repeat(radii, k), u.reshape(-1, D), f.ravel()
    phi = u if order == 1 else np.stack([np.outer(x, x) - np.eye(D) for x in u])
    phi = phi / mu.reshape(-1, *[1] * order) ** order
    w = ratios**2 * np.sum(phi**2, axis=tuple(range(1, order + 1)))
    b = (np.sum(w * f) - w * f) / (np.sum(w) - w)
    expected = np.mean((ratios * (f - b)).reshape(-1, *[1] * order) * phi, 0)
    actual = found if order == 1 else found.as_matrix()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())


def test_variance_optimal_is_unbiased_and_better_with_weights():
    """Directions from a wider law: no more error than with the leave-one-out mean, no bias."""
    d, k, wide = 3, 50, 1.3

    def estimates(key):
        u = wide * jax.random.normal(key, (k, d))
        r = jnp.sum(u**2, -1)
        ratios = wide**d * jnp.exp(r / 2 / wide**2 - r / 2)
        x = 0.5 * u
        values = jnp.sum(x**2, -1) + x[:, 0] + 3.0
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=0.5)
        return [
            zo.estimators.hessian(queries, jnp.zeros(d), baseline=b, weights=ratios).as_matrix()
            for b in (variance_optimal(), leave_one_out())
        ]

    found = jax.jit(jax.vmap(estimates))(jax.random.split(jax.random.key(0), 4000))
    errors = [np.mean(np.sum((np.asarray(h) - 2 * np.eye(d)) ** 2, (1, 2))) for h in found]
    assert errors[0] < errors[1]
    optimal = np.asarray(found[0])
    spread = optimal.std(0) / np.sqrt(len(optimal))
    assert np.max(spread) < 0.2 and np.all(np.abs(optimal.mean(0) - 2 * np.eye(d)) < 5 * spread)


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0])
def test_the_bias_of_missing_values_at_an_edge(distance):
    """Values that are missing beyond a plane: the sizes that the module's docstring gives."""
    t, n, d, mu, g = distance, 400_000, 3, 0.1, np.array([2.0, -1.0, 0.5])
    u = np.random.default_rng(0).standard_normal((n, d))
    inside = u[:, 0] < t
    forward = np.where(inside, 7.0 + mu * u @ g, np.nan)
    r = (
        np.exp(-(t**2) / 2)
        / np.sqrt(2 * np.pi)
        / (0.5 + 0.5 * float(jax.scipy.special.erf(t / 2**0.5)))
    )
    v = 1 - t * r - r**2

    def gradient(values, baseline, **options):
        queries = zo.Queries.from_values(values, directions=explicit(u), radius=mu, **options)
        return np.asarray(zo.estimators.gradient(queries, jnp.zeros(d), baseline=baseline))

    assert round(v, 2) == {0.0: 0.36, 1.0: 0.63, 2.0: 0.89}[t]
    close = {"rtol": 0, "atol": 0.02}
    expected = [g * [v, 1, 1], g * [1 - t * r, 1, 1], g - [r * 7.0 / mu + g[0] * t * r, 0, 0]]
    np.testing.assert_allclose(gradient(forward, mean()), expected[0], **close)
    np.testing.assert_allclose(gradient(forward, origin(), origin=7.0), expected[1], **close)
    np.testing.assert_allclose(gradient(forward, none()), expected[2], rtol=0.02, atol=1.0)
    queries = zo.Queries.from_values(forward, directions=explicit(u), radius=mu)
    corner = zo.estimators.hessian(queries, jnp.zeros(d)).as_matrix()[0, 0] * mu / g[0]
    assert abs(float(corner) - {0.0: -0.80, 1.0: -0.66, 2.0: -0.28}[t]) < 0.03
    if t:
        pairs = np.stack([7.0 + s * mu * u @ g for s in (1, -1)], 1)
        pairs = np.where((np.abs(u[:, 0]) < t)[:, None], pairs, np.nan)
        queries = zo.Queries.from_values(
            pairs, directions=explicit(u), radius=mu, stencil=zo.stencils.central()
        )
        found = zo.estimators.gradient(queries, jnp.zeros(d))
        np.testing.assert_allclose(found, g * [{1.0: 0.29, 2.0: 0.77}[t], 1, 1], **close)
