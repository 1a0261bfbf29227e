"""Queries that crash, and finite values that are wrong."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import walks

import zovh_jax as zo
from zovh_jax.transforms.newton.outliers import BEYOND, Usual

D, STEPS, SPOILT = 100, 400, 100
SCALES = jnp.logspace(0, 1, D)


def bowl(x):
    return 0.5 * jnp.mean(SCALES * jnp.square(x - 0.5))


def chance(x):
    """A number from 0 to 1 that follows from a point's bits."""
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    number = jnp.sum(bits * jnp.arange(1, D + 1, dtype=jnp.uint32))
    return jax.random.uniform(jax.random.fold_in(jax.random.key(9), number))


def crashing(x, t):
    del t
    return jnp.where(chance(x) < 0.3, jnp.nan, bowl(x))


def sprinkled(x, t):
    """One value in a hundred is anything from 10³ to 10³⁰."""
    del t
    u = chance(x)
    size = 10 ** (3 + 27 * (1e4 * u % 1))
    return jnp.where(u < 0.01, jnp.where(u < 0.005, -size, size), bowl(x))


def wrong_once(x, t, size):
    """Half of one round's values are ``size``, f(θ) perhaps among them."""
    return jnp.where((t == SPOILT) & (chance(x) < 0.5), size, bowl(x))


def changed(x, t):
    """Another scale and level from one round on."""
    return jnp.where(t < SPOILT, bowl(x), 10 + 1e3 * bowl(x))


OUTLIERS = [1e3, -1e10, 1e30]
OBJECTIVES = [
    crashing,
    changed,
    *(functools.partial(wrong_once, size=size) for size in [0.0, *OUTLIERS]),
    sprinkled,
]


@functools.cache
def walk(make):
    def optimizer(key):
        return make(8, 0.1, key=key)

    program = walks.program(optimizer, OBJECTIVES, STEPS)
    return lambda number, seed: program(number, jnp.zeros(D), jax.random.key(seed))


@pytest.fixture(
    params=[
        zo.scalar_newton,
        pytest.param(zo.diagonal_newton, marks=pytest.mark.slow),
        pytest.param(zo.low_rank_newton, marks=pytest.mark.slow),
    ],
    ids=lambda make: make.__name__,
    scope="module",
)
def go(request):
    return walk(request.param)


def test_a_third_of_the_queries_crash(go):
    """0.2 % of the first value is left at most, of medians over seeds; whole rounds leave less."""
    left = [float(bowl(go(0, seed)[0][-1])) for seed in range(3)]
    assert np.median(left) < 2e-3 * bowl(jnp.zeros(D))


@pytest.mark.parametrize("number", range(3, 3 + len(OUTLIERS)), ids=map(str, OUTLIERS))
def test_one_round_of_outliers(go, number):
    """Fifty rounds later nearly as much is reached as without them."""
    (clean, _), (spoilt, states) = (go(i, 1) for i in (2, number))
    assert zo.diagnostics(states).num_outliers[-1] > 0
    np.testing.assert_array_equal(clean[SPOILT - 1], spoilt[SPOILT - 1])
    assert bowl(spoilt[SPOILT]) < 1.5 * bowl(clean[SPOILT - 1])
    assert bowl(spoilt[SPOILT + 50]) < 2 * bowl(clean[SPOILT + 50])


def test_a_hundredth_of_outliers(go):
    """Three times as much is left at most, of medians over seeds, or hardly more than rounding."""
    clean, spoilt = ([go(i, seed) for seed in range(3)] for i in (2, len(OBJECTIVES) - 1))
    left = [np.median([bowl(xs[300]) for xs, _ in runs]) for runs in (clean, spoilt)]
    assert left[1] < max(3 * left[0], 1e-12)
    assert all(zo.diagnostics(states).num_outliers[-1] >= 10 for _, states in spoilt)


def test_an_objective_that_changes_is_followed(go):
    """It is not dropped for ever: the walk goes on in the new units."""
    xs, states = go(1, 1)
    assert bowl(xs[-1]) < 0.1 * bowl(xs[SPOILT])
    assert not np.any(states.trust.usual.lost[SPOILT + 1 :])


def sift(usual, values, origin, level=1.0):
    """Which values of a round are kept, f(θ) last; and what is known afterwards."""
    round_ = zo.query(
        jnp.sum, jnp.zeros(4), jax.random.key(0), num_directions=len(values), radius=1.0
    )
    round_ = dataclasses.replace(round_, values=jnp.asarray(values), origin=jnp.asarray(origin))
    sifted, usual = usual.sift(round_, jnp.asarray(level), dimension=4, rounding=1e-6)
    return np.isfinite(np.append(sifted.values, sifted.origin)).tolist(), usual


def test_what_is_dropped():
    # The first round has its own usual distance to go by: here 2.
    most = 2 * 2 * BEYOND
    kept, usual = sift(Usual.init(), [2.0, 0.9 + most, 3.0, jnp.nan, -1e9], 1.0)
    assert kept == [True, True, True, False, False, True] and usual.num_outliers == 1
    np.testing.assert_allclose(usual.size, most - 0.1, rtol=1e-6)
    # At the minimum of a bowl all values but f(θ) are nearly the same.
    assert all(sift(Usual.init(), [1.0, 1.0 + 1e-6, 1.0 - 1e-6, 1.0], 1e-9)[0])
    kept, usual = sift(Usual.init(), [1.0, 1.0, 7.0], 1.0)
    assert all(kept)  # no distance is usual where most values are the same
    assert all(sift(Usual.init(), [1.0, 1 + 2e-7, 1 - 2e-7, 7.0], 1.0)[0])  # but for rounding
    known = Usual.init()._replace(size=jnp.asarray(2.0))
    far = 2 * 2 * BEYOND
    kept, usual = sift(known, [1.9 + far, 1.1 - far, 1.5], 1.0)
    assert kept == [False, True, True, True] and not usual.lost and usual.num_outliers == 1
    np.testing.assert_allclose(usual.size, far - 0.1, rtol=1e-6)
    kept, usual = sift(known, [1.5, 1.6, 1.7], -1e30)
    assert kept == [True, True, True, False] and usual.size == 1  # half of what it was
    # A usual distance that was far too large does not last.
    _, usual = sift(Usual.init()._replace(size=jnp.asarray(1e30)), [1.5, 1.6, 1.7], 1.0)
    np.testing.assert_allclose(usual.size, 700, rtol=1e-5)
    # Most of a round: dropped once, believed when it comes again.
    kept, usual = sift(known, [1e20, 1e21, 1.5], 1e20)
    assert kept == [False, False, True, False] and usual.lost
    kept, usual = sift(usual, [1e20, 1e21, 1.5], 1e20)
    assert all(kept) and not usual.lost and usual.num_outliers == 3
    np.testing.assert_allclose(usual.size, 9e20, rtol=1e-6)
    kept, usual = sift(
        usual._replace(lost=jnp.asarray(True), size=jnp.asarray(2.0)),
        [1e20, 1.1e20, 1e30, 1.2e20],
        1e20,
    )
    assert kept == [True, True, False, True, True]
    # Nothing is known after an f(θ) that was not finite.
    assert all(sift(known, [1e20, 2e20, 1.0], 1.0, level=jnp.inf)[0])


@pytest.mark.parametrize(
    "make", [zo.scalar_newton, pytest.param(zo.diagonal_newton, marks=pytest.mark.slow)]
)
def test_directions_that_change_nothing(make):
    """A logit for each of two classes: what moves both alike changes f by rounding alone."""
    x = jax.random.normal(jax.random.key(5), (128, 16))
    labels = (x @ jax.random.normal(jax.random.key(6), (16,)) > 0).astype(jnp.int32)
    params = {"kernel": jnp.zeros((16, 2)), "bias": jnp.zeros(2)}
    signs = zo.directions.hadamard(factored=True)

    def loss(params):
        logits = x @ params["kernel"] + params["bias"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    @jax.jit
    def end(key):
        optimizer = make(8, 1e-2, key=key, directions=signs)

        def step(carry, _):
            updates, state = optimizer.update(None, carry[1], carry[0], value_fn=loss)
            return (optax.apply_updates(carry[0], updates), state), None

        carry = params, optimizer.init(params)
        (last, state), _ = jax.lax.scan(step, carry, length=60)
        return loss(last), zo.diagnostics(state).num_outliers

    for seed in range(8):
        value, dropped = end(jax.random.key(seed))
        assert value < 0.35 and dropped == 0
