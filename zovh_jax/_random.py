"""Random numbers, drawn fast and only once.

On a CPU the random numbers of a zeroth-order step cost more than most objectives. Two things make
``jax.random.normal`` slower than it need be here: it spends a 64-bit threefry block on every
32-bit word, and its rounds run in a loop that XLA does not fuse. In ``fast_normal`` both words of
a block are used and 13 rounds (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011:
the fewest that pass BigCrush) are unrolled.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

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
    """Standard normals by inversion of 23-bit uniforms; |z| < 5.3."""
    size = math.prod(shape)
    half = -(-size // 2)
    k0, k1 = jax.random.bits(key, (2,), jnp.uint32)
    counter = jax.lax.iota(jnp.uint32, half)
    x0, x1 = _threefry2x32(k0, k1, counter, jnp.zeros_like(counter))
    bits = jnp.concatenate([x0, x1])[:size]
    # The mid-points of 2²³ equal cells of (−1, 1): symmetric, and never ±1.
    uniform = jax.lax.bitcast_convert_type(
        bits >> np.uint32(9) | np.uint32(0x3F800000), jnp.float32
    )
    uniform = (uniform - np.float32(1.5)) * np.float32(2) + np.float32(2**-23)
    normal = np.float32(math.sqrt(2)) * jax.lax.erf_inv(uniform)
    return normal.reshape(shape).astype(dtype)


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
