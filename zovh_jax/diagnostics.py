"""What an optimiser's state knows about its run, without another query."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax._tree import scalar_dtype
from zovh_jax._words import unpack_all
from zovh_jax.transforms._state import ZerothOrderState, num_queries, saturating_add


class Diagnostics(NamedTuple):
    """What is known about a run; counts are of the whole run.

    Attributes:
      value: mean of the last round's finite values; ∞ before the first, and where none was finite.
      origin: f(θ) of the last round, where it was asked for or passed as ``value=``; else ∞.
      best_value: the least finite value met so far, at a perturbed point or at θ. With noise, or
        with minibatches, it owes much to luck.
      spread: standard deviation of the last round's finite values.
      num_queries: objective evaluations.
      num_nonfinite: how many of them came back NaN or ±Inf.
      num_dropped: directions left out, as a value was not finite or the radius not above zero.
      num_undone: steps taken back, by the optimisers that do so.
      num_flat: rounds whose values were all equal. Where they are many the radius is below
        rounding, or the objective does not depend on what is perturbed.
      num_outliers: finite values of rounds taken for missing, as they are too far from others; by
        the optimisers that do so.
    """

    value: jax.Array
    origin: jax.Array
    best_value: jax.Array
    spread: jax.Array
    num_queries: jax.Array
    num_nonfinite: jax.Array
    num_dropped: jax.Array
    num_undone: jax.Array
    num_flat: jax.Array
    num_outliers: jax.Array


def diagnostics(opt_state: Any) -> Diagnostics:
    """What a state knows about its run, without another query.

    Args:
      opt_state: the state of any optax chain, or of `jax.vmap` over one. Where several of its
        links query, counts are summed, ``best_value`` is the least, and the rest is the first's.

    Returns:
      `Diagnostics`, of scalars; works under jit, and costs nothing.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = lambda x: jnp.where(x[0] > 1, jnp.nan, jnp.sum(x ** 2))  # no values beyond x[0] = 1
      >>> x, key = jnp.ones(3), jax.random.key(0)
      >>> optimizer = zo.zo_sgd(0.1, num_directions=8, radius=0.1, key=key)
      >>> _, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> d = zo.diagnostics(state)
      >>> float(d.origin), int(d.num_queries), bool(d.num_nonfinite > 0), int(d.num_flat)
      (3.0, 9, True, 0)
    """
    opt_state = unpack_all(opt_state)
    found = jax.tree.leaves(opt_state, is_leaf=lambda x: isinstance(x, ZerothOrderState))
    states = [x for x in found if isinstance(x, ZerothOrderState)]

    def total(counts: list[Any]) -> jax.Array:
        return functools.reduce(saturating_add, counts, jnp.zeros((), jnp.int32))

    def named(name: str) -> list[Any]:
        return [n for _, n in optax.tree.get_all_with_path(opt_state, name)]

    unknown = jnp.asarray(jnp.inf, scalar_dtype())
    seen = states[0].summary if states else (unknown, unknown, unknown, jnp.zeros_like(unknown))
    best = functools.reduce(jnp.minimum, [state.summary.best_value for state in states], unknown)
    return Diagnostics(
        value=jnp.asarray(seen[0]),
        origin=jnp.asarray(seen[1]),
        best_value=best,
        spread=jnp.asarray(seen[3]),
        num_queries=num_queries(opt_state),
        num_nonfinite=total([state.num_nonfinite for state in states]),
        num_dropped=total([state.num_dropped for state in states]),
        num_undone=total(named("num_undone")),
        num_flat=total([state.num_flat for state in states]),
        num_outliers=total(named("num_outliers")),
    )


__all__ = ["Diagnostics", "diagnostics"]
