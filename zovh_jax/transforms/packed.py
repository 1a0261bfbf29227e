"""Packed states: a step that Python calls hands over few arrays in place of dozens.

A call of a compiled function pays for every array that goes in and comes out, and so does every
number that the program must put into a buffer of its own. Where parameters are few, that is more
than the step itself. XLA hands the parts of a program to several threads as soon as one of them
touches an array of more than 512 bytes, which costs more still: packed arrays are no larger.
"""

import optax

from zovh_jax import _checks, _words
from zovh_jax._types import PyTree


def packed(
    optimizer: optax.GradientTransformation, *, max_size: int = 128
) -> optax.GradientTransformationExtraArgs:
    """Holds the small arrays of an optimiser's state in few: steps called from Python cost less.

    For loops in Python over a compiled step of few parameters, where the call takes longer than the
    step. Updates are the same to the bit. Inside `jax.lax.scan` and `jax.lax.fori_loop`, which are
    faster still, it gains nothing.

    Args:
      optimizer: any, a chain too. Wrap ``optax.inject_hyperparams`` around and not inside where
        hyperparameters are to be set between steps.
      max_size: m, words of 32 bits in a packed array. Larger leaves stay as they are.

    Returns:
      The optimiser, with a state of uint32 arrays [n], n ≤ m, and of the leaves that are not in
      them: those of more than m words, complex ones, those of bfloat16, float8 or int4, and those
      split over an Explicit mesh. ``state.unpacked`` is the state inside (`zo.unpack` is something
      else). `zo.num_queries`, `zo.diagnostics` and `zo.random_iterate` read a packed state as it
      is; ``optax.tree.get`` and ``optax.tree.map_params`` do not. Queries: the optimiser's. In
      `jax.shard_map` use the optimiser as it is: there parts of a state vary over an axis, and
      others do not. Numbers of weak types in a state become strong.

    Raises:
      ValueError: for a ``max_size`` below 1; at ``update`` for a state of another transformation.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum((x - 1) ** 2), jnp.zeros(3)
      >>> inner = zo.scalar_newton(num_directions=3, radius=0.1, key=jax.random.key(0))
      >>> optimizer = zo.packed(inner)
      >>> len(jax.tree.leaves(inner.init(x))), len(jax.tree.leaves(optimizer.init(x)))
      (47, 1)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> state = optimizer.init(x)
      >>> for _ in range(30):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1e-3), int(state.unpacked.counts.count)
      (True, 30)
    """
    max_size = _checks.positive_int("max_size", max_size)
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: PyTree) -> _words.PackedState:
        return _words.in_words(optimizer.init(params), max_size)

    def update(updates, state, params=None, **extra):
        if not isinstance(state, _words.PackedState):
            raise ValueError(
                f"packed: this is not its state, but {type(state).__name__}. Pass what init or the "
                "last update gave."
            )
        updates, inner = optimizer.update(updates, state.unpacked, params, **extra)
        return updates, _words.in_words(inner, max_size)

    return optax.GradientTransformationExtraArgs(init, update)


__all__ = ["packed"]
