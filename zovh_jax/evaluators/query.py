"""One round of queries: a plan, evaluated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._program import written
from zovh_jax._tree import layout_of, scalar_dtype
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.directions import Directions, gaussian
from zovh_jax.directions.families import as_family
from zovh_jax.evaluators.evaluator import Evaluator, leaves_objective
from zovh_jax.evaluators.vmapped import vmapped
from zovh_jax.plan import Plan
from zovh_jax.queries import Queries, scalar
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward


def query(
    value_fn: ValueFn,
    params: PyTree,
    key: jax.Array,
    *,
    num_directions: int,
    radius: Any,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    evaluate: Evaluator = vmapped(),
    value: Any = None,
    origin: bool = False,
    store_directions: bool = False,
    shaping: Shaping = none(),
) -> Queries:
    """One round of queries of ``value_fn`` around ``params``.

    Args:
      value_fn: maps a tree like params to a scalar float. Traced once, never differentiated.
      params: θ, a tree of float arrays; frozen leaves (``directions.masked``) may be anything.
      key: the round's key; direction k is drawn from ``fold_in(key, k)``.
      num_directions: K.
      radius: μ.
      directions: the family of directions.
      stencil: ``forward()`` costs K queries, ``central()`` 2K, ``three_point()`` 2K + 1.
      evaluate: ``vmapped()`` or ``chunked(size)``.
      value: f(θ), where it is known already: spares the origin's query.
      origin: also query f(θ) (one more query, unless the stencil does or ``value`` is given).
      store_directions: keep the directions in the result (K copies of the parameters) instead
        of replaying them.
      shaping: what is done to the values before they are returned; see `zo.shaping`.

    Returns:
      `Queries`. Values that are NaN or ±Inf stay in it; the estimators drop them.

    Raises:
      TypeError: if the objective is not a scalar float, or a leaf of params is not a float array.
      ValueError: for sizes out of range.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = lambda x: jnp.sum(x ** 2)
      >>> q = zo.query(f, jnp.ones(3), jax.random.key(0), num_directions=4, radius=0.1,
      ...              stencil=zo.stencils.three_point())
      >>> q.values.shape, float(q.origin)
      ((4, 2), 3.0)
    """
    num_directions = _checks.positive_int("num_directions", num_directions)
    as_family(directions)
    _checks.instance("stencil", stencil, Stencil, "the stencils of zo.stencils")
    _checks.instance("evaluate", evaluate, Evaluator, "zo.evaluators.vmapped(), chunked(size)")
    _checks.instance("shaping", shaping, Shaping, "the rules of zo.shaping")
    _checks.positive("radius", radius)
    layout = layout_of(params, directions.active)
    if not layout.active:
        raise ValueError(f"params must have at least one array to perturb; got {params!r}.")
    directions.check_rounds(layout, num_directions)
    if not layout.num_leaves:
        raise ValueError(f"directions={directions!r} perturb no leaf of params.")
    # Explicit dtypes strip weak types, so that θ and θ + μu are the same to the tracing cache.
    leaves = [
        jnp.asarray(x, t)
        for x, t in zip(layout.leaves(params, "params"), layout.dtypes, strict=True)
    ]
    plan = Plan(
        None if directions.given else _checks.key(key),
        directions,
        num_directions=num_directions,
        block_size=evaluate.block_size(num_directions),
    )
    if store_directions and plan.key is not None:
        plan = dataclasses.replace(plan, stored=layout.tree(plan.materialise(layout)))

    ask_origin = value is None and (origin or stencil.needs_origin)
    fn = leaves_objective(value_fn, params, layout)
    if ask_origin + evaluate.traces(num_directions) > 1:
        fn = jax.jit(fn)  # called at several places, traced at the first
    # A constant to automatic differentiation, as the values that depend on it are.
    radius = jax.lax.stop_gradient(jnp.asarray(radius, scalar_dtype()))
    steps = radius * jnp.asarray(stencil.offsets, scalar_dtype())
    values = evaluate.evaluate(fn, leaves, plan, layout, steps)
    if ask_origin:
        value = fn(leaves)
    if layout.num_leaves > 1:
        values = written(values)
    queries = Queries(
        plan,
        values if stencil.paired else values[:, 0],
        radius,
        None if value is None else scalar("value", value),
        stencil,
    )
    return shaping.apply(queries, ())[0]


__all__ = ["query"]
