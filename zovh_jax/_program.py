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
"""Up to so many leaves of one shape have programs of their own."""
UNLIKE = np.array([0x9E3779B9, 0x85EBCA6B], np.uint32)
"""Words that continue no pattern."""


def draw_once(draw: Callable[[], Any], key: jax.Array) -> Any:
    """The arrays of ``draw()``, written to memory before anything reads them.

    Otherwise random numbers would be drawn again for each reader, such as x[1:] and x[:-1].
    """

    def on_cpu(key):
        word = _word(key)

        def zeros():
            # From the key, as the draws are: inside shard_map both branches vary alike.
            zero = word & np.uint32(0)

            def like(s):
                return constant(s.shape, 0, s.dtype, s.sharding) + zero.astype(s.dtype)

            return jax.tree.map(like, jax.eval_shape(draw))

        return jax.lax.cond(_always(word), draw, zeros)

    return jax.lax.platform_dependent(
        key, cpu=on_cpu, default=lambda _: jax.lax.optimization_barrier(draw())
    )


def written(x: jax.Array) -> jax.Array:
    """A small array, written to memory before anything reads it."""

    def on_cpu(x):
        # The other branch sorts: a conditional between cheap branches would become a selection.
        return jax.lax.cond(_always(_any_word(x)), lambda x: x, jnp.sort, x)

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
    data = written(jax.lax.optimization_barrier(jax.random.key_data(key)))
    return jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))


def _word(key: jax.Array) -> jax.Array:
    return jax.random.key_data(key).reshape(-1)[0]


def _any_word(x: jax.Array) -> jax.Array:
    first = x.reshape(-1)[0]
    if first.dtype == bool:
        return first.astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(first, jnp.uint8).reshape(-1)[0].astype(jnp.uint32)


def _always(word: jax.Array) -> jax.Array:
    """True, in a form that compilers do not see through."""
    return word | np.uint32(1) > 0
