"""Random numbers, drawn fast and only once.

On a CPU the random numbers of a zeroth-order step cost more than most objectives. Two things make
``jax.random.normal`` slower than it need be here: it spends a 64-bit threefry block on every
32-bit word, and its rounds run in a loop that XLA does not fuse. In ``fast_normal`` 13 rounds
(Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011: the fewest that pass BigCrush)
are unrolled, and Box and Muller's transform takes a logarithm and a short polynomial a number.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._trig import sine_of_quarter

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = np.uint32(0x1BD11BDA)


def _threefry2x32(k0, k1, x0, x1, rounds: int = 13):
    """Threefry-2x32 on elementwise uint32 operands."""
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


def fast_normal(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """Standard normals in float32 precision, by Box and Muller; |z| < 5.9.

    Element j is √(−2 log v) sin 2πφ with v and φ the two words of block j // 2; every other one
    takes the cosine, as a quarter turn more. Blocks are hashed twice so that there is nothing but
    one fused loop.
    """
    size = math.prod(shape)
    k0, k1 = jax.random.bits(key, (2,), jnp.uint32)
    element = jax.lax.iota(jnp.uint32, size)
    x0, x1 = _threefry2x32(k0, k1, element >> np.uint32(1), jnp.zeros_like(element))
    # The mid-points of 2²⁴ equal cells of (0, 1): never 0.
    uniform = (x0 >> np.uint32(8)).astype(jnp.float32) * np.float32(2**-24) + np.float32(2**-25)
    turn = x1 + (element << np.uint32(30))  # element's second bit is half a turn, and harmless
    # 23 bits, as a float in [1, 2), make half a turn, −¼ to ¼; the highest bit is the other half.
    mantissa = (turn & np.uint32(0x7FFFFFFF)) >> np.uint32(8) | np.uint32(0x3F800000)
    half = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - np.float32(1.5)
    sine = jax.lax.bitcast_convert_type(sine_of_quarter(half * np.float32(0.5)), jnp.uint32)
    signed = jax.lax.bitcast_convert_type(sine ^ turn & np.uint32(1 << 31), jnp.float32)
    return (jnp.sqrt(np.float32(-2) * jnp.log(uniform)) * signed).reshape(shape).astype(dtype)


def draw_once(draw: Callable[[], Any], key: jax.Array) -> Any:
    """The arrays of ``draw()``, written to memory before anything reads them.

    XLA would fuse a generator into each reader of its numbers (x[1:] and x[:-1] are two) and draw
    them again there; and it would hold the random bits of all leaves at once. On a CPU it fuses
    past an optimization barrier too, but not out of a conditional, whose condition here is always
    true. Accelerators would have to wait for a condition: they get the barrier.
    """

    def on_cpu(key):
        true = jax.random.key_data(key).reshape(-1)[0] | np.uint32(1) > 0
        like = jax.eval_shape(draw)
        zeros = lambda: jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), like)  # noqa: E731
        return jax.lax.cond(true, draw, zeros)

    return jax.lax.platform_dependent(
        key, cpu=on_cpu, default=lambda _: jax.lax.optimization_barrier(draw())
    )
