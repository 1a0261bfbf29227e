"""How a round is evaluated: the only code that calls the user's objective.

- ``vmapped()``: all perturbed parameters at once. Fastest; K (or 2K) copies of the parameters.
- ``chunked(size)``: ``size`` directions at a time, plus and minus one after the other. Memory for
  ``size`` directions and as many perturbed copies, whatever K is.

An evaluator also says in what block sizes directions are replayed later. However it works,
``value_fn`` is traced exactly once a round.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._tree import Structure, direction_dtype, scalar_dtype, structure_of
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.directions import Directions, gaussian
from zovh_jax.queries import Plan, Queries, scalar
from zovh_jax.stencils import Stencil, forward

LeavesFn = Callable[[list[Any]], jax.Array]


class Evaluator:
    """Evaluates a round; see the module's docstring."""

    def block_size(self, num_directions: int) -> int:
        """How many directions are in memory at once."""
        raise NotImplementedError  # pragma: no cover - abstract

    def traces(self, num_directions: int) -> int:
        """At how many places ``evaluate`` calls its function."""
        raise NotImplementedError  # pragma: no cover - abstract

    def evaluate(
        self, fn: LeavesFn, leaves: list[Any], plan: Plan, structure: Structure, steps: jax.Array
    ) -> jax.Array:
        """Values [K, len(steps)] of ``fn`` at leaves + step·u_k; ``steps`` are offset × radius."""
        raise NotImplementedError  # pragma: no cover - abstract


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Vmapped(Evaluator):
    """All of a round's queries in one batch."""

    def block_size(self, num_directions):
        return num_directions

    def traces(self, num_directions):
        return 1

    def evaluate(self, fn, leaves, plan, structure, steps):
        return _evaluate_block(fn, leaves, plan.materialise(structure), steps)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Chunked(Evaluator):
    """``size`` directions at a time.

    Args:
      size: directions in memory at once; need not divide num_directions.
      redraw: for pairs, draw a direction again for its minus point instead of keeping it: one
        block of directions less in memory, for one more draw.
    """

    size: int
    redraw: bool = False

    def __post_init__(self):
        _checks.positive_int("size", self.size)

    def block_size(self, num_directions):
        return min(self.size, num_directions)

    def traces(self, num_directions):
        return 1 + (num_directions % self.block_size(num_directions) > 0)

    def evaluate(self, fn, leaves, plan, structure, steps):
        k, b = plan.num_directions, self.block_size(plan.num_directions)
        in_memory = plan.stored is not None or plan.directions.law == "given"
        stored = plan.materialise(structure) if in_memory or plan.directions.joint else None

        def rows(indices, key):
            if stored is None:
                return plan.directions.draw(key, structure, k, indices)
            return [u if u is None else u[indices] for u in stored]

        def block(indices):
            redraw = self.redraw and stored is None
            kept = None if redraw else rows(indices, plan.key)

            def at(step):
                drawn = kept
                if redraw:
                    # The barrier keeps XLA from moving the draw out of the loop over steps.
                    data, step = jax.lax.optimization_barrier((jax.random.key_data(plan.key), step))
                    key = jax.random.wrap_key_data(data, impl=jax.random.key_impl(plan.key))
                    drawn = rows(indices, key)
                return _evaluate_block(fn, leaves, drawn, step[None])

            return jnp.moveaxis(jax.lax.map(at, steps)[..., 0], 0, -1)

        whole = k - k % b
        starts = jnp.arange(whole).reshape(-1, b)
        values = jax.lax.map(block, starts).reshape(whole, -1)
        if whole < k:
            values = jnp.concatenate([values, block(jnp.arange(whole, k))])
        return values


def _evaluate_block(fn, leaves, block: Leaves, steps) -> jax.Array:
    def at(u, step):
        return fn([x if v is None else perturb(x, step, v) for x, v in zip(leaves, u, strict=True)])

    if steps.shape[0] == 1:
        return jax.vmap(lambda u: at(u, steps[0]))(block)[:, None]
    return jax.vmap(lambda u: jax.vmap(lambda step: at(u, step))(steps))(block)


def perturb(x: jax.Array, step: jax.Array, u: jax.Array) -> jax.Array:
    """x + step·u, computed in the direction's precision and rounded once to x's dtype."""
    wide = direction_dtype(x.dtype)
    return (x.astype(wide) + step.astype(wide) * u.astype(wide)).astype(x.dtype)


def query(
    value_fn: ValueFn,
    params: PyTree,
    key: jax.Array,
    *,
    num_directions: int,
    radius: Any,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    evaluate: Evaluator = Vmapped(),
    value: Any = None,
    origin: bool = False,
    store_directions: bool = False,
) -> Queries:
    """One round of queries of ``value_fn`` around ``params``.

    Args:
      value_fn: maps a tree like params to a scalar float. Traced once, never differentiated.
      params: θ, a tree of float arrays.
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
    _checks.instance("directions", directions, Directions, "the families of zo.directions")
    _checks.instance("stencil", stencil, Stencil, "the stencils of zo.stencils")
    _checks.instance("evaluate", evaluate, Evaluator, "zo.evaluators.vmapped(), chunked(size)")
    _checks.positive("radius", radius)
    structure = structure_of(params)
    if not structure.num_leaves:
        raise ValueError(f"params must have at least one array to perturb; got {params!r}.")
    directions.check_rounds(structure, num_directions)
    # Explicit dtypes strip weak types, so that θ and θ + μu are the same to the tracing cache.
    leaves = [
        jnp.asarray(x, t) for x, t in zip(jax.tree.leaves(params), structure.dtypes, strict=True)
    ]
    plan = Plan(
        None if directions.law == "given" else _checks.key(key),
        directions,
        num_directions=num_directions,
        block_size=evaluate.block_size(num_directions),
    )
    if store_directions and plan.key is not None:
        plan = dataclasses.replace(plan, stored=structure.unflatten(plan.materialise(structure)))

    ask_origin = value is None and (origin or stencil.needs_origin)
    fn = scalar_objective(value_fn, structure)
    if ask_origin + evaluate.traces(num_directions) > 1:
        fn = jax.jit(fn)  # called at several places, traced at the first
    radius = jnp.asarray(radius, scalar_dtype())
    steps = radius * jnp.asarray(stencil.offsets, scalar_dtype())
    values = evaluate.evaluate(fn, leaves, plan, structure, steps)
    if ask_origin:
        value = fn(leaves)
    return Queries(
        plan,
        values if stencil.paired else values[:, 0],
        radius,
        None if value is None else scalar("value", value),
        stencil,
    )


def scalar_objective(value_fn: ValueFn, structure: Structure) -> LeavesFn:
    """``value_fn`` on leaves, with its output checked while it is traced."""

    def fn(leaves):
        out = value_fn(structure.unflatten(leaves))
        if isinstance(out, (float, jax.Array, np.ndarray, np.generic)):
            shape, dtype = jnp.shape(out), jnp.result_type(out)
            got = f"shape {shape} and dtype {dtype}"
        else:
            shape, dtype, got = None, None, repr(out)
        if shape != () or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"value_fn must return a scalar float; got {got}. Reduce it (jnp.mean), convert "
                "it, or drop auxiliary outputs."
            )
        return jnp.asarray(out).astype(scalar_dtype())

    return fn


vmapped = Vmapped
chunked = Chunked

__all__ = ["Evaluator", "chunked", "perturb", "query", "vmapped"]
