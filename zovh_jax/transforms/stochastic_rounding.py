"""Stochastic rounding: parameters of less than float32 precision keep small updates on average.

``optax.apply_updates`` rounds p + u to the nearest number of the parameters' dtype. An update below
half their spacing is lost, however often it comes. Here the sum goes to one of its two neighbours,
at random, such that its mean is p + u.

All is computed in float32 from the sum's own parts, so that even updates far below float32's last
digit count. The update that leads to a neighbour is a number of the parameters' dtype too. There is
always one for the nearest neighbour, and for both where u is not larger than p. Else the sum of p
and any narrow number may be a tie, which goes to the even side: then the next number that can be
reached is the other choice, with the smaller probability that keeps the mean.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax import _checks, _random
from zovh_jax._mesh import alike, placed_with
from zovh_jax._program import opaque, written
from zovh_jax._tree import Layout, layout_of
from zovh_jax._types import Leaves
from zovh_jax.directions._drawing import starts_of
from zovh_jax.transforms._state import next_round

BIAS, DIGITS = 127, 23
"""Of float32: what is added to its exponents, and how many digits follow the first."""
WORDS = np.float32(2.0**32)
"""How many words there are."""
LARGEST_BOUND = np.nextafter(WORDS, np.float32(0))
"""The largest float32 that a uint32 can hold."""


class StochasticRoundingState(NamedTuple):
    """State of `stochastic_rounding`.

    Attributes:
      key: ``fold_in`` of the key given and 0; another after 2³¹ steps.
      count: steps taken with this key: step t draws with ``fold_in`` of the key and t. After 2³¹ of
        them comes a new key, at 0.
    """

    key: jax.Array
    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count, as in optax


def stochastic_rounding(*, key: jax.Array) -> optax.GradientTransformationExtraArgs:
    """Makes updates whose sum with narrow parameters is rounded at random, right on average.

    The last part of a chain, after the learning rate. For bfloat16, float16 and float8 leaves,
    ``optax.apply_updates(params, updates)`` gives one of the two neighbours of the exact p + u,
    with E[p + u'] = p + u. Leaves of float32 and wider, and those that are no floats, pass
    unchanged.

    The other remedy costs memory instead of noise: keep float32 parameters, and cast them inside
    ``value_fn``. Factored directions keep their factors through the cast.

    Args:
      key: ``jax.random.key(seed)``, another than the estimate's; every step draws from a key folded
        from it and the step.

    Returns:
      A transformation that queries nothing; updates in the parameters' dtypes. They may come in
      wider: float16 has no numbers below 6e-8, and loses smaller updates before they get here.
      Where |u| > |p| a neighbour may be out of reach for an update of the parameters' dtype; the
      next number that is not takes its place, and the mean stays, unless that is beyond the
      largest number. Sums beyond it, and updates that are not finite, pass unchanged. In bfloat16,
      numbers below 2⁻¹¹⁸ are rounded to multiples of 2⁻¹²⁶, as some devices have no smaller ones.
      State: a key and a count. Memory beyond the parameters: none in a compiled step, where the
      random word (4 bytes) of an entry is made as it is used.

    Raises:
      TypeError: for a key that is not one PRNG key; at ``update`` for missing ``params``.
      ValueError: at ``update`` for updates that are not like params, or a state of another
        transformation.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> x, u = jnp.ones(1000, jnp.bfloat16), jnp.full(1000, 1e-4, jnp.bfloat16)
      >>> bool(jnp.all(optax.apply_updates(x, u) == x))  # bfloat16 has no number below 1.0078
      True
      >>> rounding = zo.stochastic_rounding(key=jax.random.key(1))
      >>> state, step = rounding.init(x), jax.jit(rounding.update)
      >>> for _ in range(100):
      ...     updates, state = step(u, state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> abs(float(x.astype(jnp.float32).mean()) - 1.01) < 1e-3
      True
    """
    key = _checks.key(key)

    def init(params):
        # A key of our own: donating the state must not delete the caller's.
        state = StochasticRoundingState(jax.random.fold_in(key, 0), jnp.zeros((), jnp.int32))
        return placed_with(state, params)

    def update(updates, state, params=None, **extra):
        del extra
        if params is None:
            raise TypeError(
                "stochastic_rounding needs the parameters, to which the updates are added: call "
                "update(updates, state, params)."
            )
        if not isinstance(state, StochasticRoundingState):
            raise ValueError(
                "stochastic_rounding: this is not its state, but "
                f"{type(state).__name__}. Pass what init or the last update gave."
            )
        leaves, treedef = jax.tree.flatten(params)
        try:
            moves = treedef.flatten_up_to(updates)
        except ValueError as error:
            raise ValueError(
                f"updates must be a tree like params, {treedef}; got "
                f"{jax.tree.structure(updates)}. Put stochastic_rounding at the end of a chain."
            ) from error
        which = [i for i, x in enumerate(leaves) if _is_narrow(x) and moves[i] is not None]
        narrow = [jnp.asarray(leaves[i]) for i in which]
        layout = layout_of(narrow)
        steps = layout.leaves([moves[i] for i in which], "updates")
        rounded = _rounded_leaves(narrow, steps, jax.random.fold_in(state.key, state.count), layout)
        for i, step in zip(which, alike(rounded, narrow), strict=True):
            moves[i] = step
        return treedef.unflatten(moves), StochasticRoundingState(
            *next_round(state.key, state.count)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _is_narrow(x: Any) -> bool:
    """Whether a leaf has entries of a float of less than float32 precision."""
    dtype = x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
    if not jnp.issubdtype(dtype, jnp.floating) or not np.size(x):
        return False
    info = jnp.finfo(dtype)
    return info.bits < 32 and info.nmant > 0  # a type of bare exponents has no zero, no signs


def _rounded_leaves(leaves: Leaves, steps: Leaves, key: jax.Array, layout: Layout) -> Leaves:
    """The updates of all leaves.

    The random word of an entry follows from its place among all narrow parameters alone. It is a
    few operations, done where it is used: nothing is kept, and no leaf has a program for it.
    """
    # Written to memory, or else each leaf's program would make them of the key.
    pair, rounded = written(jnp.stack(_random.words_of(opaque(key)))), []
    words = pair[0], pair[1]
    for p, u, start, sharding in zip(
        leaves, steps, starts_of(layout), layout.shardings, strict=True
    ):
        stream, first = map(np.uint32, divmod(start, 2**32))
        place = _random.counter(p.shape, sharding) + first
        rounded.append(_rounded(p, u, _random.bits(words, stream, place)))
    return rounded


def _rounded(p: jax.Array, u: jax.Array, word: jax.Array) -> jax.Array:
    """The update that takes p to a neighbour of p + u: elementwise, in p's dtype."""
    dtype, is_wide = p.dtype, u.dtype != p.dtype
    largest = np.float32(jnp.finfo(dtype).max)
    plain, p, u = u.astype(dtype), p.astype(jnp.float32), u.astype(jnp.float32)
    possible = jnp.abs(p + u) <= largest  # false for NaN too
    p, u = jnp.where(possible, p, 0), jnp.where(possible, u, 0)

    def nearest(x):
        scaled, unit = _on_grid(x, dtype)
        return jnp.round(scaled) * unit

    # One choice is what the plain update gives.
    first = jnp.clip(nearest(u), -largest, largest) if is_wide else u
    after_first = nearest(p + first)
    total = p + u
    part = total - p
    error = (p - (total - part)) + (u - part)  # p + u = total + error, exactly
    gap = (total - after_first) + error
    side = jnp.where(gap >= 0, np.float32(1), np.float32(-1))
    # The other is the neighbour on the other side of the sum. Of the two steps around the exact
    # one the shorter way may round back.
    scaled, unit = _on_grid(total, dtype, error)
    target = side * (jnp.floor(side * scaled) + 1) * unit
    scaled, unit = _on_grid(target - p, dtype)
    near, far = (
        jnp.clip(side * end(side * scaled) * unit, -largest, largest)
        for end in (jnp.floor, jnp.ceil)
    )
    other = jnp.where(side * (nearest(p + near) - target) >= 0, near, far)
    after_other = nearest(p + other)
    width = side * (after_other - after_first)
    reached = (width > 0) & (jnp.abs(after_other) <= largest)
    share = jnp.abs(gap) / jnp.where(reached, width, 1)
    bound = jnp.minimum(jnp.round(share * WORDS), LARGEST_BOUND).astype(jnp.uint32)
    # Where their sum is exact, u' leads there in any precision.
    first = jnp.where(jnp.abs(u) <= np.float32(0.5) * jnp.abs(p), after_first - p, first)
    step = jnp.where(reached & (word < bound), other, first).astype(dtype)
    return jnp.where(possible, step, plain)


def _on_grid(x: jax.Array, dtype: Any, error: Any = None) -> tuple[jax.Array, jax.Array]:
    """x in units of the dtype's spacing around x (plus a small error), and that unit: float32.

    Powers of two are made from their bits, so that both are exact.
    """
    info = jnp.finfo(dtype)
    bits = jax.lax.bitcast_convert_type(x, jnp.int32) & np.int32(0x7FFFFFFF)
    if error is not None:  # just below a power of two the spacing is the smaller one
        bits = bits - ((error != 0) & ((error < 0) != (x < 0)) & (bits > 0)).astype(jnp.int32)
    least = max(int(info.minexp) + BIAS - int(info.nmant), 1)
    exponent = jnp.maximum((bits >> DIGITS) - np.int32(info.nmant), np.int32(least))
    unit, inverse = (
        jax.lax.bitcast_convert_type(e << DIGITS, jnp.float32)
        for e in (exponent, np.int32(2 * BIAS) - exponent)
    )
    return x * inverse, unit


__all__ = ["StochasticRoundingState", "stochastic_rounding"]
