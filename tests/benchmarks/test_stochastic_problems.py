"""The stochastic problems: their values by hand, and what a batch is."""

import gymnax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.stochastic import inventory as warehouse
from benchmarks.stochastic.inventory import inventory
from benchmarks.stochastic.policies import cartpole, pendulum
from benchmarks.stochastic.problem import ALL, independent
from benchmarks.stochastic.supervised import (
    RIDGE,
    breast_cancer,
    cnn,
    digits,
    least_squares,
    mnist,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")
KEYS = jax.random.split(jax.random.key(5), 4)


def drawn(seed, *shape):
    return np.asarray(jax.random.normal(jax.random.key(seed), shape), np.float64)


def test_least_squares():
    d, x = 5, jnp.linspace(-1, 1, 5)
    features = drawn(0, 512, d)
    targets = features @ drawn(1, d) + 0.5 * drawn(2, 512)
    losses = (features @ np.asarray(x, np.float64) - targets) ** 2
    four, exact = (least_squares(size, d) for size in (4, None))

    @jax.jit
    def ask(x, size):
        values = jax.vmap(lambda key: four.batch(key, size)(x))(KEYS)
        return exact.full(x), exact.batch(KEYS[0])(x), values

    full, quiet, single = ask(x, 1)
    np.testing.assert_allclose([full, quiet, *ask(x, ALL)[2]], losses.mean(), rtol=1e-5)
    # Each is an example's, and a batch is the mean of the examples that are drawn.
    assert np.abs(losses[:, None] - np.asarray(single)).min(0).max() < 1e-5
    assert len(set(np.asarray(single).tolist())) == len(KEYS)
    for size in (1, 2, 4):
        rows = [np.asarray(jax.random.randint(key, (4,), 0, 512))[:size] for key in KEYS]
        np.testing.assert_allclose(ask(x, size)[2], losses[np.stack(rows)].mean(1), rtol=1e-5)
    assert exact.dimension == d and exact.test is None
    with pytest.raises(ValueError, match="batch_size must be from 1 to 512 or None; got 513"):
        least_squares(513)


def test_from_zero_all_classes_are_alike():
    problem = digits(16)
    zero, key = problem.start(KEYS[0]), KEYS[1]
    full, batch, test = jax.jit(
        lambda p: (problem.full(p), problem.batch(key)(p), problem.test(p))
    )(zero)
    np.testing.assert_allclose([full, batch], np.log(10), rtol=1e-5)
    assert problem.dimension == 650
    assert test * 359 == pytest.approx(round(float(test * 359)), abs=1e-3) and 0 < test < 0.2


@pytest.mark.slow
def test_mnist():
    """Both models on the digits, and the network that the attacks attack."""
    assert mnist(None).dimension == 7850 and cnn(64).dimension == 1_199_882
    small = {"channels": (2, 2), "hidden": 4}
    assert cnn(64, pooled=2, **small).dimension == 20 + 38 + (5 * 5 * 2 + 1) * 4 + 50
    for problem in (mnist(64), cnn(64, **small), cnn(64, pooled=2, **small)):
        params = problem.start(KEYS[0])
        both = jax.jit(lambda p, f=problem: (f.full(p), f.batch(jax.random.key(1))(p)))(params)
        np.testing.assert_allclose(both, np.log(10), rtol=0.1)
        assert 0 < problem.test(params) < 0.3


def test_logistic_loss_by_hand():
    from sklearn.datasets import load_breast_cancer

    features, labels = load_breast_cancer(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    (test, train), (truth, y) = (
        (x[order][: len(x) // 5], x[order][len(x) // 5 :]) for x in (features, labels)
    )
    problem = breast_cancer(None)
    params = {name: 0.1 * drawn(4, *x.shape) for name, x in problem.start(KEYS[0]).items()}
    z, unseen = (
        ((x - train.mean(0)) / train.std(0)) @ params["weights"][:, 0] + params["bias"][0]
        for x in (train, test)
    )
    squares = sum((x**2).sum() for x in params.values())
    expected = np.mean(np.log1p(np.exp(-np.where(y == 1, z, -z)))) + RIDGE / 2 * squares
    full, accuracy = jax.jit(lambda p: (problem.full(p), problem.test(p)))(
        jax.tree.map(jnp.float32, params)
    )
    np.testing.assert_allclose(full, expected, rtol=1e-5)
    np.testing.assert_allclose(accuracy, np.mean((unseen > 0) == truth), rtol=1e-6)


def cost_by_hand(levels, key):
    """Mean cost of a period: one item after the other, in float64."""
    d, lead = len(levels), warehouse.LEAD
    mean, owed = np.linspace(0.5, 1.5, d), np.geomspace(3, 20, d)
    common, own = jax.random.split(key)
    z = np.asarray(jax.random.normal(own, (warehouse.NUM_PERIODS, d)), np.float64)
    z += np.asarray(jax.random.normal(common, (warehouse.NUM_PERIODS, 1)), np.float64)
    sigma = warehouse.SPREAD
    demands = mean * np.exp(sigma * z / np.sqrt(2) - sigma**2 / 2)
    stock, coming, total = mean.copy(), [mean.copy() for _ in range(lead)], 0.0
    for asked in demands:
        stock += coming.pop(0) - asked
        wanted = [max(levels[i] * mean[i] * (lead + 1) - stock[i] - sum(c[i] for c in coming), 0)
                  for i in range(d)]  # fmt: skip
        carried = min(1, warehouse.TRUCK * mean.sum() / max(sum(wanted), 1e-9))
        coming.append(carried * np.asarray(wanted))
        total += sum(max(stock[i], 0) + owed[i] * max(-stock[i], 0) for i in range(d))
    return total / len(demands)


def test_inventory():
    """Two histories by hand; the same in every query, or other ones for every point."""
    levels = np.linspace(0.8, 1.4, 4)
    common = inventory(2, num_items=4)
    apart = independent(common)

    @jax.jit
    def ask(points):
        return jax.vmap(common.batch(KEYS[0]))(points), jax.vmap(apart.batch(KEYS[0]))(points)

    points = jnp.asarray(np.stack([levels, levels, levels + 1e-6]), jnp.float32)
    together, single = ask(points)
    histories = jax.random.split(jax.random.fold_in(KEYS[0], 0), 2)
    expected = np.mean([cost_by_hand(levels, key) for key in histories])
    np.testing.assert_allclose(together, expected, rtol=1e-4)
    assert single[0] == single[1] and abs(single[0] - single[2]) > 0.01 * expected
    assert apart.full is common.full


@pytest.mark.parametrize(("make", "game"), [(pendulum, "Pendulum-v1"), (cartpole, "CartPole-v1")])
def test_policies(make, game):
    """The return of one episode, step by step in the game itself."""
    problem = make(1)
    params = problem.start(KEYS[1])
    env, settings = gymnax.make(game)
    key = jax.random.split(jax.random.fold_in(KEYS[0], 0), 1)[0]
    reset_key, _ = jax.random.split(key)

    @jax.jit
    def go(params):
        return problem.batch(KEYS[0])(params), env.reset_env(reset_key, settings)

    @jax.jit
    def step(state, action):
        return env.step_env(key, state, action, settings)

    value, (observation, state) = go(params)
    first, second = (jax.tree.map(lambda x: np.asarray(x, float), params[n]) for n in params)
    total, steps, ended = 0.0, 0, False
    while steps < settings.max_steps_in_episode and not ended:
        seen = np.asarray(observation, float) * ([1, 1, 1 / 8] if game[0] == "P" else 1)
        hidden = np.tanh(seen @ first["weights"] + first["bias"])
        out = hidden @ second["weights"] + second["bias"]
        action = 2 * np.tanh(out) if game[0] == "P" else int(out[0] > 0)
        observation, state, reward, ended, _ = step(state, jnp.asarray(action))
        total, steps = total + float(reward), steps + 1
    np.testing.assert_allclose(value, -total, rtol=1e-3)
    assert steps == 200 if game[0] == "P" else total == steps < 500
