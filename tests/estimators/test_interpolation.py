"""Least-norm interpolation: exactness, the error bound, priors, noise, degenerate directions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax import estimators

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")
D = 8
RNG = np.random.default_rng(0)
Q, _ = np.linalg.qr(RNG.normal(size=(D, D)))
H = Q @ np.diag(np.geomspace(1, 100, D)) @ Q.T
G = RNG.normal(size=D)
X = np.zeros(D)
PAIRS = zo.stencils.three_point()

# Compiled as a whole: one by one, their operations would be a hundred programs for each size.
interpolated_gradient = jax.jit(estimators.interpolated_gradient, static_argnames="ridge")
interpolated_hessian = jax.jit(estimators.interpolated_hessian, static_argnames=("prior", "ridge"))
change_hessian = jax.jit(estimators.interpolated_hessian)
as_matrix = jax.jit(lambda operator: operator.as_matrix())


def quadratic(x):
    return 0.5 * x @ H @ x + G @ x + 3.0


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def asked(key, n, stencil, f, options):
    return zo.query(f, X, key, num_directions=n, radius=0.1, stencil=stencil, **dict(options))


def ask(n, stencil=PAIRS, f=quadratic, noise=0.0, key=None, **options):
    key = jax.random.key(n if key is None else key)
    queries = asked(key, n, stencil, f, tuple(options.items()))
    if noise:
        values = queries.values + noise * np.random.default_rng(1).normal(size=queries.values.shape)
        queries = zo.Queries(queries.plan, values, queries.radius, queries.origin, stencil)
    return queries


def error(matrix, truth=H):
    return np.linalg.norm(np.asarray(matrix) - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("n", [D * (D + 1) // 2, 60])
def test_hessian_of_a_quadratic_is_exact_with_enough_pairs(n):
    assert error(as_matrix(interpolated_hessian(ask(n), X))) < 1e-9


@pytest.mark.parametrize(("n", "prior"), [(1, "trace"), (20, "trace"), (20, None)])
def test_hessian_reproduces_the_curvatures_and_is_no_worse_than_its_prior(n, prior):
    queries = ask(n)
    operator = interpolated_hessian(queries, X, prior=prior)
    u = np.asarray(queries.plan.draw(X))
    estimate = np.asarray(as_matrix(operator))
    np.testing.assert_allclose(
        np.einsum("ki,ij,kj->k", u, estimate, u), np.einsum("ki,ij,kj->k", u, H, u), rtol=1e-7
    )
    before = float(operator.scale) * np.eye(D)
    # A projection: Pythagoras holds between prior, estimate and truth.
    np.testing.assert_allclose(
        np.sum((before - H) ** 2),
        np.sum((before - estimate) ** 2) + np.sum((estimate - H) ** 2),
        rtol=1e-6,
    )
    if prior == "trace":
        curvatures = np.einsum("ki,ij,kj->k", u, H, u) / np.sum(u**2, 1)
        np.testing.assert_allclose(operator.scale, curvatures.mean(), rtol=1e-7)


def test_hessian_changes_a_past_estimate_as_little_as_it_can():
    past = interpolated_hessian(ask(20), X)
    new = ask(20, key=1)
    operator = change_hessian(new, X, prior=past)
    u, v = np.asarray(new.plan.draw(X)), jnp.arange(1.0, D + 1)
    before, after = np.asarray(as_matrix(past)), np.asarray(as_matrix(operator))
    gram = (u @ u.T) ** 2
    missing = np.einsum("ki,ij,kj->k", u, H - before, u)
    expected = np.einsum("k,ki,kj->ij", np.linalg.solve(gram, missing), u, u)
    np.testing.assert_allclose(after - before, expected, rtol=1e-6, atol=1e-9)
    assert error(after) < error(before)
    product, diagonal, trace = jax.jit(lambda o: (o.mv(v), o.diagonal(), o.trace()))(operator)
    np.testing.assert_allclose(product, after @ v, rtol=1e-9)
    np.testing.assert_allclose(diagonal, np.diagonal(after), rtol=1e-9)
    np.testing.assert_allclose(trace, np.trace(after), rtol=1e-9)


def test_hessian_is_far_below_the_averages_where_queries_are_few():
    d, n = 300, 30
    f = lambda x: jnp.sum(jnp.linspace(1, 3, d) * x**2) / 2  # noqa: E731
    x, truth = jnp.zeros(d), np.diag(np.linspace(1, 3, d))

    @jax.jit
    def both():
        queries = zo.query(f, x, jax.random.key(0), num_directions=n, radius=0.1, stencil=PAIRS)
        averages = estimators.hessian(queries, x, baseline=zo.baselines.origin())
        return interpolated_hessian(queries, x).as_matrix(), averages.as_matrix()

    ours, theirs = (error(matrix, truth) for matrix in both())
    assert ours < 0.3 and theirs > 30 * ours


@pytest.mark.parametrize("stencil", [PAIRS, zo.stencils.central()])
def test_gradient_of_a_quadratic_is_exact_with_d_pairs(stencil):
    np.testing.assert_allclose(interpolated_gradient(ask(D, stencil), X), G, rtol=1e-8)


@pytest.mark.parametrize("n", [1, 6])
def test_gradient_is_the_projection_on_the_directions(n):
    queries = ask(n, zo.stencils.central())
    u = np.asarray(queries.plan.draw(X))
    expected = np.linalg.pinv(u) @ (u @ G)
    np.testing.assert_allclose(interpolated_gradient(queries, X), expected, rtol=1e-8)
    prior = np.linspace(-1, 1, D)
    expected = prior + np.linalg.pinv(u) @ (u @ (G - prior))
    np.testing.assert_allclose(interpolated_gradient(queries, X, prior=prior), expected, rtol=1e-8)


def linear(x):
    return G @ x + 3.0


@pytest.mark.parametrize("known", [True, False])
def test_gradient_from_forward_queries(known):
    """With f(θ) unknown, the constant is the one of the smallest gradient."""
    n = 5
    queries = ask(n, zo.stencils.forward(), f=linear, origin=known)
    u, values = np.asarray(queries.plan.draw(X)), np.asarray(queries.values)
    found = interpolated_gradient(queries, X)
    if known:
        np.testing.assert_allclose(found, np.linalg.pinv(u) @ (u @ G), rtol=1e-8)
        return

    def smallest(c):
        return np.linalg.pinv(u) @ ((values - c) / 0.1)

    a, b = smallest(0.0), smallest(0.0) - smallest(1.0)
    np.testing.assert_allclose(found, smallest((a @ b) / (b @ b)), rtol=1e-6)


@functools.partial(jax.jit, static_argnames=("k", "f", "origin"))
def pushed(levels, radii, k, f, origin):
    def push(history, this):
        i, level, radius = this
        key = jax.random.fold_in(jax.random.key(0), i)
        options = {"num_directions": k, "radius": radius, "origin": origin}
        return history.push(zo.query(lambda x: f(x) + level, X, key, **options)), None

    history = zo.History.init(X, size=len(levels), num_directions=k, origin=origin)
    each = jnp.arange(len(levels)), levels, radii
    return jax.lax.scan(push, history, each)[0].queries()


def rounds(levels, k, f=linear, radii=0.1, origin=False):
    """A history of rounds of f plus a level of each round's own."""
    radii = np.broadcast_to(radii, len(levels))
    return pushed(np.array(levels), radii, k, f, origin)


@pytest.mark.parametrize("ridge", [0.0, pytest.param(1e-9, marks=pytest.mark.slow)])
@pytest.mark.parametrize("radii", [0.1, (0.1, 0.02, 0.3)])
@pytest.mark.parametrize("levels", [(0.0, 0.0, 0.0), (0.0, 40.0, -7.0)])
def test_every_round_has_a_level_of_its_own(levels, radii, ridge):
    """d + R values determine d slopes and R levels; fewer give the smallest gradient that fits."""
    found = interpolated_gradient(rounds(levels, 4, radii=radii), X, ridge=ridge)
    np.testing.assert_allclose(found, G, rtol=1e-5)  # 12 values, 8 slopes and 3 levels
    queries = rounds(levels, 3, radii=radii)
    few = np.asarray(interpolated_gradient(queries, X, ridge=ridge))
    u = np.asarray(queries.plan.draw(X)).reshape(3, 3, D)
    differences = (u[:, 1:] - u[:, :1]).reshape(6, D)
    expected = np.linalg.pinv(differences) @ (differences @ G)
    np.testing.assert_allclose(few, expected, rtol=1e-4)


def test_a_round_of_one_direction_tells_nothing_without_its_level():
    queries = rounds((0.0, 5.0, 2.0, 1.0), 1)
    assert not np.any(np.abs(interpolated_gradient(queries, X)) > 1e-12)
    known = rounds((0.0, 5.0, 2.0, 1.0), 1, origin=True)
    u = np.asarray(known.plan.draw(X))
    expected = np.linalg.pinv(u) @ (u @ G)
    np.testing.assert_allclose(interpolated_gradient(known, X), expected, rtol=1e-8)


@pytest.mark.parametrize("ridge", [0.0, "auto"])
def test_rounds_that_are_missing_have_no_level(ridge):
    queries = rounds((0.0, 40.0, -7.0), 3)
    values = np.array(queries.values)
    holes = np.where(np.arange(3)[:, None] == 1, np.nan, values)
    holed = zo.Queries(queries.plan, holes, queries.radius, None, queries.stencil)
    u = np.asarray(queries.plan.draw(X))[[0, 1, 2, 6, 7, 8]]
    values = values[[0, 2]] - [[0.0], [-7.0]]
    same = zo.Queries.from_values(
        values.ravel(), directions=zo.directions.explicit(u), radius=0.1, origin=3.0
    )
    found = np.asarray(interpolated_gradient(holed, X, ridge=ridge))
    assert np.all(np.isfinite(found))
    # What is known with the levels is a projection of what is known without them.
    assert np.linalg.norm(found) <= 1.01 * np.linalg.norm(interpolated_gradient(same, X))


def test_automatic_ridge_with_levels_finds_the_noise():
    """12 rounds of four values: what the levels take up is not taken for a good fit."""
    noises = [0.2 * np.random.default_rng(seed).normal(size=(12, 4)) for seed in range(6)]

    def errors_of(given):
        seed, noise = given
        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(seed), i))(jnp.arange(12))
        history = zo.History.init(X, size=12, num_directions=4)

        def push(history, this):
            level, key = this
            queries = zo.query(lambda x: linear(x) + level, X, key, num_directions=4, radius=0.1)
            return history.push(queries), None

        history, _ = jax.lax.scan(push, history, (jnp.arange(12.0), keys))
        queries = history.queries()
        values = queries.values + noise.reshape(queries.values.shape)
        queries = zo.Queries(queries.plan, values, queries.radius, None, queries.stencil)
        found = [interpolated_gradient(queries, X, ridge=ridge) for ridge in (0.0, "auto")]
        return [jnp.linalg.norm(g - G) / np.linalg.norm(G) for g in found]

    each = jax.jit(lambda runs: jax.lax.map(errors_of, runs))((np.arange(6), np.array(noises)))
    without, automatic = map(np.mean, each)
    assert automatic < 1.1 * without < 0.4
    exact = interpolated_gradient(rounds(np.arange(3.0), 5), X, ridge="auto")
    np.testing.assert_allclose(exact, G, rtol=1e-3)


@pytest.mark.parametrize("origin", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_curvature_takes_the_bend_off_forward_slopes(origin):
    """Exact with the Hessian; with its trace, exact for τI."""
    queries = rounds((0.0, 2.0, 1.0), 5, quadratic, (0.1, 0.3, 0.2), origin)
    hessian = interpolated_hessian(ask(60), X)
    plain = interpolated_gradient(queries, X)
    found = interpolated_gradient(queries, X, curvature=hessian)
    assert np.linalg.norm(plain - G) > 0.1 * np.linalg.norm(G)
    np.testing.assert_allclose(found, G, rtol=1e-5)

    def ball(x):
        return 3 * x @ x + G @ x

    queries = rounds((0.0, 2.0, 1.0), 5, ball, 0.1, origin)
    found = interpolated_gradient(queries, X, curvature=6.0 * D)
    np.testing.assert_allclose(found, G, rtol=1e-5)
    pairs = ask(5)
    same = [interpolated_gradient(pairs, X, curvature=c) for c in (None, 50.0)]
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("origin", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_size_of_the_bend(origin):
    """½μ tr(H)/‖∇f‖ of the estimate with a known f(θ), μ‖H‖_F/(√2 ‖∇f‖) without, at n ≪ d."""
    d, n, mu = 400, 20, 0.02
    a = jnp.linspace(0.5, 1.5, d)
    g = jax.random.normal(jax.random.key(3), (d,))
    flat = lambda x: g @ x  # noqa: E731
    bent = lambda x: a @ x**2 / 2 + g @ x  # noqa: E731

    def error_of(seed):
        options = {"num_directions": n, "radius": mu, "origin": origin}
        x, key = jnp.zeros(d), jax.random.key(seed)
        one, other = (
            interpolated_gradient(zo.query(f, x, key, **options), x) for f in (flat, bent)
        )
        return jnp.linalg.norm(other - one) / jnp.linalg.norm(one)

    errors = jax.jit(lambda seeds: jax.lax.map(error_of, seeds))(jnp.arange(20))
    trace, frobenius, slope = float(a.sum()), float(jnp.linalg.norm(a)), float(jnp.linalg.norm(g))
    expected = mu * trace / 2 / slope if origin else mu * frobenius / 2**0.5 / slope
    assert abs(np.mean(errors) / expected - 1) < 0.25


def test_repeated_directions_stay_finite():
    u = RNG.normal(size=(6, D))
    u[3], u[4] = u[0], u[1] * (1 + 1e-15)
    values = [[quadratic(0.1 * s * v) for s in (1, -1)] for v in u]
    queries = zo.Queries.from_values(
        values, directions=zo.directions.explicit(u), radius=0.1, stencil=PAIRS, origin=3.0
    )
    distinct = u[[0, 1, 2, 5]]
    np.testing.assert_allclose(
        interpolated_gradient(queries, X), np.linalg.pinv(distinct) @ (distinct @ G), rtol=1e-6
    )
    assert np.all(np.isfinite(as_matrix(interpolated_hessian(queries, X))))


def test_dropped_queries_are_as_if_never_asked():
    queries = ask(6)
    u, values = np.asarray(queries.plan.draw(X)), np.array(queries.values)
    kept = np.array([0, 2, 3, 5])
    bad = values.copy()
    bad[1, 0], bad[4, 1] = np.nan, np.inf
    some = zo.Queries(queries.plan, bad, queries.radius, queries.origin, PAIRS)
    fewer = zo.Queries.from_values(
        values[kept],
        directions=zo.directions.explicit(u[kept]),
        radius=0.1,
        stencil=PAIRS,
        origin=queries.origin,
    )

    @jax.jit
    def estimates(queries):
        e = estimators
        return [
            (
                e.interpolated_gradient(queries, X, ridge=ridge),
                e.interpolated_hessian(queries, X, ridge=ridge).as_matrix(),
            )
            for ridge in (0.0, 0.3, "auto")
        ]

    for found, wanted in zip(estimates(some), estimates(fewer), strict=True):
        np.testing.assert_allclose(found[0], wanted[0], rtol=1e-7)
        np.testing.assert_allclose(found[1], wanted[1], rtol=1e-7)
    none = zo.Queries(queries.plan, bad * np.nan, queries.radius, queries.origin, PAIRS)
    assert not any(np.any(x) for x in jax.tree.leaves(estimates(none)))


def test_ridge_is_ridge_regression():
    queries = ask(12, zo.stencils.central(), noise=0.05)
    u = np.asarray(queries.plan.draw(X))
    t = np.asarray(queries.odd) / 0.1
    gram = u @ u.T
    mean = np.trace(gram) / 12
    expected = u.T @ np.linalg.solve(gram + 0.2 * mean * np.eye(12), t)
    np.testing.assert_allclose(interpolated_gradient(queries, X, ridge=0.2), expected, rtol=1e-8)


@pytest.mark.parametrize("noise", [0.0, 0.03, 0.3])
def test_automatic_ridge_finds_the_noise(noise):
    """With pairs to spare, what does not fit any Hessian tells how noisy the values are."""
    queries = ask(60, noise=noise)
    operators = {r: interpolated_hessian(queries, X, ridge=r) for r in (0.0, "auto")}
    estimates = {r: error(as_matrix(operator)) for r, operator in operators.items()}
    prior = error(float(operators[0.0].scale) * np.eye(D))
    assert estimates["auto"] < min(1.2 * estimates[0.0] + 1e-3, 1.02 * prior)


def test_leaves_and_frozen_leaves():
    params = {"a": jnp.zeros(3), "b": jnp.zeros((1, 2)), "frozen": jnp.zeros(2)}
    mask = {"a": True, "b": True, "frozen": False}

    def f(p):
        x = jnp.concatenate([p["a"], p["b"].ravel()])
        return x @ jnp.asarray(H[:5, :5]) @ x / 2 + jnp.sum(x) + jnp.sum(p["frozen"])

    @jax.jit
    def estimates():
        queries = zo.query(
            f,
            params,
            jax.random.key(0),
            num_directions=20,
            radius=0.1,
            stencil=PAIRS,
            directions=zo.directions.masked(zo.directions.gaussian(), mask),
        )
        hessian = interpolated_hessian(queries, params)
        return interpolated_gradient(queries, params), hessian.as_matrix()

    gradient, matrix = estimates()
    np.testing.assert_allclose(gradient["a"], np.ones(3), rtol=1e-8)
    np.testing.assert_allclose(gradient["b"], np.ones((1, 2)), rtol=1e-8)
    np.testing.assert_array_equal(gradient["frozen"], np.zeros(2))
    np.testing.assert_allclose(matrix[:5, :5], H[:5, :5], rtol=1e-6, atol=1e-6)
    assert not np.any(matrix[5:])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interpolated_hessian(ask(3, zo.stencils.central()), X), "needs pairs and f"),
        (lambda: interpolated_hessian(ask(3), X, prior="identity"), "prior must be 'trace'"),
        (lambda: interpolated_hessian(ask(3), X, ridge=-1.0), r"ridge must be .* got -1\.0"),
        (lambda: interpolated_gradient(ask(3), X, ridge="some"), "ridge must be .* got 'some'"),
        (lambda: interpolated_gradient(ask(3), X, prior=jnp.zeros(3)), "prior must be a tree"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
