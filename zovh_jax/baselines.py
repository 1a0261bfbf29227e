"""Baselines: what is subtracted from the values before they weigh directions.

For values F_k with importance ratios W_k (1 unless given), over the n queries that are finite, a
baseline gives coefficients c_k such that Σ_k c_k φ(u_k) estimates E[(F − b) φ(u)]:

| baseline | b | c_k |
|---|---|---|
| ``none()`` | 0 | W_k F_k / n |
| ``origin()`` | f(θ) of the query's own round | W_k (F_k − f0) / n |
| ``past(trace)`` | f(θ) + ½μ² trace/d ‖u_k‖² | W_k (F_k − b_k) / n |
| ``mean()`` | F̄ = ΣWF/n, over all rounds | W_k (F_k − F̄) / (n − 1); see below |
| ``leave_one_out()`` | F̄_{−k} = Σ_{j≠k} W_j F_j / (n − 1) | W_k (F_k − F̄_{−k}) / n |
| ``variance_optimal()`` | b*_{−k} = Σ_{j≠k} WFw / Σ_{j≠k} Ww | W_k (F_k − b*_{−k}) / n |

``past`` takes a trace of the Hessian from earlier rounds (`zo.estimators.TraceAverage`): it knows
nothing of the directions at hand, so that all of them count, and on a Hessian τI it leaves nothing
but the slopes. It is for gradients only.

w = ‖φ(u)‖²: ‖u‖² for a gradient, ‖u uᵀ − I‖_F² = ‖u‖⁴ − 2‖u‖² + d for a Hessian (E12). With W = 1
``mean`` and ``leave_one_out`` are the same numbers. With plain importance ratios only
``leave_one_out`` (and ``none``, ``origin``, ``variance_optimal``) stays exactly unbiased:
``mean``'s F̄ contains W_k F_k, which leaves a bias of order 1/n. Self-normalised ratios add up to n,
and F̄ is a weighted mean: then the divisor is n − ΣW²/n (n − 1 for equal ratios), which makes
``mean`` exactly unbiased for ratios that do not depend on the directions, and keeps Σ_k c_k = 0.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp


class Baseline:
    """A baseline; see the module's docstring."""

    needs_origin: ClassVar[bool] = False
    min_queries: ClassVar[int] = 1
    """Below this many finite queries the estimate is zero."""
    identity_term: ClassVar[bool] = True
    """Whether a Hessian estimate needs the −I of u uᵀ − I; only ``mean`` makes it vanish (E4)."""
    weighs_norms: ClassVar[bool] = False

    def coefficients(
        self,
        values: jax.Array,
        ratios: jax.Array,
        n: jax.Array,
        *,
        normalized: bool,
        origins: jax.Array | None,
        moments: jax.Array | None,
    ) -> jax.Array:
        """c_k, [n]. ``values`` and ``ratios`` are zero where a query was dropped; ``normalized``
        says that the ratios add up to n and need not be all one."""
        raise NotImplementedError  # pragma: no cover - abstract


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NoBaseline(Baseline):
    """b = 0: unbiased, and usually hopelessly noisy (E6)."""

    def coefficients(self, values, ratios, n, *, normalized, origins, moments):
        return ratios * values / jnp.maximum(n, 1)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Origin(Baseline):
    """b = f(θ): the classical forward difference (E7, E8, E13). Costs one query a round."""

    needs_origin: ClassVar[bool] = True

    def coefficients(self, values, ratios, n, *, normalized, origins, moments):
        return ratios * (values - origins) / jnp.maximum(n, 1)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Past(Origin):
    """b_k = f(θ) + ½μ² trace/d ‖u_k‖², the trace from rounds that have gone by.

    For gradients, as it depends on ‖u‖, and from one round: a `History` has a centre and a trace
    for each.

    Args:
      trace: tr(H), a scalar that does not depend on these directions.
    """

    trace: Any

    def rise(self, radii: jax.Array, norms: jax.Array, dimension: int) -> jax.Array:
        """b_k − f(θ), [n], from μ and ‖u_k‖², [n], and d."""
        return jnp.square(radii) / 2 * (self.trace / dimension) * norms


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Mean(Baseline):
    """b = F̄ over all the queries, past rounds included (E10, E11, E15). Needs two queries."""

    min_queries: ClassVar[int] = 2
    identity_term: ClassVar[bool] = False

    def coefficients(self, values, ratios, n, *, normalized, origins, moments):
        mean = jnp.sum(ratios * values) / jnp.maximum(n, 1)
        c = ratios * (values - mean)
        if not normalized:
            return c / jnp.maximum(n - 1, 1)
        divisor = n - jnp.sum(jnp.square(ratios)) / jnp.maximum(n, 1)
        # Zero where one query has all the weight: it is the mean itself, and tells nothing.
        enough = divisor > 1e-3 * n
        return jnp.where(enough, c / jnp.where(enough, divisor, 1), 0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class LeaveOneOut(Baseline):
    """b_k = the mean of the other queries: independent of u_k (E10, right-hand side)."""

    min_queries: ClassVar[int] = 2

    def coefficients(self, values, ratios, n, *, normalized, origins, moments):
        weighted = ratios * values
        others = (jnp.sum(weighted) - weighted) / jnp.maximum(n - 1, 1)
        return ratios * (values - others) / jnp.maximum(n, 1)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class VarianceOptimal(Baseline):
    """The constant baseline of least variance, estimated from the other queries (E12)."""

    min_queries: ClassVar[int] = 2
    weighs_norms: ClassVar[bool] = True

    def coefficients(self, values, ratios, n, *, normalized, origins, moments):
        weights = ratios * moments
        total, weighted = jnp.sum(weights), weights * values
        rest = total - weights
        others = (jnp.sum(weighted) - weighted) / jnp.where(rest > 0, rest, 1)
        return ratios * (values - others) / jnp.maximum(n, 1)


none = NoBaseline
origin = Origin
mean = Mean
past = Past
leave_one_out = LeaveOneOut
variance_optimal = VarianceOptimal

__all__ = ["Baseline", "leave_one_out", "mean", "none", "origin", "past", "variance_optimal"]
