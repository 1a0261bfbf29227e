"""Random numbers as functions of a counter.

A number depends on a key, a stream and a place, two words that count the parameters, and on nothing
else: not on how a leaf is split over devices, nor on what is drawn beside it. Each is one
elementwise expression of the places: on a leaf's own shape a device computes only what it holds,
and XLA makes one loop of it.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._trig import sine_of_quarter

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)
_GOLDEN = np.uint32(0x9E3779B9)
Words = tuple[jax.Array, jax.Array] | jax.Array
"""A key as two uint32 scalars, or as an array of them."""


def words_of(key: jax.Array) -> Words:
    """Two words of a typed key, whatever its generator."""
    if str(jax.random.key_impl(key)) == "threefry2x32":
        data = jax.random.key_data(key)
    else:
        data = jax.random.bits(key, (2,), jnp.uint32)
    return data[0], data[1]


def direction_words(key: jax.Array, indices: jax.Array) -> jax.Array:
    """The words of ``jax.random.fold_in(key, index)`` for each index: [*indices.shape, 2]."""
    return _folded(words_of(key), indices)


def fold_in(key: jax.Array, index: jax.Array) -> jax.Array:
    """``jax.random.fold_in``, by one small program where JAX has a loop and half a dozen."""
    impl = jax.random.key_impl(key)
    if str(impl) != "threefry2x32" or key.ndim or jnp.ndim(index):
        return jax.random.fold_in(key, index)
    return jax.random.wrap_key_data(_folded(words_of(key), jnp.asarray(index)), impl=impl)


@jax.jit
def _folded(words: Words, indices: jax.Array) -> jax.Array:
    """Both words of the keys: […, 2]. XLA would make a program of each word, were they apart."""
    x0, x1 = threefry2x32(words, np.uint32(0), indices.astype(jnp.uint32), rounds=20)
    second = jax.lax.broadcasted_iota(jnp.uint32, (*x0.shape, 2), x0.ndim) > 0
    return jnp.where(second, x1[..., None], x0[..., None])


@functools.partial(jax.jit, static_argnames="rounds")  # a hundred operations: traced once
def threefry2x32(words: Words, x0: Any, x1: Any, rounds: int) -> Words:
    """Threefry-2x32 of a counter of two words, elementwise.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011. With 20 rounds these
    are the bits of JAX's own generator; 13 are the fewest that pass BigCrush.
    """
    k0, k1 = words
    schedule = (k0, k1, k0 ^ k1 ^ _PARITY)
    x0, x1 = x0 + k0, x1 + k1
    for i in range(rounds):
        r = _ROTATIONS[(i // 4) % 2][i % 4]
        x0 = x0 + x1
        x1 = (x1 << np.uint32(r) | x1 >> np.uint32(32 - r)) ^ x0
        if i % 4 == 3:
            j = i // 4 + 1
            x0 = x0 + schedule[j % 3]
            x1 = x1 + schedule[(j + 1) % 3] + np.uint32(j)
    return x0, x1


def mixed(x: jax.Array) -> jax.Array:
    """Words whose every bit depends on all bits of x: the last step of MurmurHash3."""
    x = (x ^ x >> 16) * np.uint32(0x85EBCA6B)
    x = (x ^ x >> 13) * np.uint32(0xC2B2AE35)
    return x ^ x >> 16


def counter(shape: tuple[int, ...], sharding: Any = None) -> jax.Array:
    """The place of each element in its leaf, row by row, modulo 2³²: uint32 of that shape."""
    place: Any = np.uint32(0)
    stride = 1
    for axis in reversed(range(len(shape))):
        along = jax.lax.broadcasted_iota(jnp.uint32, shape, axis, out_sharding=sharding)
        place = along * np.uint32(stride % 2**32) + place
        stride *= shape[axis]
    return jnp.asarray(place)


def normal(words: Words, stream: Any, place: jax.Array, dtype: Any) -> jax.Array:
    """Standard normals by inversion. In stream 0 they are ``jax.random.normal`` of the key."""
    x0, x1 = threefry2x32(words, jnp.uint32(stream), place, rounds=20)
    if dtype == jnp.float64:
        bits = x0.astype(jnp.uint64) << np.uint64(32) | x1.astype(jnp.uint64)
        mantissa, unit = bits >> np.uint64(12), np.float64(1).view(np.uint64)
    else:
        mantissa, unit = (x0 ^ x1) >> np.uint32(9), np.float32(1).view(np.uint32)
    one_to_two = jax.lax.bitcast_convert_type(mantissa | unit, dtype)
    low = np.nextafter(np.array(-1, dtype), np.array(0, dtype), dtype=dtype)
    uniform = jnp.maximum(low, (one_to_two - 1) * (1 - low) + low)
    return jax.lax.erf_inv(uniform) * np.array(math.sqrt(2), dtype)


def fast_normal(words: Words, stream: Any, place: jax.Array, dtype: Any) -> jax.Array:
    """Standard normals in float32 precision, √(−2 log v) sin 2πφ (Box and Muller); |z| < 5.9."""
    x0, x1 = threefry2x32(words, jnp.uint32(stream), place, rounds=13)
    # The mid-points of 2²⁴ equal cells of (0, 1): never 0.
    uniform = (x0 >> np.uint32(8)).astype(jnp.float32) * np.float32(2**-24) + np.float32(2**-25)
    # 23 bits, as a float in [1, 2), give −¼ to ¼ turn; the highest bit, as a sign, the other half.
    mantissa = (x1 & np.uint32(0x7FFFFFFF)) >> np.uint32(8) | np.uint32(0x3F800000)
    half = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - np.float32(1.5)
    sine = jax.lax.bitcast_convert_type(sine_of_quarter(half * np.float32(0.5)), jnp.uint32)
    signed = jax.lax.bitcast_convert_type(sine ^ x1 & np.uint32(1 << 31), jnp.float32)
    return (jnp.sqrt(np.float32(-2) * jnp.log(uniform)) * signed).astype(dtype)


def bits(words: Words, stream: Any, place: jax.Array) -> jax.Array:
    """Hashed words, for signs; a few operations for each."""
    k0, k1 = words
    return mixed(mixed(place * _GOLDEN + k0) ^ mixed(k1 + jnp.uint32(stream) * _GOLDEN))


def sign(words: Words, stream: Any, place: jax.Array, dtype: Any) -> jax.Array:
    """±1, from one hashed bit each."""
    return of_bit(bits(words, stream, place) >> np.uint32(31), dtype)


def of_bit(bit: jax.Array, dtype: Any) -> jax.Array:
    """−1 for a set bit, else 1."""
    return 1 - 2 * bit.astype(dtype)
