"""The optimisers without a learning rate on values that are noisy, told or not, or missing."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from zovh_jax.transforms.newton.noise import Noise, NoiseRules

pytestmark = pytest.mark.usefixtures("fast_compilation")
D, K = 20, 8


def run(optimizer, f, x, num_steps, seeds):
    """Final parameters and states, over keys; f takes θ, the round's key and its number."""

    def one(seed):
        def body(carry, t):
            x, state = carry
            key = jax.random.fold_in(jax.random.key(seed), t)
            value_fn = functools.partial(f, key=key, t=t)
            updates, state = optimizer.update(None, state, x, value_fn=value_fn)
            return (optax.apply_updates(x, updates), state), None

        return jax.lax.scan(body, (x, optimizer.init(x)), jnp.arange(num_steps))[0]

    return jax.jit(jax.vmap(one))(jnp.arange(*seeds))


def least_squares():
    keys = jax.random.split(jax.random.key(0), 3)
    a = jax.random.normal(keys[0], (512, D))
    return a, a @ jax.random.normal(keys[1], (D,)) + 0.5 * jax.random.normal(keys[2], (512,))


A, B = least_squares()


def on_rows(x, rows):
    return jnp.mean(jnp.square(A[rows] @ x - B[rows]))


def batch(x, key, t):
    return on_rows(x, jax.random.choice(key, 512, (16,), replace=False))


@pytest.mark.parametrize(
    "make", [zo.scalar_newton, pytest.param(zo.diagonal_newton, marks=pytest.mark.slow)]
)
def test_minibatches_without_a_learning_rate(make):
    """As good as the best of four rates, which are chosen on the seeds that are compared."""
    x, seeds = jnp.zeros(D), (0, 3)
    optimizer = make(K, 0.1, key=jax.random.key(5))
    found, states = run(optimizer, batch, x, 300, seeds)
    rivals = []
    for rate in (0.005, 0.01, 0.02, 0.04):
        rival = zo.zoar(rate, num_directions=K, radius=1e-2, key=jax.random.key(4), history_size=1)
        rivals.append(
            np.median(
                jax.vmap(lambda x: on_rows(x, slice(None)))(run(rival, batch, x, 330, seeds)[0])
            )
        )
    left = np.asarray(jax.vmap(lambda x: on_rows(x, slice(None)))(found))
    assert np.median(left) < 1.2 * min(rivals)
    noise = states.trust.noise
    assert np.all(noise.found) and np.all(
        noise.level < 1e-3
    )  # all queries of a round share a batch
    # K + 1 queries a round and two more in each noisy one, none elsewhere.
    np.testing.assert_array_equal(
        states.counts.num_queries, 300 * (K + 1) + 2 * np.asarray(noise.num_rounds)
    )


def own_noise(x, key):
    """A normal number for each point that is asked, the same whenever it is asked in a round."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    return jax.random.normal(jax.random.fold_in(key, jnp.sum(bits * jnp.arange(1, D + 1))))


def noisy_bowl(sd):
    def f(x, key, t):
        return jnp.mean(jnp.square(x - 1)) + sd * own_noise(x, key)

    return f


@pytest.mark.parametrize(("sd", "told"), [(0.1, "auto"), (0.01, 0.1), (0.0, 0.3)])
def test_noise_of_each_value(sd, told):
    """It is measured, whatever was told, and f stays below where it began."""
    optimizer = zo.scalar_newton(K, 0.3, key=jax.random.key(1), noise=told)
    x, states = run(optimizer, noisy_bowl(sd), jnp.zeros(D), 300, (0, 3))
    assert np.all(np.mean(np.square(x - 1), 1) < max(0.1, 2 * sd))
    noise = states.trust.noise
    assert np.all(noise.found == (sd > 0))
    assert np.all(noise.level < 2 * sd + 1e-9) and np.all(noise.level > sd / 4 - 1e-9)


def test_exact_values_cost_nothing_more():
    """Noise is never found where exact values make steps fail, at a wall and at a fold."""

    def f(x, key, t):
        bowl = jnp.sum(jnp.square(x - 3)) + 30 * jnp.abs(x[0])
        return jnp.where(jnp.sum(jnp.square(x)) > D + 0.5, jnp.nan, bowl)

    optimizer = zo.scalar_newton(K, 0.1, key=jax.random.key(0))
    _, states = run(optimizer, f, jnp.ones(D), 100, (0, 1))
    assert np.all(states.trust.num_undone > 3) and not np.any(states.trust.noise.found)
    assert np.all(states.counts.num_queries == 100 * (K + 1))


def test_noise_that_ends_is_forgotten():
    def f(x, key, t):
        return noisy_bowl(jnp.where(t < 60, 0.1, 0.0))(x, key, t)

    optimizer = zo.scalar_newton(K, 0.3, key=jax.random.key(1))
    x, states = run(optimizer, f, jnp.zeros(D), 300, (0, 2))
    assert not np.any(states.trust.noise.found) and np.all(states.trust.noise.num_rounds > 0)
    assert np.all(np.abs(x - 1) < 1e-3)


def test_a_third_of_the_values_missing():
    """f(θ) among them: a step is not taken for a failure, and steps stay as long."""

    def f(x, key, t):
        lost = own_noise(x, jax.random.key(9)) < -0.53
        return jnp.where(lost, jnp.nan, jnp.sum(jnp.square(x - 1)))

    optimizer = zo.scalar_newton(K, 0.1, key=jax.random.key(0))
    x, states = run(optimizer, f, jnp.zeros(D), 100, (0, 3))
    assert np.all(np.sum(np.square(x - 1), 1) < 1e-2)
    assert np.all(states.counts.num_nonfinite > 200) and np.all(states.trust.num_undone > 10)


def test_the_multiple_is_the_ratio_of_averages():
    """From slopes and curvatures along steps of given lengths, with the shares that they had."""
    rules = NoiseRules(share=0.1, decay=0.9, rounding=1e-7)
    noise = Noise.init(0.0)._replace(found=jnp.array(True), num_rounds=jnp.array(9))
    rng = np.random.default_rng(0)
    alphas, kappas, weights = [], [], []
    usual = 4.0
    for _ in range(300):
        m, square = rng.uniform(0.01, 0.02), rng.uniform(1, 8)
        alpha, kappa = rng.normal(0.06, 0.03), rng.normal(2.0, 0.5)
        noise = noise._replace(
            multiple=jnp.asarray(m), square=jnp.asarray(square), usual=jnp.asarray(usual)
        )
        noise = rules._probed(noise, -alpha * m * square, kappa * m**2 * square)
        alphas.append(alpha), kappas.append(kappa), weights.append(square / usual)
    decays = 0.1 * 0.9 ** np.arange(300)[::-1] * np.asarray(weights)
    alpha, kappa = decays @ alphas, decays @ kappas
    prior = 20 * 0.1
    wanted = (alpha + prior * 0.05 * 0.1) / (decays.sum() + prior) / (kappa / decays.sum())
    found = rules.multiple(noise._replace(multiple=jnp.asarray(wanted)), jnp.asarray(4.0), 1.0, 1.0)
    np.testing.assert_allclose(found, wanted, rtol=1e-4)
    # It changes slowly, and a wild gradient is cut.
    slow = rules.multiple(
        noise._replace(multiple=jnp.asarray(wanted / 9)), jnp.asarray(4.0), 1.0, 1.0
    )
    np.testing.assert_allclose(slow, wanted / 6, rtol=1e-4)
    cut = rules.multiple(noise._replace(multiple=jnp.asarray(wanted)), jnp.asarray(64.0), 1.0, 1.0)
    np.testing.assert_allclose(cut, wanted / 2, rtol=1e-4)


@pytest.mark.parametrize("told", [-1.0, jnp.nan])
def test_levels_that_mean_nothing(told):
    with pytest.raises(ValueError, match="noise"):
        zo.scalar_newton(K, 0.1, key=jax.random.key(0), noise=told)
