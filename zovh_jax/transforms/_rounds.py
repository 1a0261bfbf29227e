"""What every transformation does first: one round of queries, counted and remembered."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks, _random
from zovh_jax._program import written
from zovh_jax._tree import Layout, layout_of, scalar_dtype, scale
from zovh_jax._types import PyTree, Schedule, ValueFn
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.directions.families import as_family
from zovh_jax.estimators.hessian import check_moments
from zovh_jax.estimators.weights import based
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.query import query
from zovh_jax.history import History
from zovh_jax.queries import Queries
from zovh_jax.reuse import Reuse, uniform
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._door import transformation
from zovh_jax.transforms._precision import on_floats
from zovh_jax.transforms._state import ZerothOrderState, num_queries, saturating_add


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rounds:
    """The settings of a transformation's rounds; checked when it is made.

    A transformation names those that differ from these defaults. ``second_order`` says that it
    makes Hessians too.
    """

    num_directions: int
    radius: Schedule
    key: jax.Array
    directions: Directions = gaussian()  # noqa: RUF009 - frozen, as all of these
    stencil: Stencil = forward()  # noqa: RUF009
    baseline: Baseline = mean()  # noqa: RUF009
    evaluate: Evaluator = vmapped()  # noqa: RUF009
    history_size: int = 1
    store_directions: bool = False
    reuse: Reuse = uniform()  # noqa: RUF009
    shaping: Shaping = none()  # noqa: RUF009
    reduce: Literal["mean"] | None = None
    common_key: bool = True
    second_order: bool = False

    def __post_init__(self):
        _checks.positive_int("num_directions", self.num_directions)
        _checks.positive_int("history_size", self.history_size)
        _checks.positive("radius", self.radius, schedule=True)
        as_family(self.directions)
        _checks.instance("stencil", self.stencil, Stencil, "the stencils of zo.stencils")
        _checks.instance(
            "evaluate",
            self.evaluate,
            Evaluator,
            "zo.evaluators.vmapped(), chunked(size), sharded(mesh, axis)",
        )
        _checks.instance("baseline", self.baseline, Baseline, "the baselines of zo.baselines")
        _checks.instance("reuse", self.reuse, Reuse, "the rules of zo.reuse")
        self.reuse.check(self.directions, self.stencil)
        _checks.instance("shaping", self.shaping, Shaping, "the rules of zo.shaping")
        object.__setattr__(self, "key", _checks.key(self.key))
        if self.reduce not in (None, "mean"):
            raise ValueError(f'reduce must be None or "mean", got {self.reduce!r}.')
        if self.uses_baseline and self.size < self.baseline.min_queries:
            raise ValueError(
                f"baseline={self.baseline!r} needs at least {self.baseline.min_queries} queries; "
                f"got num_directions × history_size = {self.size}. Raise either, or use "
                "baseline=zo.baselines.origin()."
            )
        if self.second_order:
            check_moments(self.directions, self.baseline, self.baseline.identity_term)
            self.check_curvature()

    def check_curvature(self) -> None:
        """Raises where the values that are left tell nothing of curvature."""
        if self.shaping.ranked:
            raise ValueError(
                f"shaping={self.shaping!r} leaves the order of the values alone, which tells "
                "nothing of curvature: use zo.shaping.winsorised()."
            )

    @property
    def size(self) -> int:
        """n, the most directions that an estimate is made from."""
        return self.num_directions * self.history_size

    @property
    def uses_baseline(self) -> bool:
        """Whether the baseline matters: it cancels in the pairs that make a gradient."""
        return self.second_order or not self.stencil.paired

    @property
    def origin(self) -> bool:
        """Whether rounds ask for f(θ), beyond what the stencil asks."""
        return self.uses_baseline and self.baseline.needs_origin

    def layout(self, params: PyTree) -> Layout:
        """The layout of params, with the leaves that are perturbed."""
        return layout_of(params, self.directions.active)

    def init(self, params: PyTree) -> ZerothOrderState:
        """The state before the first round, with an empty history where rounds are reused."""
        history: Any = ()
        if self.history_size > 1:
            history = History.init(
                params,
                size=self.history_size,
                num_directions=self.num_directions,
                directions=self.directions,
                stencil=self.stencil,
                origin=self.origin,
                store_directions=self.store_directions,
                key=self.key,
                block_size=self.evaluate.block_size(self.num_directions),
                centers=self.reuse.needs_centers,
                ranked=self.shaping.ranked,
            )
        else:
            self.layout(params)
        shaping = self.shaping.init(self.num_directions, self.stencil)
        return ZerothOrderState.init(self.key, history, params, shaping)

    def step(
        self, state: ZerothOrderState, params: PyTree, value_fn: ValueFn, value: Any
    ) -> tuple[Queries, jax.Array, ZerothOrderState]:
        """Queries to estimate from (all rounds that are remembered), the step's key, new state."""
        key = _random.fold_in(state.key, state.round)
        within = self.history_size == 1 and isinstance(self.evaluate, vmapped)
        wants_value = self.origin or self.stencil.needs_origin
        queries = query(
            value_fn,
            params,
            self.directions.round_key(
                state.key, state.round, self.layout(params), self.num_directions
            ),
            num_directions=self.num_directions,
            radius=scheduled(self.radius, state.count),
            directions=self.directions,
            stencil=self.stencil,
            evaluate=self.evaluate,
            value=value if wants_value else None,
            origin=self.origin,
            # A vmapped round has its directions in memory: use them once more before they go.
            store_directions=self.store_directions or within,
            reduce=self.reduce,
            common_key=self.common_key,
        )
        spent = queries.values.size + (queries.origin is not None and value is None)
        if self.reduce and value is not None:
            value = jnp.mean(jnp.asarray(value))
        new_state = state.after(queries, spent, value)
        queries, memory = self.shaping.apply(queries, state.shaping)
        new_state = new_state._replace(shaping=memory)
        if self.history_size > 1:
            history = state.history.push(queries, params if self.reuse.needs_centers else None)
            new_state = new_state._replace(history=history)
            plain = self.reuse.shifts and self.origin
            queries = history.queries() if plain else self.reuse.apply(history, params)
        if self.evaluate.spread is not None:  # not in the state, which knows no devices
            plan = dataclasses.replace(queries.plan, spread=self.evaluate.spread)
            queries = dataclasses.replace(queries, plan=plan)
        return queries, key, new_state


def by_share(direction: PyTree, queries: Queries, baseline: Baseline) -> PyTree:
    """An estimate times `share`; zero if it is not finite."""
    return finite_or_zero(scale(share(queries, baseline), direction))


def share(queries: Queries, baseline: Baseline) -> jax.Array:
    """The share of the directions that were answered.

    From few directions an estimate is mostly noise, and the best step along it is in proportion to
    their number. So a learning rate for full rounds also suits rounds with missing values.
    """
    asked = jnp.sum(jnp.broadcast_to(queries.radius > 0, queries.plan.num_rounds or ()))
    asked = jnp.maximum(asked * queries.plan.num_directions, 1).astype(scalar_dtype())
    used = queries.valid if queries.stencil.paired else based(queries, baseline)
    return jnp.sum(used).astype(asked.dtype) / asked


def combined(queries: Queries, coefficients: jax.Array, layout: Layout) -> PyTree:
    """Updates Σ_k c_k u_k, for coefficients [n]; zero if they are not finite.

    Where directions are bounded the coefficients tell, without a look at the updates, which would
    take time and have to be compiled: then they are zero already where they might overflow.
    """
    plan = queries.plan
    largest = plan.directions.largest if plan.shift is None else None
    if largest is None:
        return finite_or_zero(layout.updates(plan.combine(coefficients, layout)))
    limit = min(float(jnp.finfo(dtype).max) for dtype in layout.dtypes)
    finite = jnp.sum(jnp.abs(coefficients)) * largest < limit
    return layout.updates(plan.combine(jnp.where(finite, coefficients, 0), layout))


def scheduled(value: Schedule, count: jax.Array) -> jax.Array:
    """A number, or the value of a schedule at this step."""
    return jnp.asarray(value(count) if callable(value) else value, scalar_dtype())


def all_finite(tree: PyTree) -> jax.Array:
    """Whether every number of the tree is finite."""
    kinds: dict[Any, list[jax.Array]] = {}
    for leaf in jax.tree.leaves(tree):
        kinds.setdefault(jax.typeof(leaf), []).append(leaf)
    # One reduction for all leaves of a shape: each takes a while to compile.
    both = functools.partial(functools.reduce, jnp.logical_and)
    finite = [jnp.all(both(map(jnp.isfinite, leaves))) for leaves in kinds.values()]
    if len(finite) < 2:
        return finite[0] if finite else jnp.ones((), bool)
    return written(jnp.all(jnp.stack(finite)))


def finite_or_zero(tree: PyTree) -> PyTree:
    """The tree, or zeros if any of it is not finite."""
    finite = all_finite(tree)
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), tree)


def descent(learning_rate: Any) -> optax.GradientTransformation:
    """The last link of an optimiser: updates times −η, for a number or a schedule η."""
    return on_floats(optax.scale_by_learning_rate(_checks.learning_rate(learning_rate)))


__all__ = [
    "Rounds",
    "ZerothOrderState",
    "all_finite",
    "by_share",
    "combined",
    "descent",
    "finite_or_zero",
    "num_queries",
    "saturating_add",
    "scheduled",
    "share",
    "transformation",
]
