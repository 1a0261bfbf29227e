"""What every transformation does first: one round of queries, charged and remembered."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._mesh import alike, placed_with
from zovh_jax._program import written
from zovh_jax._tree import Layout, layout_of, scalar_dtype
from zovh_jax._types import PyTree, Schedule, ValueFn
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.directions.families import as_family
from zovh_jax.estimators.hessian import check_moments
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.query import query
from zovh_jax.history import History
from zovh_jax.queries import Queries
from zovh_jax.reuse import Reuse, uniform
from zovh_jax.stencils import Stencil, forward


class ZerothOrderState(NamedTuple):
    """State of a transformation that spends queries.

    Attributes:
      count: steps taken.
      key: ``fold_in`` of the key given and 0; step t uses ``fold_in`` of this one and t
        (its queries ``directions.round_key``, mostly the same).
      num_queries: objective evaluations spent so far.
      num_nonfinite: how many of them came back NaN or ±Inf and were dropped.
      history: past rounds; an empty tuple without reuse.
    """

    count: jax.Array  # type: ignore[assignment]  # shadows tuple.count, as in optax
    key: jax.Array
    num_queries: jax.Array
    num_nonfinite: jax.Array
    history: Any


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
    second_order: bool = False

    def __post_init__(self):
        _checks.positive_int("num_directions", self.num_directions)
        _checks.positive_int("history_size", self.history_size)
        _checks.positive("radius", self.radius, schedule=True)
        as_family(self.directions)
        _checks.instance("stencil", self.stencil, Stencil, "the stencils of zo.stencils")
        _checks.instance("evaluate", self.evaluate, Evaluator, "zo.evaluators.vmapped() or chunked")
        _checks.instance("baseline", self.baseline, Baseline, "the baselines of zo.baselines")
        _checks.instance("reuse", self.reuse, Reuse, "the rules of zo.reuse")
        self.reuse.check(self.directions, self.stencil)
        object.__setattr__(self, "key", _checks.key(self.key))
        if self.uses_baseline and self.size < self.baseline.min_queries:
            raise ValueError(
                f"baseline={self.baseline!r} needs at least {self.baseline.min_queries} queries; "
                f"got num_directions × history_size = {self.size}. Raise either, or use "
                "baseline=zo.baselines.origin()."
            )
        if self.second_order:
            check_moments(self.directions, self.baseline, self.baseline.identity_term)

    @property
    def size(self) -> int:
        """n, the most directions that an estimate is made from."""
        return self.num_directions * self.history_size

    @property
    def uses_baseline(self) -> bool:
        """It cancels in the differences of pairs that make a gradient."""
        return self.second_order or not self.stencil.paired

    @property
    def origin(self) -> bool:
        """Whether rounds ask for f(θ), beyond what the stencil asks."""
        return self.uses_baseline and self.baseline.needs_origin

    def layout(self, params: PyTree) -> Layout:
        """The layout of params, with the leaves that are perturbed."""
        return layout_of(params, self.directions.active)

    def init(self, params: PyTree) -> ZerothOrderState:
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
            )
        else:
            self.layout(params)
        # Separate buffers, and a key of our own: donating the state must not delete the caller's.
        count, queries, nonfinite = (jnp.zeros((), jnp.int32) for _ in range(3))
        return ZerothOrderState(count, jax.random.fold_in(self.key, 0), queries, nonfinite, history)

    def step(
        self, state: ZerothOrderState, params: PyTree, value_fn: ValueFn, value: Any
    ) -> tuple[Queries, jax.Array, ZerothOrderState]:
        """Queries to estimate from (all rounds that are remembered), the step's key, new state."""
        key = jax.random.fold_in(state.key, state.count)
        within = self.history_size == 1 and isinstance(self.evaluate, vmapped)
        queries = query(
            value_fn,
            params,
            self.directions.round_key(
                state.key, state.count, self.layout(params), self.num_directions
            ),
            num_directions=self.num_directions,
            radius=scheduled(self.radius, state.count),
            directions=self.directions,
            stencil=self.stencil,
            evaluate=self.evaluate,
            value=value if self.origin or self.stencil.needs_origin else None,
            origin=self.origin,
            # A vmapped round has its directions in memory: use them once more before they go.
            store_directions=self.store_directions or within,
        )
        spent = queries.values.size + (queries.origin is not None and value is None)
        history = state.history
        new_state = ZerothOrderState(
            optax.safe_increment(state.count),
            state.key,
            saturating_add(state.num_queries, spent),
            saturating_add(state.num_nonfinite, queries.num_nonfinite),
            history,
        )
        if self.history_size > 1:
            history = history.push(queries, params if self.reuse.needs_centers else None)
            queries, new_state = (
                self.reuse.apply(history, params),
                new_state._replace(history=history),
            )
        return queries, key, new_state


Step = Callable[[PyTree, Any, PyTree, ValueFn, Any], tuple[PyTree, Any]]
"""(updates, state, params, value_fn, value) -> (updates, state)."""


def transformation(
    name: str, init: Callable[[PyTree], Any], step: Step
) -> optax.GradientTransformationExtraArgs:
    """What every transformation that queries has for a door.

    Args:
      name: of the transformation, for errors.
      init: makes the state.
      step: gets a ``value_fn`` and ``params``, and updates as they came in.
    """

    def placed_init(params):
        return placed_with(init(params), params)

    def update(updates, state, params=None, *, value_fn=None, value=None, **extra):
        del extra
        if value_fn is None:
            raise TypeError(
                f"{name} needs the objective: call update(updates, state, params, "
                "value_fn=value_fn), where value_fn(params) returns a scalar float."
            )
        if params is None:
            raise TypeError(
                f"{name} needs the parameters: call update(updates, state, params, "
                "value_fn=value_fn)."
            )
        emitted, state = step(updates, state, params, value_fn, value)
        return alike(emitted, params), state

    return optax.GradientTransformationExtraArgs(placed_init, update)


def saturating_add(total: jax.Array, more: Any) -> jax.Array:
    """The sum, or the largest int32."""
    limit = jnp.iinfo(jnp.int32).max
    more = jnp.asarray(more, jnp.int32)
    return jnp.where(total > limit - more, limit, total + more)


def scheduled(value: Schedule, count: jax.Array) -> jax.Array:
    """A number, or the value of a schedule at this step."""
    return jnp.asarray(value(count) if callable(value) else value, scalar_dtype())


def all_finite(tree: PyTree) -> jax.Array:
    """Whether every number of the tree is finite."""
    leaves = [jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]
    if len(leaves) < 2:
        return leaves[0] if leaves else jnp.ones((), bool)
    return written(jnp.all(jnp.stack(leaves)))


def finite_or_zero(tree: PyTree) -> PyTree:
    """The tree, or zeros if any of it is not finite."""
    finite = all_finite(tree)
    return jax.tree.map(lambda leaf: jnp.where(finite, leaf, jnp.zeros_like(leaf)), tree)


def num_queries(opt_state: Any) -> jax.Array:
    """Objective evaluations spent so far, summed over everything in an optimiser's state.

    Args:
      opt_state: the state of any optax chain; parts that spend no queries count nothing.

    Returns:
      An int32 scalar.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.zo_sgd(0.1, num_directions=4, radius=0.1, key=jax.random.key(0))
      >>> _, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))  # 4 directions and f(x)
      5
    """
    found = optax.tree.get_all_with_path(opt_state, "num_queries")
    return sum((n for _, n in found), jnp.zeros((), jnp.int32))
