"""One round of queries: a plan, evaluated."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._program import FEW, opaque, written
from zovh_jax._tree import layout_of, scalar_dtype
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.directions import Directions, gaussian
from zovh_jax.directions.families import as_family
from zovh_jax.evaluators.evaluator import Evaluator, leaves_objective
from zovh_jax.evaluators.factored import interpreted
from zovh_jax.evaluators.randomness import OBJECTIVE, Keyed, parameters_of, wants_key
from zovh_jax.evaluators.vmapped import vmapped
from zovh_jax.plan import Plan
from zovh_jax.queries import Noise, Queries, scalar
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
    reduce: Literal["mean"] | None = None,
    common_key: bool = True,
) -> Queries:
    """One round of queries of ``value_fn`` around ``params``.

    Args:
      value_fn: maps a tree like params to a scalar float. Traced once, never differentiated. If it
        has a parameter ``key`` without a default, or None, it gets a PRNG key, folded from ``key``.
      params: θ, a tree of float arrays; frozen leaves (``directions.masked``) may be anything.
      key: the round's key; direction k is drawn from ``fold_in(key, k)``.
      num_directions: K.
      radius: μ.
      directions: the family of directions.
      stencil: ``forward()`` costs K queries, ``central()`` 2K, ``three_point()`` 2K + 1.
      evaluate: ``vmapped()``, ``chunked(size)`` or ``sharded(mesh, axis)``.
      value: f(θ), where it is known already: spares the origin's query.
      origin: also query f(θ) (one more query, unless the stencil does or ``value`` is given).
      store_directions: keep the directions in the result (K copies of the parameters) instead
        of replaying them.
      shaping: what is done to the values before they are returned; see `zo.shaping`.
      reduce: "mean" if ``value_fn`` returns a vector of one loss an example, [B]. Their mean is the
        value, and their spread gives `Queries.noise` (for B ≥ 2) at no cost; ``value`` may be such
        a vector too. Holds all losses of the round: K·B numbers, 2K·B for pairs.
      common_key: whether all queries get the same ``key``, so that they see the same noise and it
        cancels where it does not depend on θ (common random numbers). False gives each its own,
        as a simulator without a seed does.

    Returns:
      `Queries`. Values that are NaN or ±Inf stay in it; the estimators drop them.

    Raises:
      TypeError: if the objective is not a scalar float (or a vector, with ``reduce``), a leaf of
        params is not a float array, or ``common_key=False`` and ``value_fn`` takes no key.
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
    _checks.instance(
        "evaluate",
        evaluate,
        Evaluator,
        "zo.evaluators.vmapped(), chunked(size), sharded(mesh, axis)",
    )
    _checks.instance("shaping", shaping, Shaping, "the rules of zo.shaping")
    _checks.positive("radius", radius)
    if reduce not in (None, "mean"):
        raise ValueError(f'reduce must be None or "mean", got {reduce!r}.')
    if key is not None or not directions.given:
        key = opaque(_checks.key(key))
    if not isinstance(value_fn, Keyed) and key is not None and wants_key(parameters_of(value_fn)):
        value_fn = Keyed(value_fn, jax.random.fold_in(key, OBJECTIVE))
    if not common_key and not isinstance(value_fn, Keyed):
        raise TypeError(
            "common_key=False gives each query a PRNG key of its own, and value_fn has no "
            "parameter key to take it: write value_fn(params, key)."
        )
    layout = layout_of(params, directions.active)
    if not layout.active:
        raise ValueError(f"params must have at least one array to perturb; got {params!r}.")
    directions.check_rounds(layout, num_directions)
    if not layout.num_leaves:
        raise ValueError(f"directions={directions!r} perturb no leaf of params.")
    if key is not None and layout.num_leaves > FEW:
        key = written(key)  # else each program that reads it would contain how it is made
    # Explicit dtypes strip weak types, so that θ and θ + μu are the same to the tracing cache.
    leaves = [
        jnp.asarray(x, t)
        for x, t in zip(layout.leaves(params, "params"), layout.dtypes, strict=True)
    ]
    plan = Plan(
        None if directions.given else key,
        directions,
        num_directions=num_directions,
        block_size=evaluate.block_size(num_directions),
    )
    if store_directions and plan.key is not None:
        plan = dataclasses.replace(plan, stored=layout.tree(plan.rows(layout)))

    ask_origin = value is None and (origin or stencil.needs_origin)
    examples = reduce == "mean"
    fn = leaves_objective(value_fn, params, layout, examples=examples, common_key=common_key)
    if directions.factored:
        fn = interpreted(fn, leaves, jax.ShapeDtypeStruct((), jnp.result_type(int)))
    if ask_origin + evaluate.traces(num_directions) > 1:
        fn = jax.jit(fn)  # called at several places, traced at the first
    # A constant to automatic differentiation, as the values that depend on it are.
    radius = jax.lax.stop_gradient(jnp.asarray(radius, scalar_dtype()))
    steps = radius * jnp.asarray(stencil.offsets, scalar_dtype())
    if ask_origin:
        values, value = evaluate.evaluate_with_origin(fn, leaves, plan, layout, steps)
    else:
        values = evaluate.evaluate(fn, leaves, plan, layout, steps)
    noise = None
    if examples:
        noise = _noise(values, value, stencil.paired)
        values = jnp.mean(values, -1)
        value = value if value is None else jnp.mean(jnp.asarray(value))
    if layout.num_leaves > 1:
        values = written(values)
    queries = Queries(
        plan,
        values if stencil.paired else values[:, 0],
        radius,
        None if value is None else scalar("value", value),
        stencil,
        noise=noise,
    )
    return shaping.apply(queries, ())[0]


def _noise(values: jax.Array, origin: Any, paired: bool) -> Noise | None:
    """Standard errors from examples' values [K, 1 or 2, B] and those at θ, [B] where known."""
    num_examples = values.shape[-1]
    if num_examples < 2:
        return None
    finite = jnp.all(jnp.isfinite(values), -1, keepdims=True)
    clean = jnp.where(finite, values, 0)
    center = jnp.sum(clean, (0, 1)) / jnp.maximum(jnp.sum(finite), 1).astype(values.dtype)
    if origin is not None and jnp.ndim(origin) == 1:
        origin = jnp.asarray(origin, values.dtype)
        known = jnp.all(jnp.isfinite(origin))
        center = jnp.where(known, jnp.where(known, origin, 0), center)

    def error(x, finite):
        squares = jnp.sum(jnp.square(x - jnp.mean(x, -1, keepdims=True)), -1)
        return jnp.where(finite, jnp.sqrt(squares / (num_examples * (num_examples - 1))), jnp.inf)

    all_finite = jnp.all(finite, (1, 2))
    level = error(center, jnp.any(finite))
    if not paired:
        odd = error(clean[:, 0] - center, all_finite)
        return Noise(odd, odd, level)
    odd = error((clean[:, 0] - clean[:, 1]) / 2, all_finite)
    return Noise(odd, error((clean[:, 0] + clean[:, 1]) / 2 - center, all_finite), level)


__all__ = ["query"]
