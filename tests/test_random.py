"""The fused generator: known answers for its bits, and the law of its normals."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from zovh_jax import _random
from zovh_jax._random import _threefry2x32, fast_normal

SIZE = 2**21
ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)

normal = jax.jit(fast_normal, static_argnums=(1, 2))


@functools.cache
def sample():
    return np.asarray(normal(jax.random.key(7), (SIZE,), jnp.float32), np.float64)


@pytest.mark.parametrize(
    ("rounds", "counter_and_key", "expected"),
    [  # the known-answer tests published with Random123
        (13, (0, 0, 0, 0), (0x9D1C5EC6, 0x8BD50731)),
        (13, (ONES,) * 4, (0xFD36D048, 0x2D17272C)),
        (13, PI, (0xBA3E4725, 0xF27D669E)),
        (20, (0, 0, 0, 0), (0x6B200159, 0x99BA4EFE)),
        (20, (ONES,) * 4, (0x1CB996FC, 0xBB002BE7)),
        (20, PI, (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_known_answers(rounds, counter_and_key, expected):
    c0, c1, k0, k1 = map(np.uint32, counter_and_key)
    with np.errstate(over="ignore"):
        assert _threefry2x32(k0, k1, c0, c1, rounds) == expected


def test_threefry_is_jax_threefry_at_20_rounds():
    rng = np.random.default_rng(0)
    key = rng.integers(0, 2**32, 2, dtype=np.uint32)
    counters = rng.integers(0, 2**32, 1000, dtype=np.uint32)
    x = jax.jit(_threefry2x32, static_argnums=4)(key[0], key[1], counters[:500], counters[500:], 20)
    np.testing.assert_array_equal(np.concatenate(x), threefry_2x32(key, counters))


def test_default_is_13_rounds():
    words = np.arange(4, dtype=np.uint32)
    with np.errstate(over="ignore"):
        assert _threefry2x32(*words) == _threefry2x32(*words, 13) != _threefry2x32(*words, 20)


def test_normals_are_box_and_mullers_of_13_rounds():
    # An independent path: bits and transform in numpy, one block for two numbers.
    key, size = jax.random.key(3), 1001
    k0, k1 = np.asarray(jax.random.bits(key, (2,), jnp.uint32))
    block, element = np.divmod(np.arange(size, dtype=np.uint32), 2)
    v, phi = (x.astype(float) for x in _threefry2x32(k0, k1, block, np.zeros_like(block), 13))
    radius = np.sqrt(-2 * np.log((v // 2**8 + 0.5) / 2**24))
    # sin 2πφ and its cosine, turned by what the order of the elements adds to φ.
    turns = phi / 2**32 - 0.25 + np.arange(size) / 4
    actual = normal(key, (7, 143), jnp.float32)
    expected = (radius * np.sin(2 * np.pi * turns)).reshape(7, 143)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=3e-6)
    assert set(element) == {0, 1}


@pytest.mark.parametrize(
    ("power", "moment", "variance"),
    [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (5, 0, 945), (6, 15, 10170)],
)
def test_moments(power, moment, variance):
    standard_error = np.sqrt(variance / SIZE)
    assert standard_error < 0.07
    assert abs(np.mean(sample() ** power) - moment) < 5 * standard_error


def test_kolmogorov_smirnov():
    distance = scipy.stats.kstest(sample(), "norm").statistic
    assert distance < 1.95 / np.sqrt(SIZE)  # exceeded by one fair sample in a thousand


def test_tails():
    for threshold in (3.0, 4.0):
        expected = SIZE * 2 * scipy.stats.norm.sf(threshold)
        count = np.sum(np.abs(sample()) > threshold)
        assert abs(count - expected) < 5 * np.sqrt(expected)
    assert np.max(np.abs(sample())) < 5.9


def test_elements_are_uncorrelated():
    x, half = sample(), SIZE // 2
    pairs = {
        "successive": (x[:-1], x[1:]),
        "second neighbours": (x[:-2], x[2:]),
        "of one block": (x[0::2], x[1::2]),
        "of neighbouring blocks": (x[1:-1:2], x[2::2]),
        "far apart": (x[:half], x[half:]),
    }
    for name, (a, b) in pairs.items():
        for transform in (np.positive, np.square, np.sign):
            r = np.corrcoef(transform(a), transform(b))[0, 1]
            assert abs(r) < 5 / np.sqrt(a.size), name


def test_extreme_bits_are_finite(monkeypatch):
    bits = np.array([0, 0xFF, 0x100, 1 << 30, 1 << 31, ONES - 0x100, ONES], np.uint32)
    first, second = (x.ravel() for x in np.meshgrid(bits, bits))
    monkeypatch.setattr(_random, "_threefry2x32", lambda *_: (first, second))
    z = np.asarray(fast_normal(jax.random.key(0), (first.size,), jnp.float32))
    assert np.all(np.isfinite(z)) and 5.8 < np.max(np.abs(z)) < 5.9


def test_low_bits_are_fair():
    # The uniform's 16-bit cell, recovered from the normal; float32 resolves it where |z| < 3.
    cells = np.floor(scipy.stats.norm.cdf(sample()[:500_000]) * 2**16).astype(np.int64)
    assert scipy.stats.chisquare(np.bincount(cells & 255, minlength=256)).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(cells >> 8, minlength=256)).pvalue > 1e-3


def test_folded_keys_are_uncorrelated():
    def draw(i):
        return fast_normal(jax.random.fold_in(jax.random.key(0), i), (50_001,), jnp.float32)

    x = np.asarray(jax.jit(jax.vmap(draw))(jnp.arange(40)), np.float64)
    for transform in (np.positive, np.square):
        r = np.corrcoef(transform(x))
        assert np.max(np.abs(r - np.eye(40))) < 5 / np.sqrt(50_001)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (5, 0, 2), (3, 5, 7)])
def test_shapes(shape):
    x = normal(jax.random.key(1), shape, jnp.float32)
    assert x.shape == shape and x.dtype == jnp.float32
    assert np.unique(np.asarray(x)).size == x.size  # no element repeats another
    assert np.all(np.isfinite(x))


def test_dtypes(x64):
    key = jax.random.key(2)
    wide, narrow = (np.asarray(normal(key, (101,), t)) for t in (jnp.float64, jnp.float32))
    assert wide.dtype == jnp.float64 and narrow.dtype == jnp.float32
    np.testing.assert_array_equal(wide.astype(np.float32), narrow)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_neighbouring_keys_are_uncorrelated(impl):
    keys = [jax.random.key(s, impl=impl) for s in (0, 1, 2**31)]
    draws = [np.asarray(normal(k, (1000,), jnp.float32)) for k in keys]
    assert np.max(np.abs(np.corrcoef(draws) - np.eye(3))) < 5 / np.sqrt(1000)
