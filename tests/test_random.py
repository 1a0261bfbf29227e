"""The generator: known answers for its bits, JAX's own normals, and the laws of the others."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.extend.random import threefry_2x32

from zovh_jax import _random

SIZE = 2**21
ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)
WORDS = (np.uint32(0xDEADBEEF), np.uint32(42))


def on_shape(element):
    """A generator on the places of a shape, counted row by row."""
    return jax.jit(
        lambda words, stream, shape, dtype: element(words, stream, _random.counter(shape), dtype),
        static_argnums=(2, 3),
    )


fast_normal = on_shape(_random.fast_normal)
normal = on_shape(_random.normal)
sign = on_shape(_random.sign)
words_of = jax.jit(_random.words_of)
LAWS = {"fast": fast_normal, "exact": normal}
either_law = pytest.mark.parametrize("law", LAWS)


@functools.cache
def sample(law):
    """Many numbers of a stream that is not JAX's."""
    words = words_of(jax.random.key(7))
    return np.asarray(LAWS[law](words, 5, (SIZE,), jnp.float32), np.float64)


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
    words = _random.threefry2x32((k0, k1), c0, c1, rounds)
    assert tuple(map(int, words)) == expected


def test_threefry_is_jax_threefry_at_20_rounds():
    rng = np.random.default_rng(0)
    key = rng.integers(0, 2**32, 2, dtype=np.uint32)
    counters = rng.integers(0, 2**32, 1000, dtype=np.uint32)
    x = _random.threefry2x32((key[0], key[1]), counters[:500], counters[500:], 20)
    np.testing.assert_array_equal(np.concatenate(x), threefry_2x32(key, counters))


@pytest.mark.parametrize("seed", [0, 3, 2**31])
def test_words_are_those_of_folded_keys(seed):
    key, indices = jax.random.key(seed), jnp.array([0, 1, 7, 2**31 - 1])
    folded = jax.random.key_data(jax.vmap(lambda i: jax.random.fold_in(key, i))(indices))
    words = jax.jit(_random.direction_words)(key, indices)
    np.testing.assert_array_equal(words, folded)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_are_folded_as_jax_does(impl):
    key, i = jax.random.key(5, impl=impl), jnp.int32(2**31 - 1)
    want = jax.random.key_data(jax.random.fold_in(key, i))
    got = jax.jit(_random.fold_in)(key, i)
    assert got.dtype == key.dtype
    np.testing.assert_array_equal(jax.random.key_data(got), want)


@pytest.mark.parametrize(
    ("word", "expected"), [(0, 0), (1, 0x514E28B7), (ONES, 0x81F16F39), (2, 0x30F4C306)]
)
def test_mixing_is_murmurs(word, expected):
    assert int(jax.jit(_random.mixed)(jnp.uint32(word))) == expected


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("shape", [(), (0,), (3, 1, 5, 4)])
def test_normals_of_stream_zero_are_jaxs_own(shape, dtype, x64):
    for seed in (0, 1, 12345):
        key = jax.random.key(seed)
        expected = jax.jit(jax.random.normal, static_argnums=(1, 2))(key, shape, dtype)
        np.testing.assert_array_equal(normal(words_of(key), 0, shape, dtype), expected)


def test_the_stream_is_the_counters_high_word():
    """An independent path: bits from jax.extend, the inverse distribution function from scipy."""
    size, stream = 1000, 3
    low = np.arange(size, dtype=np.uint32)
    counters = np.concatenate([np.full(size, stream, np.uint32), low])
    x0, x1 = np.split(np.asarray(threefry_2x32(np.array(WORDS), counters)), 2)
    uniform = ((x0 ^ x1) >> 9) / 2**23
    expected = scipy.stats.norm.ppf(np.maximum(uniform, 2**-24))
    np.testing.assert_allclose(
        normal(WORDS, stream, (size,), jnp.float32), expected, rtol=1e-4, atol=1e-5
    )


def test_fast_normals_are_box_and_mullers_of_13_rounds():
    """Bits and transform in numpy."""
    place = np.arange(1001, dtype=np.uint32)
    with np.errstate(over="ignore"):
        x0, x1 = _random.threefry2x32(WORDS, np.full_like(place, 9), place, 13)
    radius = np.sqrt(-2 * np.log((x0 // 2**8 + 0.5) / 2**24))
    turns = ((x1 & 0x7FFFFFFF) >> 8) / 2**24 - 0.25 + (x1 >> 31) / 2
    # A quarter turn, −¼ to ¼, has the sine sin 2πt; half a turn more, its negative.
    expected = (radius * np.sin(2 * np.pi * turns)).reshape(7, 143)
    actual = fast_normal(WORDS, 9, (7, 143), jnp.float32)
    np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=3e-6)


@either_law
@pytest.mark.parametrize(
    ("power", "moment", "variance"),
    [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (5, 0, 945), (6, 15, 10170)],
)
def test_moments(law, power, moment, variance):
    standard_error = np.sqrt(variance / SIZE)
    assert standard_error < 0.07
    assert abs(np.mean(sample(law) ** power) - moment) < 5 * standard_error


@either_law
def test_kolmogorov_smirnov(law):
    distance = scipy.stats.kstest(sample(law), "norm").statistic
    assert distance < 1.95 / np.sqrt(SIZE)  # exceeded by one fair sample in a thousand


@either_law
def test_tails(law):
    for threshold in (3.0, 4.0):
        expected = SIZE * 2 * scipy.stats.norm.sf(threshold)
        count = np.sum(np.abs(sample(law)) > threshold)
        assert abs(count - expected) < 5 * np.sqrt(expected)
    assert np.max(np.abs(sample(law))) < 5.9


@either_law
def test_elements_are_uncorrelated(law):
    x, half = sample(law), SIZE // 2
    pairs = {
        "successive": (x[:-1], x[1:]),
        "second neighbours": (x[:-2], x[2:]),
        "even and odd": (x[0::2], x[1::2]),
        "a row of 1024 apart": (x[:-1024], x[1024:]),
        "far apart": (x[:half], x[half:]),
    }
    for name, (a, b) in pairs.items():
        for transform in (np.positive, np.square, np.sign):
            r = np.corrcoef(transform(a), transform(b))[0, 1]
            assert abs(r) < 5 / np.sqrt(a.size), name


@pytest.mark.parametrize("law", [_random.fast_normal, _random.normal])
def test_extreme_bits_are_finite(law, monkeypatch):
    bits = np.array([0, 0xFF, 0x100, 1 << 30, 1 << 31, ONES - 0x100, ONES], np.uint32)
    first, second = (jnp.asarray(x.ravel()) for x in np.meshgrid(bits, bits))
    monkeypatch.setattr(_random, "threefry2x32", lambda *_, rounds: (first, second))
    z = np.asarray(law(WORDS, 0, _random.counter(first.shape), jnp.float32))
    assert np.all(np.isfinite(z)) and 5 < np.max(np.abs(z)) < 5.9
    if law is _random.fast_normal:
        assert np.max(np.abs(z)) > 5.8


@either_law
def test_low_bits_are_fair(law):
    # The uniform's 16-bit cell, recovered from the normal; float32 resolves it where |z| < 3.
    cells = np.floor(scipy.stats.norm.cdf(sample(law)[:500_000]) * 2**16).astype(np.int64)
    assert scipy.stats.chisquare(np.bincount(cells & 255, minlength=256)).pvalue > 1e-3
    assert scipy.stats.chisquare(np.bincount(cells >> 8, minlength=256)).pvalue > 1e-3


@pytest.mark.parametrize("law", ["fast", "exact", "sign"])
def test_directions_and_streams_are_uncorrelated(law):
    """Twenty directions of two leaves each; and the squares, for what is not signs."""
    size = 50_001
    element = {"fast": fast_normal, "exact": normal, "sign": sign}[law]
    words = _random.direction_words(jax.random.key(0), jnp.arange(20))

    def draw(words):
        return jnp.stack([element(words, stream, (size,), jnp.float32) for stream in (0, 1)])

    x = np.asarray(jax.jit(jax.vmap(draw))(words), np.float64).reshape(40, size)
    for transform in [np.positive] if law == "sign" else [np.positive, np.square]:
        r = np.corrcoef(transform(x))
        assert np.max(np.abs(r - np.eye(40))) < 5 / np.sqrt(size)


@pytest.mark.parametrize("stream", [0, 1, 1000])
def test_signs_are_fair(stream):
    """Their mean, runs, and products over neighbours, rows, powers of two and halves."""
    x = np.asarray(sign(WORDS, stream, (SIZE,), jnp.float32), np.float64)
    assert set(np.unique(x)) == {-1.0, 1.0}
    assert abs(np.mean(x)) < 5 / np.sqrt(SIZE)
    for lag in [*range(1, 17), 31, 100, *(2**i for i in range(5, 21)), 2**20 + 1]:
        assert abs(np.mean(x[lag:] * x[:-lag])) < 5 / np.sqrt(SIZE - lag), lag
    # Eight in a row are one of 256 patterns.
    patterns = np.packbits(x > 0)
    assert scipy.stats.chisquare(np.bincount(patterns, minlength=256)).pvalue > 1e-3
    # Parities of three and four, which linear generators get wrong.
    for lags in [(1, 2), (1, 3), (2, 3, 5), (1, 2, 3), (256, 512, 768)]:
        product = x[: -max(lags)].copy()
        for lag in lags:
            product *= x[lag : SIZE - max(lags) + lag]
        assert abs(np.mean(product)) < 5 / np.sqrt(product.size), lags


def test_signs_of_directions_and_leaves_are_not_each_others_shifted():
    """The correlations at all shifts, of all pairs: four directions of two leaves."""
    size = 2**16
    words = _random.direction_words(jax.random.key(4), jnp.arange(4))
    draw = jax.jit(jax.vmap(lambda w: jnp.stack([sign(w, s, (size,), "float32") for s in (0, 1)])))
    spectra = np.fft.rfft(np.asarray(draw(words), np.float64).reshape(8, size), 2 * size)
    for i in range(8):
        r = np.fft.irfft(spectra[i:] * spectra[i].conj())
        r[0, 0] = 0
        assert np.max(np.abs(r)) < 6.5 * np.sqrt(size)  # of four million: 5 is to be expected


def test_a_bit_of_the_input_turns_each_sign_with_probability_one_half():
    """One bit of the key, the stream or the place."""
    rng = np.random.default_rng(1)
    n = 20_000
    k0, k1, stream, place = (jnp.asarray(rng.integers(0, 2**32, n, np.uint32)) for _ in range(4))
    bits = jax.jit(lambda k0, k1, stream, place: _random.bits((k0, k1), stream, place))
    before = np.asarray(bits(k0, k1, stream, place))
    for i in range(4):
        for bit in range(32):
            turned = [k0, k1, stream, place]
            turned[i] = turned[i] ^ jnp.uint32(1 << bit)
            flips = (before ^ np.asarray(bits(*turned))) >> 31
            assert abs(np.mean(flips) - 0.5) < 5 * 0.5 / np.sqrt(n), (i, bit)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (5, 0, 2), (3, 5, 7)])
@pytest.mark.parametrize("law", LAWS)
def test_shapes(shape, law):
    x = LAWS[law](WORDS, 1, shape, jnp.float32)
    assert x.shape == shape and x.dtype == jnp.float32
    assert np.unique(np.asarray(x)).size == x.size  # no element repeats another
    assert np.all(np.isfinite(x))


@pytest.mark.parametrize("shape", [(), (0, 2), (6,), (3, 5), (2, 3, 4, 5), (1, 4, 1)])
def test_places_go_row_by_row(shape):
    place = jax.jit(_random.counter, static_argnums=0)(shape)
    assert place.dtype == jnp.uint32
    np.testing.assert_array_equal(place, np.arange(math.prod(shape)).reshape(shape))


def test_places_wrap_around():
    """Above 2³² elements: nothing but the slice is computed."""
    shape = (2**17, 2**16)
    last = jax.jit(lambda: _random.counter(shape)[-1, -3:]).lower().compile()
    assert last.memory_analysis().temp_size_in_bytes < 10_000
    np.testing.assert_array_equal(last(), np.arange(2**33 - 3, 2**33) % 2**32)


@pytest.mark.parametrize("law", ["fast", "exact", "sign"])
def test_a_shape_changes_no_number(law):
    """Only the place counts, row by row, and not what is drawn beside it."""
    element = {"fast": fast_normal, "exact": normal, "sign": sign}[law]
    flat = np.asarray(element(WORDS, 2, (60,), jnp.float32))
    for shape in [(60, 1), (3, 20), (3, 4, 5)]:
        np.testing.assert_array_equal(element(WORDS, 2, shape, jnp.float32), flat.reshape(shape))
    np.testing.assert_array_equal(element(WORDS, 2, (7,), jnp.float32), flat[:7])


def test_dtypes(x64):
    wide, narrow = (np.asarray(fast_normal(WORDS, 0, (101,), t)) for t in (jnp.float64, "float32"))
    assert wide.dtype == jnp.float64 and narrow.dtype == jnp.float32
    np.testing.assert_array_equal(wide.astype(np.float32), narrow)
    for dtype in (jnp.float32, jnp.float64):
        assert sign(WORDS, 0, (3,), dtype).dtype == dtype


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
@pytest.mark.parametrize("law", ["fast", "exact", "sign"])
def test_neighbouring_keys_are_uncorrelated(impl, law):
    element = {"fast": fast_normal, "exact": normal, "sign": sign}[law]
    keys = [jax.random.key(s, impl=impl) for s in (0, 1, 2**31)]
    draws = [np.asarray(element(words_of(k), 0, (1000,), jnp.float32)) for k in keys]
    assert np.max(np.abs(np.corrcoef(draws) - np.eye(3))) < 5 / np.sqrt(1000)
