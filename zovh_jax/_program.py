"""Keeps the compiler from computing twice, and from compiling the same program many times.

XLA fuses cheap operations, chains of them and constants too, into each of their readers. Every leaf
then has a program of its own, and each takes time to compile: with a hundred leaves that is most of
a minute. On a CPU XLA fuses past an optimization barrier, but not out of a conditional, so there a
conditional is used whose condition is always true. Accelerators would have to wait for the
condition: they get the barrier.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._mesh import constant

FEW = 8
"""Up to so many leaves have programs of their own."""
UNLIKE = np.array([0x9E3779B9, 0x85EBCA6B], np.uint32)
"""Words that continue no pattern."""


def draw_once(draw: Callable[[], Any], key: jax.Array) -> Any:
    """The arrays of ``draw()``, written to memory before anything reads them.

    Otherwise random numbers would be drawn again for each reader, such as x[1:] and x[:-1].
    """

    def on_cpu(key):
        def zeros():
            # From the key, as the draws are: inside shard_map both branches vary alike.
            zero = jax.random.key_data(key).reshape(-1)[0] & np.uint32(0)

            def like(s):
                return constant(s.shape, 0, s.dtype, s.sharding) + zero.astype(s.dtype)

            return jax.tree.map(like, jax.eval_shape(draw))

        return jax.lax.cond(_always(), draw, zeros)

    return jax.lax.platform_dependent(
        key, cpu=on_cpu, default=lambda _: jax.lax.optimization_barrier(draw())
    )


def written(x: jax.Array) -> jax.Array:
    """A small array, or a key, written to memory before anything reads it."""
    if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
        impl = jax.random.key_impl(x)
        return jax.random.wrap_key_data(written(jax.random.key_data(x)), impl=impl)

    def on_cpu(x):
        # The other branch sorts: a conditional between cheap branches would become a selection.
        return jax.lax.cond(_always(), lambda x: x, jnp.sort, x)

    if not x.ndim:
        return written(x[None])[0]
    return jax.lax.platform_dependent(
        x, cpu=on_cpu, default=lambda x: jax.lax.optimization_barrier(x)
    )


def hidden(constants: list[np.ndarray]) -> list[jax.Array]:
    """Vectors of uint32 of which the compiler knows nothing, so that their users are alike.

    Words that mean nothing follow on each: XLA would write a single number into its users, and
    rows of equal distances as a formula.
    """
    padded = [np.concatenate([x, UNLIKE]).astype(np.uint32) for x in constants]
    return jax.lax.optimization_barrier(padded)


def opaque(key: jax.Array) -> jax.Array:
    """The key, of which the compiler knows nothing.

    XLA would draw all that follows from a constant key while it compiles, which takes minutes.
    """
    data = jax.lax.optimization_barrier(jax.random.key_data(key))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def _always() -> jax.Array:
    """True, of which the compiler knows nothing."""
    return jax.lax.optimization_barrier(jnp.ones((), bool))
