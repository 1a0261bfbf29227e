"""How past rounds are weighed: recentring, density ratios, discounts, levels; decoupled halves."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled_run
from scipy import stats

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")
D, K, N, RADIUS = 3, 4, 3, 0.5


def quadratic(x):
    return jnp.sum(jnp.array([1.0, 2.0, 0.5]) * x**2) + jnp.sum(x) * 0.3


def make_history(path, k=K, size=N, f=quadratic, key=0, centers=True, **options):
    """Rounds made around the points of a path, the last one being the current."""
    path = [jnp.asarray(x, float) for x in path]
    history = zo.History.init(
        path[0], size=size, num_directions=k, centers=centers, block_size=k, **options
    )
    for i, x in enumerate(path):
        round_key = jax.random.fold_in(jax.random.key(key), i)
        queries = zo.query(f, x, round_key, num_directions=k, radius=RADIUS)
        history = history.push(queries, x if centers else None)
    return history, path[-1]


PATH = [[0.5, -0.2, 0.3], [0.45, -0.1, 0.25], [0.4, -0.1, 0.1], [0.38, -0.05, 0.12]]


@pytest.mark.parametrize("steps", [2, 4])
def test_recentred_points_are_where_they_were(steps):
    history, x = jax.jit(lambda: make_history(PATH[:steps]))()
    drawn = history.queries().plan.draw(x)
    seen = history.recentered(x).plan.draw(x)
    for slot in range(min(steps, N)):
        age = int(history.ages[slot])
        assert age == (steps - 1 - slot) % N
        center = np.asarray(PATH[steps - 1 - age])
        rows = slice(slot * K, slot * K + K)
        points = center + RADIUS * drawn[rows]
        np.testing.assert_allclose(x + RADIUS * seen[rows], points, rtol=1e-14)


def test_every_reduction_sees_the_shift():
    history, x = make_history(PATH)
    plan = history.recentered(x).plan
    rows, structure = (
        np.asarray(plan.draw(x)),
        zo.estimators.hessian(history.queries(), x).layout,
    )
    c = np.linspace(-1, 1, N * K)
    v = np.arange(1.0, D + 1)
    np.testing.assert_allclose(plan.combine(c, structure)[0], c @ rows, rtol=1e-13)
    np.testing.assert_allclose(plan.gram(structure)[..., 0], rows @ rows.T, rtol=1e-13)
    dots, squares = plan.inner([jnp.asarray(v)], structure)
    np.testing.assert_allclose(dots[:, 0], rows @ v, rtol=1e-13)
    np.testing.assert_allclose(squares[:, 0], np.sum(rows**2, 1), rtol=1e-13)


def test_density_ratios_are_those_of_the_two_policies():
    history, x = make_history(PATH)
    queries = history.recentered(x)
    points = x + RADIUS * queries.plan.draw(x)
    by_slot = [PATH[3 - int(age)] for age in history.ages]
    for slot, center in enumerate(by_slot):
        rows = slice(slot * K, slot * K + K)
        new, old = (
            stats.multivariate_normal(np.asarray(c), RADIUS**2).pdf(points[rows])
            for c in (x, center)
        )
        ratios = zo.reuse.density_ratios(queries, x)
        np.testing.assert_allclose(ratios[rows], new / old, rtol=1e-10)


def estimates(reuse, runs=4000):
    """Gradients from two far-apart rounds, for many keys, and the true smoothed gradient."""
    path = [[0.5, -0.2, 0.3], [0.3, 0.0, 0.1]]

    def make(key):
        x = jnp.asarray(path[0])
        history = zo.History.init(x, size=2, num_directions=40, centers=True, block_size=40)
        for i, point in enumerate(path):
            point = jnp.asarray(point)
            queries = zo.query(
                quadratic, point, jax.random.fold_in(key, i), num_directions=40, radius=RADIUS
            )
            history = history.push(queries, point)
        return zo.estimators.gradient(reuse.apply(history, point), point)

    samples = jax.jit(jax.vmap(make))(jax.random.split(jax.random.key(3), runs))
    return np.asarray(samples), np.asarray(jax.grad(quadratic)(jnp.asarray(path[-1])))


@pytest.mark.slow
def test_importance_removes_the_bias_of_old_rounds():
    reuse = zo.reuse.importance(clip=float("inf"), min_effective=0.0)
    samples, expected = estimates(reuse)
    error = samples.std(0) / np.sqrt(len(samples))
    assert np.max(error) < 0.01
    # Self-normalisation leaves a bias of order 1/n, n = 80.
    assert np.all(np.abs(samples.mean(0) - expected) < 5 * error + 0.02)
    plain, _ = estimates(zo.reuse.uniform())
    assert np.max(np.abs(plain.mean(0) - expected)) > 0.2
    alone, _ = estimates(zo.reuse.discounted(0.0))
    assert samples.var(0).sum() < 0.9 * alone.var(0).sum()


@pytest.mark.parametrize("far", [False, True])
def test_importance_gates_on_the_effective_sample_size(far):
    path = [[9.0, 9, 9] if far else PATH[0], PATH[1]]
    history, x = make_history(path, size=2)
    queries = zo.reuse.importance(min_effective=0.6).apply(history, x)
    current = np.repeat(np.asarray(history.ages) == 0, K)
    if far:
        np.testing.assert_array_equal(queries.weights, current)
        alone = zo.query(
            quadratic, x, jax.random.fold_in(jax.random.key(0), 1), num_directions=K, radius=RADIUS
        )
        np.testing.assert_allclose(
            zo.estimators.gradient(queries, x), zo.estimators.gradient(alone, x), rtol=1e-12
        )
    else:
        assert np.all(np.asarray(queries.weights)[~current] > 0)


def test_importance_clips():
    history, x = make_history([PATH[0], [0.4, 0.0, 0.0]], size=2)
    free = zo.reuse.importance(clip=float("inf"), min_effective=0).apply(history, x).weights
    clipped = zo.reuse.importance(clip=1.5, min_effective=0).apply(history, x).weights
    assert np.max(free) > 1.5
    np.testing.assert_allclose(clipped, np.minimum(free, 1.5))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_discounted_gradient_is_the_written_sum(steps):
    history, x = make_history((PATH * 2)[:steps], centers=False)
    queries = zo.reuse.discounted(0.5).apply(history, x)
    u = np.asarray(history.queries().plan.draw(x))
    valid = np.asarray(history.queries().valid)
    w = np.where(valid, 0.5 ** np.repeat(np.asarray(history.ages), K), 0)
    f = np.where(valid, history.queries().values.ravel(), 0)
    w *= valid.sum() / w.sum()
    n = valid.sum()
    c = w * (f - w @ f / n) / (n - w @ w / n)
    expected = c @ np.where(valid[:, None], u, 0) / RADIUS
    np.testing.assert_allclose(zo.estimators.gradient(queries, x), expected, rtol=1e-12)


def test_discounted_at_one_is_uniform_and_at_zero_is_no_reuse():
    history, x = make_history(PATH, centers=False)
    direction = jax.jit(lambda queries: zo.estimators.newton_direction(queries, x, damping=1.0))
    one, zero, uniform = (
        direction(rule.apply(history, x))
        for rule in (zo.reuse.discounted(1.0), zo.reuse.discounted(0.0), zo.reuse.uniform())
    )
    np.testing.assert_allclose(one, uniform, rtol=1e-12)
    key = jax.random.fold_in(jax.random.key(0), 3)
    alone = zo.query(quadratic, x, key, num_directions=K, radius=RADIUS)
    expected = direction(alone)
    np.testing.assert_allclose(zero, expected, rtol=1e-12)


def test_weighted_hessian_keeps_a_constant_out():
    history, x = make_history(PATH, centers=False)
    shifted, _ = make_history(PATH, centers=False, f=lambda x: quadratic(x) + 100)
    rule = zo.reuse.discounted(0.5)
    first, second = (
        zo.estimators.hessian(rule.apply(h, x), x).as_matrix() for h in (history, shifted)
    )
    np.testing.assert_allclose(first, second, rtol=1e-9)


def test_adaptive_follows_the_level():
    def by_round(levels):
        values = iter(levels)
        history = zo.History.init(jnp.zeros(D), size=N, num_directions=K)
        for i in range(N):
            level = next(values)
            queries = zo.query(
                lambda x, level=level: jnp.sum(x) + level,
                jnp.zeros(D),
                jax.random.fold_in(jax.random.key(1), i),
                num_directions=K,
                radius=RADIUS,
            )
            history = history.push(queries)
        return np.asarray(zo.reuse.adaptive().apply(history, None).weights).reshape(N, K)[:, 0]

    still = by_round([0.0, 0.0, 0.0])
    assert np.all(still > 0.3) and still[-1] == 1
    moving = by_round([60.0, 20.0, 0.0])
    assert moving[0] < 0.01 and moving[0] < moving[1] < 0.1 and moving[-1] == 1


@functools.cache
def end_of_a_fast_fall(rule):
    """‖x‖² after 300 steps that are far longer than the radius, from 450."""
    optimizer = zo.zoar(
        0.02, num_directions=10, radius=1e-3, key=jax.random.key(0), history_size=6, reuse=rule
    )
    path, _ = compiled_run(optimizer, lambda x: jnp.sum(x**2) / 2, jnp.full(50, 3.0), 300)
    return float(jnp.sum(path[-1] ** 2))


@pytest.mark.parametrize(
    "reuse", [zo.reuse.adaptive(), pytest.param(zo.reuse.importance(), marks=pytest.mark.slow)]
)
def test_fast_falling_objectives_do_not_upset_weighted_reuse(reuse):
    """A common mean over all rounds makes ZoAR blow up."""
    assert not end_of_a_fast_fall(zo.reuse.uniform()) < 450
    assert end_of_a_fast_fall(reuse) < 0.1


def test_decoupled_halves_make_the_gradient_and_the_hessian():
    x, key = jnp.asarray(PATH[0]), jax.random.key(2)
    queries = zo.query(quadratic, x, key, num_directions=9, radius=RADIUS)
    u, f = np.asarray(queries.plan.draw(x)), np.asarray(queries.values)
    even, odd = slice(0, None, 2), slice(1, None, 2)

    def centred(part):
        return (f[part] - f[part].mean()) / (len(f[part]) - 1)

    gradient = centred(even) @ u[even] / RADIUS
    hessian = np.einsum("k,ki,kj->ij", centred(odd), u[odd], u[odd]) / RADIUS**2

    @jax.jit
    def directions(queries):
        options = {"damping": 30.0, "decoupled": True}
        return (
            zo.estimators.newton_direction(queries, x, solver=zo.solvers.woodbury(), **options),
            zo.estimators.newton_direction(
                queries, x, solver=zo.solvers.cg(), bias_correction=False, **options
            ),
        )

    direction, cg = directions(queries)
    expected = np.linalg.solve(hessian + 30 * np.eye(D), gradient)
    np.testing.assert_allclose(direction, expected, rtol=1e-9)
    np.testing.assert_allclose(cg, expected, rtol=1e-5)


def test_decoupled_product_is_unbiased_where_the_inverse_is_linear():
    """At large damping the product is ĝ/λ − Ĥĝ/λ²: independent halves leave no correlation."""
    x, damping = jnp.asarray(PATH[0]), 1e4

    def once(key, decoupled):
        queries = zo.query(quadratic, x, key, num_directions=8, radius=RADIUS)
        direction = zo.estimators.newton_direction(
            queries, x, damping=damping, decoupled=decoupled, bias_correction=False
        )
        half = zo.estimators.newton.split_round(queries)[0] if decoupled else queries
        return damping * (zo.estimators.gradient(half, x) - damping * direction)

    keys = jax.random.split(jax.random.key(5), 40_000)
    expected = np.array([2.0, 4.0, 1.0]) * np.asarray(jax.grad(quadratic)(x))
    for decoupled in (True, False):
        samples = np.asarray(jax.jit(jax.vmap(lambda k, d=decoupled: once(k, d)))(keys))
        error = samples.std(0) / np.sqrt(len(keys))
        off = np.abs(samples.mean(0) - expected) / error
        assert np.all(off < 5) if decoupled else np.max(off) > 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: zo.reuse.discounted(1.5), r"decay must be between 0 and 1, got 1\.5"),
        (lambda: zo.reuse.importance(clip=0.5), r"clip must be 1 or more, got 0\.5"),
        (lambda: zo.reuse.importance(min_effective=2), "min_effective must be between 0 and 1"),
        (lambda: zo.reuse.adaptive(0.0), "tolerance"),
        (
            lambda: zo.zoar(
                0.1,
                num_directions=4,
                radius=0.1,
                key=jax.random.key(0),
                directions=zo.directions.sphere(),
                reuse=zo.reuse.importance(),
            ),
            "needs Gaussian directions and a forward stencil",
        ),
        (
            lambda: zo.zovh(
                0.1,
                num_directions=3,
                radius=0.1,
                damping=1.0,
                key=jax.random.key(0),
                decoupled=True,
            ),
            "num_directions=3, gives 1 queries, and Mean.* needs 2",
        ),
        (
            lambda: make_history(PATH, centers=False)[0].recentered(jnp.zeros(D)),
            "centers=True",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_push_wants_the_center():
    history = zo.History.init(jnp.zeros(D), size=2, num_directions=K, centers=True)
    queries = zo.query(quadratic, jnp.zeros(D), jax.random.key(0), num_directions=K, radius=RADIUS)
    with pytest.raises(TypeError, match=r"push\(queries, params\)"):
        history.push(queries)


RADII = (0.8, 0.2, 0.4)


def mixed(key, noise=0.0, k=3):
    """Rounds of different radii around one θ."""
    x = jnp.asarray(PATH[0])
    history = zo.History.init(x, size=3, num_directions=k)
    for i, radius in enumerate(RADII):
        a, b = jax.random.split(jax.random.fold_in(key, i))
        queries = zo.query(quadratic, x, a, num_directions=k, radius=radius)
        errors = noise * jax.random.normal(b, queries.values.shape)
        history = history.push(
            zo.Queries.from_values(queries.values + errors, plan=queries.plan, radius=radius)
        )
    return history.queries(), x


@pytest.mark.parametrize("weighted", [pytest.param(False, marks=pytest.mark.slow), True])
def test_rounds_of_different_radii_are_unbiased_together(weighted):
    """With the mean over all of them for a baseline: the identity term does not vanish."""

    def one(key):
        queries, x = mixed(key)
        options = {}
        if weighted:
            options = {"weights": queries.radii**4, "self_normalized": True}
        hessian = zo.estimators.hessian(queries, x, **options).as_matrix()
        return zo.estimators.gradient(queries, x, **options), hessian

    keys = jax.random.split(jax.random.key(0), 100_000)
    found = jax.jit(jax.vmap(one))(keys)
    x = jnp.asarray(PATH[0])
    for samples, expected in zip(
        found, (jax.grad(quadratic)(x), jax.hessian(quadratic)(x)), strict=True
    ):
        samples = np.asarray(samples)
        error = samples.std(0) / np.sqrt(len(samples))
        assert np.max(error) < 0.15
        assert np.all(np.abs(samples.mean(0) - expected) < 5 * error)
    if not weighted:  # without the term, half the trace times Σ(1 − F̄_{−k}'s level/own)
        queries, x = mixed(jax.random.key(1))
        plain = zo.estimators.hessian(queries, x, identity_term=False)
        assert float(plain.scale) == 0 != float(zo.estimators.hessian(queries, x).scale)


def test_one_radius_has_no_identity_term():
    history, x = make_history(PATH, centers=False)
    assert float(zo.estimators.hessian(history.queries(), x).scale) == 0


def test_noise_weighs_rounds_by_their_radius():
    """Uniform reuse takes the noise of the smallest radius; weights of μ² and μ⁴ are the best."""

    def one(key, powers):
        queries, x = mixed(key, noise=50.0)
        weights = [queries.radii**p for p in powers]
        return (
            zo.estimators.gradient(queries, x, weights=weights[0], self_normalized=True),
            zo.estimators.hessian(queries, x, weights=weights[1], self_normalized=True).as_matrix(),
        )

    keys = jax.random.split(jax.random.key(0), 4000)
    of_powers = jax.jit(lambda *powers: jax.vmap(lambda key: one(key, powers))(keys))

    def errors(*powers):
        found = of_powers(*map(float, powers))
        return np.array([np.mean(np.asarray(x) ** 2) for x in found])

    uniform, best, beyond = errors(0, 0), errors(2, 4), errors(6, 12)
    assert np.all(best < 0.5 * uniform) and np.all(best < beyond)
    # A round's variance is σ²/μ² or σ²/μ⁴ times its share of the weights squared.
    radii = np.array(RADII)
    for i, power in enumerate((2, 4)):
        spread = lambda w, p=power: np.sum(w**2 / radii**p) / np.sum(w) ** 2  # noqa: E731
        expected = spread(radii**power) / spread(np.ones(3))
        assert abs(best[i] / uniform[i] / expected - 1) < 0.35


def test_levels_between_the_common_mean_and_each_rounds_own():
    """The best linear guess of each round's level; with pairs both values move alike."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((N, K)) + np.array([[0.0], [5.0], [-3.0]])
    values[1, 2] = np.nan
    history, x = make_history(PATH[:N], centers=False)
    rounds = dataclasses.replace(history.rounds, values=jnp.asarray(values))
    found = zo.reuse.levels().apply(dataclasses.replace(history, rounds=rounds), x).values

    known = ~np.isnan(values)
    counts, n = known.sum(1), known.sum()
    means, mean = np.nanmean(values, 1), np.nanmean(values)
    within = np.nansum((values - means[:, None]) ** 2) / (n - N)
    between = np.sum(counts * (means - mean) ** 2) - within * (N - 1)
    variance = max(between, 0) / (n - np.sum(counts**2) / n)
    share = variance / (variance + within / counts)
    level = mean + share * (means - mean)
    own = share / counts + (1 - share) / n
    wanted = mean + (values - level[:, None]) * ((1 - 1 / n) / (1 - own))[:, None]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    assert np.all(share > 0.8)

    pairs = dataclasses.replace(
        rounds, values=jnp.stack([values + 0.3, values - 0.3], -1), stencil=zo.stencils.central()
    )
    both = zo.reuse.levels().apply(dataclasses.replace(history, rounds=pairs), x).values
    np.testing.assert_allclose(both, np.stack([wanted + 0.3, wanted - 0.3], -1), rtol=1e-12)


def test_levels_change_nothing_where_there_is_nothing_to_tell():
    """One direction a round; one level in all rounds; f(θ) for the baseline."""
    history, x = make_history(PATH[:N], k=1, centers=False)
    same = zo.reuse.levels().apply(history, x).values
    np.testing.assert_allclose(same, history.queries().values, rtol=1e-12)
    options = {"num_directions": K, "radius": RADIUS, "key": jax.random.key(0), "history_size": N}
    ends = []
    for rule in (zo.reuse.levels(), zo.reuse.uniform()):
        optimizer = zo.zo_gradient(**options, baseline=zo.baselines.origin(), reuse=rule)
        state = optimizer.init(x)
        step = jax.jit(lambda s, o=optimizer: o.update(None, s, x, value_fn=quadratic))
        for _ in range(2):
            updates, state = step(state)
        ends.append(updates)
    np.testing.assert_array_equal(*ends)


def test_levels_are_safe_where_each_round_has_another_level():
    """At a rate at which no reuse converges; the papers' one mean diverges there."""
    left = {}
    for rule in (zo.reuse.uniform(), zo.reuse.levels()):
        optimizer = zo.zoar(
            0.05, num_directions=K, radius=1e-2, key=jax.random.key(1), history_size=4, reuse=rule
        )

        def body(carry, key, optimizer=optimizer):
            x, state = carry
            level = 10 * jax.random.normal(key)
            updates, state = optimizer.update(
                None, state, x, value_fn=lambda x: quadratic(x) + level
            )
            return (x + updates, state), None

        x = jnp.ones(D)
        keys = jax.random.split(jax.random.key(2), 150)
        (x, _), _ = jax.lax.scan(body, (x, optimizer.init(x)), keys)
        left[rule] = float(quadratic(x) - quadratic(jnp.array([-0.15, -0.075, -0.3])))
    assert left[zo.reuse.levels()] < 1e-3 and not left[zo.reuse.uniform()] < 10
