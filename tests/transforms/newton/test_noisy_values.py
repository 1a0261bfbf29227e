"""The optimisers without a learning rate on values that are noisy, told or not, or missing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from zovh_jax.estimators.trace import TraceEstimate
from zovh_jax.transforms.newton.noise import Asked, Noise, NoiseRules

pytestmark = pytest.mark.usefixtures("fast_compilation")
D, K = 20, 8


def run(optimizer, f, x, num_steps, num_seeds):
    """Final parameters and states, over keys; f takes θ, the round's key and its number.

    One run after the other: for a batch, JAX compiles and evaluates both sides of every choice.
    """

    def one(seed):
        def body(carry, t):
            x, state = carry
            key = jax.random.fold_in(jax.random.key(seed), t)
            value_fn = functools.partial(f, key=key, t=t)
            updates, state = optimizer.update(None, state, x, value_fn=value_fn)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(body, (x, optimizer.init(x)), jnp.arange(num_steps))[0]

    return jax.lax.map(one, jnp.arange(num_seeds))


def least_squares():
    """In numpy: whoever collects the tests would compile it otherwise."""
    rng = np.random.default_rng(0)
    a = rng.standard_normal((512, D))
    return np.float32(a), np.float32(a @ rng.standard_normal(D) + 0.5 * rng.standard_normal(512))


A, B = least_squares()


def on_rows(x, rows):
    return jnp.mean(jnp.square(jnp.asarray(A)[rows] @ x - jnp.asarray(B)[rows]))


def mean_square(x):
    """The whole objective, for parameters in the last axis."""
    return np.mean(np.square(np.asarray(x) @ A.T - B), -1)


def batch(x, key, t):
    return on_rows(x, jax.random.choice(key, 512, (16,), replace=False))


@pytest.mark.parametrize(
    "make", [zo.scalar_newton, pytest.param(zo.diagonal_newton, marks=pytest.mark.slow)]
)
def test_minibatches_without_a_learning_rate(make):
    """As good as the best of four rates, which are chosen on the seeds that are compared."""
    x = jnp.zeros(D)

    def rival(rate):
        zoar = zo.zoar(rate, num_directions=K, radius=1e-2, key=jax.random.key(4), history_size=1)
        return run(zoar, batch, x, 330, 3)[0]

    found, states = jax.jit(lambda: run(make(K, 0.1, key=jax.random.key(5)), batch, x, 300, 3))()
    rivals = jax.jit(lambda rates: jax.lax.map(rival, rates))(np.array([0.005, 0.01, 0.02, 0.04]))
    left = np.median(mean_square(found))
    assert left < 1.2 * np.median(mean_square(rivals), 1).min()
    noise = states.trust.noise
    assert np.all(noise.found) and np.all(
        noise.level < 3e-3
    )  # all queries of a round share a batch
    # K + 1 queries a round, two more in the first 24 noisy ones and in every other later; and where
    # a batch's value is much above the last one's.
    later = np.asarray(noise.num_rounds) - 24
    assert np.all(later > 200)
    more = 2 * (24 + -(-later // 2))
    alarms = np.asarray(states.counts.num_queries) - 300 * (K + 1) - more
    assert np.all((alarms >= 0) & (alarms <= 10) & (alarms % 2 == 0))


def own_noise(x, key):
    """A normal number for each point that is asked, the same whenever it is asked in a round."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.random.normal(jax.random.fold_in(key, jnp.sum(bits * jnp.arange(1, D + 1))))


def bowl(x, flatter):
    """Around 1; it may get flatter and flatter farther away."""
    squares = jnp.square(x - 1)
    return jnp.where(flatter, 10 * jnp.log1p(jnp.sum(squares, -1)), jnp.mean(squares, -1))


@jax.jit
def on_a_noisy_bowl(sd, told, end, flatter):
    """Eight runs of 300 steps, with noise of sd before the step that is its end."""

    def f(x, key, t):
        return bowl(x, flatter) + jnp.where(t < end, sd, 0.0) * own_noise(x, key)

    optimizer = zo.scalar_newton(K, 0.3, key=jax.random.key(1), noise=told)
    return run(optimizer, f, jnp.zeros(D), 300, 8)


@pytest.mark.parametrize(("sd", "told"), [(0.1, 0.0), (0.01, 0.0), (0.1, 1.0), (0.0, 0.3)])
def test_noise_of_each_value(sd, told):
    """It is measured, whatever was told, and f stays below where it began."""
    x, states = on_a_noisy_bowl(sd, told, 300, False)
    left = np.mean(np.square(x - 1), 1)  # from 1
    assert np.all(left < 0.5) and np.median(left) < 1e-3 + 0.2 * sd
    noise = states.trust.noise
    assert np.all(noise.found == (sd > 0))
    assert np.all(noise.level < 2 * sd + 1e-9) and np.all(noise.level > sd / 4 - 1e-9)


@pytest.mark.parametrize("sd", [0.45, 0.6])
def test_noise_where_the_function_gets_flatter_farther_away(sd):
    """Steps must not grow for ever where noise hides the curvature."""
    x, _ = on_a_noisy_bowl(sd, 0.0, 300, True)
    assert np.all(bowl(x, True) < 0.03 * bowl(jnp.zeros(D), True))


def test_to_be_told_nothing_is_to_begin_at_zero():
    """As `test_noise_of_each_value` tells it: one program for all of its cases."""
    auto, zero = (
        zo.scalar_newton(K, 0.3, key=jax.random.key(1), noise=told).init(np.zeros(D)).trust
        for told in ("auto", jnp.asarray(0.0))
    )
    assert jax.tree.structure(auto) == jax.tree.structure(zero)
    jax.tree.map(np.testing.assert_array_equal, auto, zero)


@jax.jit
def on_holes(case, x):
    """Three runs of 100 steps on exact values, missing beyond a wall (0) or here and there (1)."""

    def f(x, key, t):
        bowl = jnp.sum(jnp.square(x - 3)) + 30 * jnp.abs(x[0])
        walled = jnp.where(jnp.sum(jnp.square(x)) > D + 0.5, jnp.nan, bowl)
        lost = own_noise(x, jax.random.key(9)) < -0.53
        return jnp.where(case == 0, walled, jnp.where(lost, jnp.nan, jnp.sum(jnp.square(x - 1))))

    return run(zo.scalar_newton(K, 0.1, key=jax.random.key(0)), f, x, 100, 3)


def test_exact_values_cost_nothing_more():
    """Noise is never found where exact values make steps fail, at a wall and at a fold."""
    _, states = on_holes(0, np.ones(D))
    assert np.all(states.trust.num_undone > 3) and not np.any(states.trust.noise.found)
    assert np.all(states.counts.num_queries == 100 * (K + 1))


def test_noise_that_ends_is_forgotten():
    x, states = on_a_noisy_bowl(0.1, 0.0, 60, False)
    assert not np.any(states.trust.noise.found)
    assert np.all(states.counts.num_queries > 300 * (K + 1))  # it was found before
    assert np.all(np.abs(x - 1) < 1e-3)


def test_a_third_of_the_values_missing():
    """f(θ) among them: a step is not taken for a failure, and steps stay as long."""
    x, states = on_holes(1, np.zeros(D))
    assert np.all(np.sum(np.square(x - 1), 1) < 1e-2)
    assert np.all(states.counts.num_nonfinite > 200) and np.all(states.trust.num_undone > 10)


def test_the_multiple_is_a_pessimistic_ratio_of_averages():
    """From slopes and curvatures along trails of given lengths, against float64 sums."""
    share, n = 0.1, 30
    rules = NoiseRules(share=share, rounding=1e-7)
    noise = Noise.init(0.0)._replace(found=jnp.array(True), num_rounds=jnp.array(4 * n))
    rng = np.random.default_rng(0)
    alphas, kappas, weights = [], [], []
    usual = 4.0
    for _ in range(300):
        m, square = rng.uniform(0.01, 0.02), rng.uniform(1, 8)
        alpha, kappa = rng.normal(0.04, 0.03), rng.normal(2.0, 0.5)
        noise = noise._replace(
            mean_multiple=jnp.asarray(m), trail=jnp.asarray(square), usual=jnp.asarray(usual)
        )
        asked = Asked(*map(jnp.asarray, (False, 1.0, False, m**2 * square)))
        noise = rules._probed(noise, asked, -alpha * m * square, kappa * m**2 * square)
        alphas.append(alpha), kappas.append(kappa), weights.append(square / usual)
    decays = np.exp(-1 / (2 * n)) ** np.arange(300)[::-1] * np.asarray(weights)
    total = decays.sum()
    alpha, kappa = decays @ alphas / total, decays @ kappas / total
    rest = np.sum(np.square(decays * (np.asarray(alphas) - alpha)))
    number = total**2 / np.sum(np.square(decays))
    error = np.sqrt(rest * number / (number - 1)) / total
    assert 0.0 < 2 * error < alpha < share
    wanted = (alpha - 2 * error) / kappa

    def multiple(last, noise=noise):
        return rules.multiple(
            noise._replace(multiple=jnp.asarray(last)),
            TraceEstimate(jnp.asarray(1.0), jnp.asarray(0.1)),
            1.0,
        )

    np.testing.assert_allclose(multiple(wanted), wanted, rtol=1e-3)
    # It changes slowly.
    np.testing.assert_allclose(multiple(wanted / 9), wanted / 6, rtol=1e-5)
    np.testing.assert_allclose(multiple(wanted * 9), wanted * 6, rtol=1e-5)
    # An estimate that is all error is believed up to the first steps' α, and never below the least.
    ways = noise.ways
    lost = noise._replace(ways=ways._replace(sums=ways.sums * jnp.array([1e-3, 1])))
    np.testing.assert_allclose(multiple(0.0005, lost), 0.01 * share / kappa, rtol=1e-2)
    turned, turned_2 = jnp.array([-100, 1]), jnp.array([1e4, 1])
    uphill = noise._replace(
        ways=ways._replace(
            sums=turned * ways.sums, mixed=turned * ways.mixed, squares=turned_2 * ways.squares
        )
    )
    np.testing.assert_allclose(multiple(0.00005, uphill), 0.001 * share / kappa, rtol=1e-2)
    # Without curvature it grows, while the average along the way keeps up.
    bent = ways.sums * jnp.array([1, -1])
    flat = noise._replace(ways=ways._replace(sums=bent), mean_multiple=jnp.asarray(0.01))
    # So it does where curvature is small and unsure, whatever α/κ is.
    bent = ways.sums * jnp.array([1, 1e-3])
    unsure = noise._replace(ways=ways._replace(sums=bent), mean_multiple=jnp.asarray(0.01))
    for last, expected in ((0.01, 0.015), (0.016, 0.02), (0.03, 0.03)):
        trace = TraceEstimate(jnp.asarray(1.0), jnp.asarray(1.0))
        for known in (flat, unsure):
            found = rules.multiple(known._replace(multiple=jnp.asarray(last)), trace, 1.0)
            np.testing.assert_allclose(found, expected, rtol=1e-5)
    # A larger one waits for the round before one that asks.
    odd = flat._replace(num_rounds=flat.num_rounds + 1, multiple=jnp.asarray(0.01))
    assert not odd.asks
    np.testing.assert_allclose(rules.multiple(odd, trace, 1.0), 0.01, rtol=1e-5)


def test_a_single_way_is_believed():
    """One that leads uphill makes the least step, where steps begin anew after harm."""
    rules, m = NoiseRules(share=0.1, rounding=1e-7), 5e-5
    noise = Noise.init(0.0)._replace(found=jnp.array(True), num_rounds=jnp.array(40))
    noise = noise._replace(
        usual=jnp.asarray(1.0), multiple=jnp.asarray(m), mean_multiple=jnp.asarray(m)
    )
    asked = Asked(*map(jnp.asarray, (False, 1.0, False, m**2)))
    one = rules._probed(noise, asked, 0.08 * m, 2.0 * m**2)
    np.testing.assert_allclose(one.ways.means, [-0.08, 2.0], rtol=1e-5)
    assert np.all(one.ways.errors < 0.05 * np.abs(one.ways.means))
    unknown = TraceEstimate(jnp.asarray(0.0), jnp.asarray(jnp.inf))
    np.testing.assert_allclose(rules.multiple(one, unknown, 1.0), 0.001 * 0.1 / 2, rtol=0.01)


def test_a_wild_gradient_is_cut():
    rules = NoiseRules(share=0.1, rounding=1e-7)
    noise = Noise.init(0.0)._replace(usual=jnp.asarray(4.0))
    cuts = [rules.cut(noise, jnp.asarray(square)) for square in (0.0, 4.0, 16.0, 64.0)]
    np.testing.assert_allclose(cuts, [1, 1, 1, 0.5], rtol=1e-6)


@pytest.mark.parametrize(
    ("make", "worst"),
    [(zo.scalar_newton, 1.0), pytest.param(zo.low_rank_newton, 2.0, marks=pytest.mark.slow)],
)
def test_a_batch_of_one_is_no_catastrophe(make, worst):
    """The signal in a round is a hundredth of its noise: steps are judged along many rounds."""
    d = 100
    a = jax.random.normal(jax.random.key(0), (400, d))
    b = a @ jnp.ones(d)

    def f(x, key, t):
        row = jax.random.randint(key, (), 0, 400)
        return jnp.square(a[row] @ x - b[row])

    optimizer = make(K, 0.1, key=jax.random.key(1))
    x, states = jax.jit(lambda: run(optimizer, f, jnp.zeros(d), 500, 4))()
    left = np.mean(np.square(a @ x.T - b[:, None]), 0) / np.mean(np.square(b))
    assert np.all(left < worst) and np.median(left) < 1.0
    assert np.all(states.trust.noise.found)


@pytest.mark.parametrize(
    "make", [zo.scalar_newton, pytest.param(zo.diagonal_newton, marks=pytest.mark.slow)]
)
def test_batches_that_differ_by_hundreds_lead_nowhere_bad(make):
    """Examples' weights have heavy tails, and so have the traces of batches of one."""
    d = 100
    a = jax.random.normal(jax.random.key(0), (1000, d)) * jnp.logspace(0, -1, d)
    b = a @ jnp.ones(d) + 0.1 * jax.random.normal(jax.random.key(9), (1000,))
    weights = jnp.exp(2 * jax.random.normal(jax.random.key(3), (1000,)))

    def f(x, key, t):
        row = jax.random.randint(key, (), 0, 1000)
        return weights[row] * jnp.square(a[row] @ x - b[row])

    optimizer = make(K, 0.1, key=jax.random.key(0))
    x, _ = jax.jit(lambda: run(optimizer, f, jnp.zeros(d), 1000, 6))()
    squares = np.mean(np.square(a @ x.T - b[:, None]) * weights[:, None], 0)
    left = squares / np.mean(np.square(b) * weights)
    assert np.all(left < 2) and np.median(left) < 0.8


def test_a_way_that_did_harm_is_taken_back():
    """f is nearly flat, then steep: steps grow, and those that lead too far are taken back."""
    x = jnp.zeros(200)

    def f(x, key, t):
        far = jnp.maximum(jnp.linalg.norm(x) - 3, 0)
        return 0.02 * jax.random.normal(key) - jnp.sum(x) / 140 + far**12

    optimizer = zo.scalar_newton(K, 1e-2, key=jax.random.key(0))
    ends, states = jax.jit(lambda: run(optimizer, f, x, 300, 6))()
    assert np.all(states.trust.noise.found) and np.any(states.trust.num_undone > 1)
    assert np.all(np.linalg.norm(ends, axis=1) < 4) and np.all(states.trust.radius < 1)


def test_rounds_without_values_teach_nothing_of_noise():
    """f is not a number in the first thirty rounds, which count for none in its usual changes."""

    def late(x, key, t):
        return jnp.where(t < 30, jnp.nan, batch(x, key, t))

    optimizer = zo.scalar_newton(K, 0.1, key=jax.random.key(5), noise=1e-4)
    ends, states = jax.jit(lambda: run(optimizer, late, jnp.zeros(D), 330, 3))()
    plain, _ = jax.jit(lambda: run(optimizer, batch, jnp.zeros(D), 300, 3))()
    assert np.median(mean_square(ends)) < 1.3 * np.median(mean_square(plain))
    assert np.all(states.trust.noise.swing > 0)


@pytest.mark.parametrize("told", [-1.0, jnp.nan])
def test_levels_that_mean_nothing(told):
    with pytest.raises(ValueError, match="noise"):
        zo.scalar_newton(K, 0.1, key=jax.random.key(0), noise=told)


@pytest.mark.slow
def test_no_run_leaves_for_a_plateau():
    """Adapters in a saturating network, on batches of four: of 48 runs seven once ended higher."""
    width, num_layers, rank, num_examples = 32, 3, 4, 512
    rng = np.random.default_rng(0)
    weights = np.float32(rng.standard_normal((num_layers, width, width)) / np.sqrt(width))
    head = np.float32(rng.standard_normal((width, 2)) * 3 / np.sqrt(width))
    inputs = np.float32(rng.standard_normal((num_examples, width)))
    shapes = (num_layers, width, rank), (num_layers, rank, width)
    teacher = [np.float32(rng.standard_normal(shape)) for shape in shapes]
    teacher = [teacher[0] / np.sqrt(width), teacher[1] / 2]
    entries = rng.uniform(-1, 1, shapes[0]) * np.sqrt(6 / width)
    start = [np.float32(entries), np.zeros(shapes[1], np.float32)]

    def logits(params, x):
        for w, a, b in zip(weights, *params, strict=True):
            x = x / 2 + jnp.tanh(x @ w + x @ a @ b)
            x = x / jnp.sqrt(jnp.mean(jnp.square(x), -1, keepdims=True))
        return x @ head

    labels = jnp.argmax(logits(teacher, inputs), -1)

    def loss(params, rows):
        biased = logits(params, jnp.asarray(inputs)[rows]) + jnp.array([0.0, 3.0])
        return optax.softmax_cross_entropy_with_integer_labels(biased, labels[rows]).mean()

    def f(params, key, t):
        return loss(params, jax.random.randint(key, (4,), 0, num_examples))

    optimizer = zo.scalar_newton(K, 1e-3, key=jax.random.key(5))
    every = jnp.arange(num_examples)
    params, _ = jax.jit(lambda: run(optimizer, f, start, 200, 48))()
    ends = jax.jit(jax.vmap(loss, (0, None)))(params, every) / loss(start, every)
    assert jnp.median(ends) < 0.75 and jnp.sum(ends > 1) <= 1, jnp.sort(ends)
