"""Stochastic rounding: parameters of half precision keep small updates on average.

``optax.apply_updates`` rounds p + u to the nearest number of the parameters' dtype. An update below
half their spacing is lost, however often it comes. Here the sum goes to one of its two neighbours,
at random, such that its mean is p + u. What leads there from p is a number of the parameters' dtype
too if |u| ≤ |p|/2, as the difference of two numbers within a factor of two always is.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax import _checks, _random
from zovh_jax._mesh import alike, placed_with
from zovh_jax._tree import layout_of
from zovh_jax.directions._drawing import draw_independent
from zovh_jax.transforms._state import next_round

NARROW = (jnp.bfloat16, jnp.float16)


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

    The last part of a chain, after the learning rate. For bfloat16 and float16 leaves with
    |u| ≤ |p|/2, ``optax.apply_updates(params, updates)`` gives one of the two neighbours of the
    exact p + u, with E[p + u'] = p + u. Larger updates are rounded themselves, as they are without
    this. Other leaves pass unchanged.

    The other remedy costs memory instead of noise: keep float32 parameters, and cast them inside
    ``value_fn``. Factored directions keep their factors through the cast.

    Args:
      key: ``jax.random.key(seed)``, another than the estimate's; every step draws from a key folded
        from it and the step.

    Returns:
      A transformation that queries nothing; updates in the parameters' dtypes. They may come in
      wider: float16 has no numbers below 6e-8, and loses smaller updates before they get here.
      Sums that are not finite pass unchanged. State: a key and a count. Memory beyond the
      parameters: a float32 number for each.

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
        drawn = draw_independent(
            _uniform, jax.random.fold_in(state.key, state.count), layout, jnp.zeros(1, jnp.int32)
        )
        chances = [x[0] for x in drawn]
        rounded = [_rounded(*x) for x in zip(narrow, steps, chances, strict=True)]
        for i, step in zip(which, alike(rounded, narrow), strict=True):
            moves[i] = step
        return treedef.unflatten(moves), StochasticRoundingState(
            *next_round(state.key, state.count)
        )

    return optax.GradientTransformationExtraArgs(init, update)


def _is_narrow(x: Any) -> bool:
    """Whether a leaf has entries of half precision."""
    dtype = x.dtype if hasattr(x, "dtype") else jnp.result_type(x)
    return dtype in NARROW and bool(np.size(x))


def _uniform(words: Any, stream: Any, place: jax.Array, dtype: Any) -> jax.Array:
    """Numbers of [0, 1) for `draw_independent`, in steps of 2⁻²⁴."""
    bits = _random.bits(words, stream, place) >> np.uint32(8)
    return bits.astype(dtype) * np.array(2**-24, dtype)


@jax.jit
def _rounded(p: jax.Array, u: jax.Array, chance: jax.Array) -> jax.Array:
    """The update that takes p to a neighbour of p + u: elementwise, in p's dtype."""
    dtype, plain = p.dtype, u.astype(p.dtype)
    p, u = p.astype(jnp.float32), u.astype(jnp.float32)
    total = p + u
    part = total - p
    error = (p - (total - part)) + (u - part)  # p + u = total + error, exactly
    nearest = total.astype(dtype)
    gap = (total - nearest.astype(jnp.float32)) + error
    beyond = jnp.where(gap > 0, np.inf, -np.inf).astype(dtype)
    other = jnp.nextafter(nearest, beyond).astype(jnp.float32)
    nearest = nearest.astype(jnp.float32)
    moves = chance * jnp.abs(other - nearest) < jnp.abs(gap)
    target = jnp.where(moves & jnp.isfinite(other), other, nearest)
    step = (target - p).astype(dtype)
    return jnp.where(jnp.isfinite(nearest) & jnp.isfinite(step), step, plain)


__all__ = ["StochasticRoundingState", "stochastic_rounding"]
