"""Gradient estimates as an optax transformation: what the first-order optimisers are made of.

Source: (E13)–(E15); ZoAR, arXiv 2506.14460. Queries per step: K (forward; K + 1 with
``baseline=origin()``), 2K (central), 2K + 1 (three_point).
"""

from typing import Literal

import jax
import optax

from zovh_jax._types import Schedule
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.reuse import Reuse, uniform
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import Rounds, combined, share, transformation


def zo_gradient(
    num_directions: int,
    radius: Schedule,
    *,
    key: jax.Array,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = mean(),
    history_size: int = 1,
    evaluate: Evaluator = vmapped(),
    store_directions: bool = False,
    reuse: Reuse = uniform(),
    shaping: Shaping = none(),
    reduce: Literal["mean"] | None = None,
    common_key: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming updates by a gradient estimated from function values.

    Call ``update(updates, state, params, value_fn=f)``. ``updates`` is ignored and may be None;
    ``value=f(params)``, if you have it, saves the origin's query. ``f`` is traced once.

    Args:
      num_directions: K, directions a step.
      radius: μ, or a schedule.
      key: ``jax.random.key(seed)``; every step draws from a key folded from it and the step.
      directions: the family of directions.
      stencil: where along them to query.
      baseline: what to subtract from the values.
      history_size: N, rounds an estimate is made from, the current one included: 1 is no reuse.
      evaluate: ``vmapped()``, or ``chunked(size)`` to save memory.
      store_directions: keep the N·K directions in the state instead of replaying them from keys:
        faster, for N·K copies of the parameters.
      reuse: how past rounds count; see `zo.reuse`.
      shaping: what is done to a round's values first, against outliers; see `zo.shaping`.
      reduce, common_key: as for `zo.query`: losses of examples for values; one key for all queries
        of a round (the default), or each its own.

    Returns:
      A transformation that emits an ascent direction: follow it with ``optax.scale(-lr)`` or any
      optimiser. State: scalars, and N keys and N·K values with reuse.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them; at ``update`` for a missing
      ``value_fn`` or ``params``, or an objective that is not a scalar float.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = optax.chain(
      ...     zo.zo_gradient(8, 1e-2, key=jax.random.key(0)),
      ...     optax.clip_by_global_norm(1.0),
      ...     optax.adam(0.1),
      ... )
      >>> state = optimizer.init(x)
      >>> updates, state = optimizer.update(None, state, x, value_fn=f)
      >>> float(f(optax.apply_updates(x, updates))) < float(f(x))
      True
    """
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        stencil=stencil,
        baseline=baseline,
        evaluate=evaluate,
        history_size=history_size,
        store_directions=store_directions,
        reuse=reuse,
        shaping=shaping,
        reduce=reduce,
        common_key=common_key,
    )

    def step(updates, state, params, value_fn, value):
        del updates
        queries, _, state = rounds.step(state, params, value_fn, value)
        layout = rounds.layout(params)
        c = gradient_coefficients(queries, layout, baseline) * share(queries, baseline)
        return combined(queries, c, layout), state

    return transformation("zo_gradient", rounds.init, step)


__all__ = ["zo_gradient"]
