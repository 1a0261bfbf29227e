"""Rounding to neighbours, the mean, and what small steps reach in narrow parameters."""

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest

import zovh_jax as zo

NARROW = [jnp.bfloat16, jnp.float16]
KEY = jax.random.key(1)


def sums(p, u, num_keys):
    """p + u' for several keys, in float64."""

    @jax.jit
    def once(key):
        rounding = zo.stochastic_rounding(key=key)
        updates, _ = rounding.update(u, rounding.init(p), p)
        return updates

    # Added outside, as a user may: compilers keep more digits inside.
    return np.stack(
        [
            np.asarray(optax.apply_updates(p, once(key)), np.float64)
            for key in jax.random.split(KEY, num_keys)
        ]
    )


def numbers_of(dtype):
    """All finite numbers, ascending."""
    size = np.dtype(dtype).itemsize
    with np.errstate(invalid="ignore"):
        every = np.arange(256**size, dtype=f"u{size}").view(dtype).astype(np.float64)
    return np.unique(every[np.isfinite(every)])


def neighbours(exact, numbers):
    below = np.clip(np.searchsorted(numbers, exact, side="right") - 1, 0, len(numbers) - 1)
    above = np.clip(np.searchsorted(numbers, exact, side="left"), 0, len(numbers) - 1)
    return numbers[below], numbers[above]


def check_choices(p, u):
    """Each sum is a neighbour of the exact one where |u| ≤ |p|/2; others are about as close."""
    numbers, dtype = numbers_of(p.dtype), p.dtype
    with np.errstate(invalid="ignore"):
        exact = np.asarray(p, np.float64) + np.asarray(u, np.float64)
    fine = np.isfinite(exact) & (np.abs(exact) < numbers[-2])
    got = sums(p, u, 8)
    lost = ~np.isfinite(exact)
    plain = np.asarray(optax.apply_updates(p, u.astype(dtype)), np.float64)
    np.testing.assert_array_equal(got[:, lost], np.broadcast_to(plain[lost], got[:, lost].shape))
    assert np.all(np.isfinite(got[:, fine]))
    below, above = neighbours(exact[fine], numbers)
    close = (got[:, fine] == below) | (got[:, fine] == above)
    normal = np.abs(exact[fine]) > 2.0**-118  # smaller ones may be flushed
    p, u = np.asarray(p, np.float64)[fine], np.asarray(u, np.float64)[fine]
    assert np.all(close[:, (np.abs(u) <= np.abs(p) / 2) & normal])
    spacing = np.abs(exact[fine]) + np.abs(u)
    assert np.all((np.abs(got[:, fine] - exact[fine]) <= 2.0**-6 * spacing)[:, normal])


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # NaN is cast
def test_any_bits(dtype):
    """Signs, denormals, infinities and NaN, updates far below and far above the parameters."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**16, (2, 50_000)).astype(np.uint16)
    digits = jnp.finfo(dtype).nmant
    # Some of about the same size, where digits cancel and sums are ties.
    shift = rng.integers(-digits - 3, digits + 4, bits.shape[1]) * 2**digits
    like = (bits[0].astype(int) + shift + rng.integers(-9, 10, bits.shape[1])).astype(np.uint16)
    p = jnp.asarray(np.concatenate([bits[0], bits[0]]).view(dtype))
    u = jnp.asarray(np.concatenate([bits[1], like]).view(dtype))
    check_choices(p, u)
    check_choices(p, -u)


def test_the_mean_of_many_keys():
    """Plain rounding loses most of such updates."""
    rng = np.random.default_rng(1)
    p = jnp.asarray(rng.normal(size=500) * 0.05, jnp.bfloat16)
    u = jnp.asarray(rng.normal(size=500) * 1e-5, jnp.bfloat16)
    exact = np.asarray(u, np.float64)
    start = np.asarray(p, np.float64)
    plain = np.asarray(optax.apply_updates(p, u), np.float64) - start
    assert np.mean(plain != 0) < 0.25
    assert np.sum(np.abs(plain - exact)) > 0.5 * np.sum(np.abs(exact))

    rounding, num_steps = zo.stochastic_rounding(key=KEY), 4000

    @jax.jit
    def moments(state):
        def body(carry, _):
            state, total = carry
            updates, state = rounding.update(u, state, p)
            after = optax.apply_updates(p, updates).astype(jnp.float32)
            # Compilers may keep more digits than bfloat16 has.
            step = jax.lax.reduce_precision(after, 8, 7) - p.astype(jnp.float32)
            return (state, total + 1e5 * step), None

        return jax.lax.scan(body, (state, jnp.zeros(500)), length=num_steps)[0]

    _, total = moments(rounding.init(p))
    mean = np.asarray(total, np.float64) / num_steps
    # The law is known: a step of width w with probability |u|/w.
    below, above = neighbours(start + exact, numbers_of(ml_dtypes.bfloat16))
    share = np.where(above > below, (start + exact - below) / np.maximum(above - below, 1e-30), 0)
    error = (above - below) * np.sqrt(share * (1 - share) / num_steps) * 1e5
    z = (mean - exact * 1e5)[error > 0] / error[error > 0]
    assert np.all(np.abs(z[share[error > 0] * num_steps > 20]) < 5)
    # All entries together, as rare steps are far from normal.
    correlation = np.sum((mean - exact * 1e5) * np.sign(exact)) / np.sqrt(np.sum(error**2))
    assert abs(correlation) < 5
    assert np.sqrt(np.sum(error**2)) < 0.05 * np.sum(np.abs(exact)) * 1e5


@pytest.mark.parametrize(("dtype", "wide"), [(jnp.bfloat16, False), (jnp.float16, True)])
@pytest.mark.parametrize(
    ("p", "u"), [(1.0, -1e-4), (1.0, 1e-4), (-0.75, 3e-5), (0.3, -0.14), (0.0, 0.013)]
)
def test_the_mean_of_one_number(dtype, wide, p, u):
    """Just below a power of two, with a change of sign, with float32 updates too."""
    p = jnp.full(400_000, p, dtype)
    u = jnp.full(400_000, u, jnp.float32 if wide else dtype)
    exact = float(p[0]) + float(u[0])
    got = sums(p, u, 1)
    assert abs(got.mean() - exact) <= 5 * got.std() / np.sqrt(got.size) + 1e-12
    assert len(np.unique(got)) <= 2


def test_updates_too_small_for_float32_sums_are_kept():
    """1e-8 of the parameter: half of float32's last digit."""
    p, u = jnp.ones(2_000_000, jnp.bfloat16), jnp.full(2_000_000, 4e-8, jnp.bfloat16)
    for sign in (1, -1):
        moved = np.count_nonzero(sums(p, sign * u, 10) != 1)
        expected = 2e7 * 4e-8 / (2**-7 if sign > 0 else 2**-8)
        assert abs(moved - expected) < 5 * np.sqrt(expected)


def test_what_is_not_narrow_passes_unchanged():
    params = {
        "wide": jnp.ones(3),
        "whole": jnp.arange(3),
        "key": jax.random.key(0),
        "none": None,
        "empty": jnp.zeros((0, 2), jnp.bfloat16),
        "narrow": jnp.ones(3, jnp.bfloat16),
    }
    updates = {
        "wide": jnp.full(3, 1e-9),
        "whole": jnp.zeros(3, jnp.int32),
        "key": jnp.zeros(()),
        "none": None,
        "empty": jnp.zeros((0, 2), jnp.bfloat16),
        "narrow": jnp.full(3, 1e-3, jnp.bfloat16),
    }
    rounding = zo.stochastic_rounding(key=KEY)
    out, state = rounding.update(updates, rounding.init(params), params)
    for name in ("wide", "whole", "key", "none", "empty"):
        assert out[name] is updates[name], name
    assert out["narrow"].dtype == jnp.bfloat16
    assert int(state.count) == 1


def test_nan_and_infinity_are_seen():
    p = jnp.ones(3, jnp.bfloat16)
    out = sums(p, jnp.asarray([np.nan, np.inf, -np.inf], jnp.bfloat16), 1)[0]
    np.testing.assert_array_equal(out, [np.nan, np.inf, -np.inf])


def test_numbers_follow_from_key_and_step():
    """The same with and without jit and scan; others in another step, leaf or with another key."""
    p = {"a": jnp.ones((40, 3), jnp.bfloat16), "b": jnp.ones((40, 3), jnp.bfloat16)}
    u = jax.tree.map(lambda x: jnp.full_like(x, 3e-3), p)
    rounding = zo.stochastic_rounding(key=KEY)

    def step(state, _):
        updates, state = rounding.update(u, state, p)
        return state, updates

    state = rounding.init(p)
    state, first = step(state, None)
    _, second = step(state, None)
    _, both = jax.jit(lambda s: jax.lax.scan(step, s, length=2))(rounding.init(p))
    for t, one in enumerate((first, second)):
        jax.tree.map(lambda x, y, t=t: np.testing.assert_array_equal(x, y[t]), one, both)
    other = zo.stochastic_rounding(key=jax.random.key(2))
    other, _ = other.update(u, other.init(p), p)
    drawn = (first["a"], first["b"], second["a"], other["a"])
    moved = [np.asarray(p["a"] + x != 1) for x in drawn]
    for i in range(4):
        assert 0.1 < moved[i].mean() < 0.7
        for j in range(i):
            assert np.any(moved[i] != moved[j])


def test_after_the_last_count_comes_another_key():
    p = jnp.ones(3, jnp.bfloat16)
    rounding = zo.stochastic_rounding(key=KEY)
    state = rounding.init(p)._replace(count=jnp.asarray(2**31 - 1, jnp.int32))
    _, after = rounding.update(p, state, p)
    assert int(after.count) == 0 and not jnp.all(after.key == state.key)


DIMENSION, NUM_STEPS = 16, 6000
MATRIX = np.random.default_rng(5).normal(size=(32, DIMENSION)) / np.sqrt(32)
TARGET = MATRIX @ np.random.default_rng(6).normal(size=DIMENSION)


def residual(x):
    return jnp.mean((jnp.asarray(MATRIX, jnp.float32) @ x - TARGET.astype(np.float32)) ** 2)


def reached(dtype, *rounding, cast=False):
    """The loss at the end of a run; with ``cast``, float32 parameters are asked in bfloat16."""
    optimizer = optax.chain(
        zo.zo_sgd(0.02, num_directions=8, radius=0.1, key=jax.random.key(0)), *rounding
    )

    def value_fn(x):
        return residual((x.astype(jnp.bfloat16) if cast else x).astype(jnp.float32))

    def body(carry, _):
        x, state = carry
        updates, state = optimizer.update(None, state, x, value_fn=value_fn)
        x = optax.apply_updates(x, updates)
        return (x, state), residual(x.astype(jnp.float32))

    x = jnp.full(DIMENSION, 0.5, dtype)
    run = jax.jit(lambda x: jax.lax.scan(body, (x, optimizer.init(x)), length=NUM_STEPS)[1])
    return float(run(x)[-NUM_STEPS // 10 :].mean())


def test_least_squares_stalls_without_it():
    """Plain rounding ends far above float32; the two remedies end within 1.5 times its loss."""
    plain = reached(jnp.bfloat16)
    stochastic = reached(jnp.bfloat16, zo.stochastic_rounding(key=KEY))
    kept = reached(jnp.float32, cast=True)
    wide = reached(jnp.float32)
    assert plain > 20 * wide
    assert stochastic < 1.5 * wide
    assert kept < 1.3 * wide
