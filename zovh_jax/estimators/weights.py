"""From values to coefficients: what every estimator does before it touches directions."""

from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax.baselines import Baseline, Past
from zovh_jax.queries import Queries


def check_baseline(queries: Queries, baseline: Baseline, estimator: str) -> None:
    """Raises where the queries can never serve the baseline."""
    _checks.instance("baseline", baseline, Baseline, "the baselines of zo.baselines")
    if baseline.needs_origin and queries.origin is None:
        raise ValueError(
            f"{estimator} with baseline={baseline!r} needs f(θ), which these queries lack: query "
            "with origin=True, pass value=f(params), or use zo.stencils.three_point()."
        )
    if queries.plan.size < baseline.min_queries:
        raise ValueError(
            f"{estimator} with baseline={baseline!r} needs at least {baseline.min_queries} "
            f"queries; got num_directions={queries.plan.size}. Raise num_directions or "
            "history_size, or use baseline=zo.baselines.origin()."
        )
    if isinstance(baseline, Past) and queries.plan.num_rounds is not None:
        raise ValueError(
            "baseline=past(trace) is the level around one θ, and these queries are the rounds of a "
            "history: use zo.baselines.mean() or origin()."
        )


def check_values(queries: Queries, what: str) -> None:
    """Raises where the values are ranks, and more than their order is needed."""
    if queries.ranked:
        raise ValueError(
            f"{what} cannot be made of ranks, which keep the order of the values alone: use "
            "shaping=zo.shaping.none() or winsorised()."
        )


def usable(queries: Queries, needs_origin: bool) -> jax.Array:
    """[n] bools: finite values, and a finite f(θ) where it is needed."""
    if needs_origin and queries.origins is not None:
        return queries.valid & jnp.isfinite(queries.origins)
    return queries.valid


def based(queries: Queries, baseline: Baseline) -> jax.Array:
    """[n] bools: finite values, and something to subtract from them.

    Where a round's f(θ) is not finite, the mean of the round's other values stands in for it. It
    knows nothing of the direction at hand, so that a gradient stays unbiased, and so does a Hessian
    with its identity term. A curvature along a single direction needs f(θ) itself: see `usable`.
    """
    if not baseline.needs_origin or queries.origins is None:
        return queries.valid
    some = queries.valid.astype(jnp.int32)
    others = _by_round(queries, some) - some
    return queries.valid & (jnp.isfinite(queries.origins) | (others > 0))


def curvatures(queries: Queries) -> tuple[jax.Array, jax.Array]:
    """2 (F − f0)/μ² with the even part for F, [n], zero where it is not finite; and where it is."""
    check_values(queries, "a curvature")
    assert queries.origins is not None
    valid = usable(queries, needs_origin=True)
    rise = jnp.where(valid, queries.even, 0) - jnp.where(valid, queries.origins, 0)
    return 2 * rise / jnp.square(queries.radii), valid


def importance(
    weights: Any, queries: Queries, valid: jax.Array, self_normalized: bool
) -> tuple[jax.Array, bool]:
    """Importance ratios W_k (E5), [n], zero where the query was dropped; and whether they add up.

    They do if they were normalised to add up to the number of queries left; all ones don't count.
    """
    if weights is None and queries.weights is not None:
        weights, self_normalized = queries.weights, True
    if weights is None:
        return valid.astype(scalar_dtype()), False
    weights = jnp.asarray(weights, scalar_dtype())
    if weights.size != queries.plan.size:
        raise ValueError(
            f"weights must have one importance ratio a direction, shape [{queries.plan.size}]; "
            f"got {list(weights.shape)}."
        )
    ratios = jnp.where(valid, weights.reshape(-1), 0)
    if self_normalized:
        total = jnp.sum(ratios)
        n = jnp.sum(valid).astype(ratios.dtype)
        ratios = ratios * (n / jnp.where(total > 0, total, 1))
    return ratios, self_normalized


def centred(
    values: jax.Array,
    queries: Queries,
    baseline: Baseline,
    ratios: jax.Array,
    normalized: bool,
    valid: jax.Array,
    layout: Layout,
    order: int,
) -> jax.Array:
    """c_k of the baseline, [n]; all zero with fewer finite queries than it needs.

    ``order`` is 1 for gradients and 2 for Hessians: the norms that ``variance_optimal`` weighs by.
    """
    n = jnp.sum(valid).astype(scalar_dtype())
    if isinstance(baseline, Past):
        norms = queries.plan.squared_norms(layout)
        values = values - baseline.rise(queries.radii, norms, layout.size)
    c = baseline.coefficients(
        jnp.where(valid, values, 0),
        ratios,
        n,
        normalized=normalized,
        origins=_finite_origins(queries, values, valid) if baseline.needs_origin else None,
        moments=_moments(queries, valid, layout, order) if baseline.weighs_norms else None,
    )
    return jnp.where(n >= baseline.min_queries, c, 0)


def _finite_origins(queries: Queries, values: jax.Array, valid: jax.Array) -> jax.Array:
    """f(θ) of each direction's round, or the mean of the round's other values, [n]."""
    assert queries.origins is not None
    values = jnp.where(valid, values, 0)
    some = valid.astype(values.dtype)
    others = _by_round(queries, some) - some
    stand_in = (_by_round(queries, values) - values) / jnp.maximum(others, 1)
    return jnp.where(valid, jnp.where(jnp.isfinite(queries.origins), queries.origins, stand_in), 0)


def _by_round(queries: Queries, x: jax.Array) -> jax.Array:
    """The sum over each direction's round, [n]."""
    k = queries.plan.num_directions
    return jnp.repeat(jnp.sum(x.reshape(-1, k), 1), k)


def _moments(queries: Queries, valid: jax.Array, layout: Layout, order: int) -> jax.Array:
    """‖u‖²/μ² or ‖u uᵀ − I‖_F²/μ⁴, [n], in units of the smallest radius, so that none overflows."""
    squares = queries.plan.squared_norms(layout)
    if order == 2:
        squares = jnp.square(squares) - 2 * squares + layout.size
    smallest = jnp.min(jnp.where(valid, queries.radii, jnp.inf))
    return squares * jnp.where(valid, smallest / queries.radii, 0) ** (2 * order)
