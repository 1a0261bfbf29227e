"""Queries: what the objective answered along the directions of a plan."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.directions import Explicit
from zovh_jax.plan import Plan
from zovh_jax.stencils import Stencil, forward

ROUNDING = 10
"""The rounding error of a value, in units of its last digit."""


class Noise(NamedTuple):
    """Standard errors of a round's values, from the spread over the examples that they average.

    The error is the distance from the mean over all that the examples are drawn from. All queries
    of a round see the same examples, so that most of the error is common and cancels in
    differences: ``odd`` and ``even`` are for slopes and comparisons within a round, ``level`` for
    comparing f(θ) with that of another round's examples. Errors along different directions are
    correlated.

    If the examples are all there are, none of this is noise; if they are B of N drawn without
    replacement, multiply by √(1 − B/N).

    Attributes:
      odd: [K], of F − f(θ); for pairs of (F⁺ − F⁻)/2. Over the radius it is that of a slope.
      even: [K], of F − f(θ); for pairs of (F⁺ + F⁻)/2 − f(θ).
      level: [], of f(θ) itself.

    Where f(θ) was not asked for, or is not finite, the mean of the round's finite values takes its
    place. Errors are infinite where a value is not finite.
    """

    odd: jax.Array
    even: jax.Array
    level: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queries:
    """Values of the objective along the directions of a plan.

    Attributes:
      plan: the directions.
      values: [num_directions], or [num_directions, 2] = (plus, minus) for paired stencils, with a
        leading axis [num_rounds] when rounds are stacked. NaN and ±Inf mark queries to be dropped.
      radius: μ, [] or [num_rounds].
      origin: f(θ), [] or [num_rounds]; None where unknown.
      stencil: the stencil.
      weights: [n], how much each direction counts in an estimate (self-normalised), or None for
        all alike; set by `zo.reuse`.
      noise: standard errors of the values (`Noise`), where they are means over two examples or more
        (``reduce="mean"``); else None. A `History` does not keep it.
      ranked: whether the values are ranks (`zo.shaping.ranks`), which tell nothing of curvature.
    """

    plan: Plan
    values: jax.Array
    radius: jax.Array
    origin: jax.Array | None
    stencil: Stencil
    weights: jax.Array | None = None
    noise: Noise | None = None
    ranked: bool = dataclasses.field(default=False, metadata={"static": True})

    @classmethod
    def from_values(
        cls,
        values: Any,
        *,
        plan: Plan | None = None,
        directions: Explicit | None = None,
        radius: Any,
        stencil: Stencil = forward(),
        origin: Any = None,
    ) -> "Queries":
        """The result of a round whose values were obtained elsewhere.

        Make a ``plan = zo.Plan(key, directions, num_directions=K)``, evaluate θ + radius·u (and
        θ − radius·u) for the directions u of ``plan.draw(params)`` however you like, and pass the
        values here with the plan.

        Args:
          values: [K], or [K, 2] = (plus, minus) for a paired stencil; NaN for what is missing.
          plan: the plan that the points came from.
          directions: in place of a plan, ``zo.directions.explicit(tree)``: directions of your own.
          radius: μ.
          stencil: the stencil.
          origin: f(θ), where known.

        Raises:
          ValueError: if the values' shape does not fit the stencil or the plan.
          TypeError: for neither or both of ``plan`` and ``directions``.

        Example:
          >>> import jax.numpy as jnp, zovh_jax as zo
          >>> u = jnp.array([[1., 0.], [0., 1.]])
          >>> queries = zo.Queries.from_values(jnp.array([1.2, 0.9]), radius=0.1, origin=1.0,
          ...                                  directions=zo.directions.explicit(u))
          >>> g = zo.estimators.gradient(queries, jnp.zeros(2), baseline=zo.baselines.origin())
          >>> [round(float(x), 4) for x in g]
          [1.0, -0.5]
        """
        _checks.instance("stencil", stencil, Stencil, "the stencils of zo.stencils")
        _checks.positive("radius", radius)
        values = jnp.asarray(values, scalar_dtype())
        want = "[K, 2] (plus, minus)" if stencil.paired else "[K]"
        if values.ndim != 1 + stencil.paired or values.shape[1:] not in ((), (2,)):
            raise ValueError(f"values must have shape {want}, got {list(values.shape)}.")
        k = values.shape[0]
        if (plan is None) == (directions is None):
            raise TypeError(
                "from_values needs the plan= that the points came from, or in its place "
                "directions=zo.directions.explicit(tree)."
            )
        if plan is None:
            _checks.instance("directions", directions, Explicit, "zo.directions.explicit(tree)")
            plan = Plan(None, directions, num_directions=k)  # type: ignore[arg-type]
        _checks.instance("plan", plan, Plan, "the plans of zo.Plan")
        if plan.num_rounds is not None or plan.num_directions != k:
            raise ValueError(
                f"values has {k} rows, and the plan num_directions={plan.num_directions} in "
                f"{plan.num_rounds or 1} rounds: there must be one row for each direction of one "
                "round."
            )
        origin = None if origin is None else scalar("origin", origin)
        return cls(plan, values, jnp.asarray(radius, scalar_dtype()), origin, stencil)

    @property
    def even(self) -> jax.Array:
        """[n] values F, or (F⁺ + F⁻)/2."""
        return self.stencil.even(self._flat())

    @property
    def odd(self) -> jax.Array:
        """[n] values F, or (F⁺ − F⁻)/2."""
        return self.stencil.odd(self._flat())

    @property
    def valid(self) -> jax.Array:
        """[n] bools: directions all of whose values are finite, at a radius above zero."""
        finite = jnp.isfinite(self._flat())
        finite = jnp.all(finite, -1) if self.stencil.paired else finite
        return finite & (self._per_direction(self.radius) > 0)

    @property
    def radii(self) -> jax.Array:
        """μ of each direction, [n]; 1 in place of a radius that is not above zero."""
        radii = self._per_direction(self.radius)
        return jnp.where(radii > 0, radii, 1)

    @property
    def origins(self) -> jax.Array | None:
        """f(θ) of each direction's own round, [n]; None where unknown."""
        return None if self.origin is None else self._per_direction(self.origin)

    @property
    def num_nonfinite(self) -> jax.Array:
        """How many of the values, f(θ) among them, are NaN or ±Inf."""
        bad = jnp.sum(~jnp.isfinite(self.values), dtype=jnp.int32)
        if self.origin is not None:
            bad = bad + jnp.sum(~jnp.isfinite(self.origin), dtype=jnp.int32)
        return bad

    def _flat(self) -> jax.Array:
        stacked = self.values.ndim - self.stencil.paired == 2
        return self.values.reshape(-1, *self.values.shape[2:]) if stacked else self.values

    def _per_direction(self, x: jax.Array) -> jax.Array:
        rounds = (self.plan.num_rounds or 1, 1)
        return jnp.broadcast_to(x.reshape(rounds), (rounds[0], self.plan.num_directions)).reshape(
            -1
        )


def scalar(name: str, value: Any) -> jax.Array:
    """One number, in the dtype of values."""
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, got shape {list(jnp.shape(value))}.")
    return jnp.asarray(value, scalar_dtype())


def check_params(queries: Queries, params: PyTree) -> Layout:
    """Layout of params, after checking that the plan's directions fit it."""
    _checks.instance("queries", queries, Queries, "the results of zo.query or History.queries()")
    plan = queries.plan
    layout = plan.layout(params)
    if not isinstance(plan.directions, Explicit) or plan.num_rounds is None:
        plan.directions.check_rounds(layout, plan.num_directions)
    return layout


def median(x: jax.Array, valid: jax.Array) -> jax.Array:
    """The median of those that are valid, the lower one of two; 0 where there is none."""
    n = jnp.sum(valid)
    ordered = jnp.sort(jnp.where(valid, x, jnp.inf).reshape(-1))
    return jnp.where(n > 0, ordered[jnp.maximum(n - 1, 0) // 2], 0)


__all__ = ["ROUNDING", "Noise", "Queries", "check_params", "median", "scalar"]
