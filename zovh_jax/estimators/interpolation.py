"""Least-norm interpolation: the smallest gradient or Hessian that explains the values.

The averages of `gradient` and `hessian` are unbiased, and at d ≫ n their variance is hundreds of
times the Hessian's own size. Interpolation takes, of all estimates that reproduce what was measured
along the n directions, the one closest to a prior. (That is Powell's least change, and his
symmetric Broyden update where the prior is a past estimate.) On exact values its error is a
projection of the prior's, never above it; it is zero on quadratics once the directions span
everything (n ≥ d for a gradient, n ≥ d(d+1)/2 for a Hessian).
"""

from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.estimators.least_change import (
    Ridge,
    check_pairs,
    check_ridge,
    fit,
    mean_curvature,
)
from zovh_jax.estimators.weights import curvatures, usable
from zovh_jax.operators import LowRankPlusScaled, Operator
from zovh_jax.queries import Queries, check_params, scalar


def interpolated_gradient(
    queries: Queries,
    params: PyTree,
    *,
    prior: PyTree | None = None,
    ridge: Ridge = 0.0,
    curvature: Operator | Any = None,
) -> PyTree:
    """The gradient closest to ``prior`` with the measured slopes: min ‖g − p‖, u_kᵀg = t_k.

    t_k = (F⁺ − F⁻)/(2μ) for pairs, (F − f0)/μ for forward queries with a known f0 = f(θ). Without
    one, each round has a free level in place of f0, so that the rounds of a `History` may differ in
    level. The levels chosen make g − p smallest or, where n is large enough to tell, fit best.
    g = p + Σ β_k u_k with (UᵀU) β = t − Uᵀp, U = [u_1 … u_n].

    Exact on a quadratic for pairs with n ≥ d; for n < d the relative error is √(1 − n/d) on
    average (p = 0), where the averaging estimator has √(d/n). Biased: along the directions that
    were not tried it is the prior. A level costs a direction: with R rounds of unknown f(θ) it
    takes n ≥ d + R, and a round of one direction tells nothing. Spends no queries; holds all n
    directions and an n×n matrix.

    Forward queries measure t_k = u_kᵀ∇f + ½μ u_kᵀHu_k + O(μ²), whose second term is taken for
    slope. Over Gaussian directions it has mean ½μ tr(H) and standard deviation ½μ √2 ‖H‖_F. At
    n ≪ d, with a known f(θ), the error relative to the estimate is therefore about
    ½μ tr(H)/‖∇f‖; with a free level, which absorbs the mean, about μ‖H‖_F/(√2 ‖∇f‖).
    ``curvature`` removes it. Pairs do not have it.

    Args:
      queries: from `zo.query`, `Queries.from_values` or `History.queries`; those that are not
        finite are dropped.
      params: a tree with the shapes and dtypes of the parameters.
      prior: p, a tree like params; None for zero.
      ridge: the variance of the slopes' noise over that of the slopes themselves (with value noise
        σ, σ²/(2μ²) for pairs over the mean square of t_k). 0 interpolates; "auto" estimates it by
        marginal likelihood, and averages where the values cannot tell.
      curvature: what is known of H, for forward queries: a `zo.Operator`, whose ½μ uᵀHu is
        subtracted; or its trace, a scalar (`hessian_trace`, `TraceAverage`), for ½μ tr(H)/d ‖u‖².
        None subtracts nothing. Make it from other queries: one made from F_k follows its noise.

    Returns:
      A tree like params; the prior with no finite queries.

    Raises:
      ValueError: for a negative ridge or a prior unlike params.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(4)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1,
      ...                    stencil=zo.stencils.central())
      >>> g = zo.estimators.interpolated_gradient(queries, x)
      >>> bool(jnp.allclose(g, 2 * x, atol=1e-3))
      True
    """
    layout = check_params(queries, params)
    ridge = check_ridge(ridge)
    forward = not queries.stencil.paired
    origins = queries.origins if forward else None
    valid = usable(queries, needs_origin=origins is not None)
    slopes = queries.odd if origins is None else queries.odd - origins
    residual = jnp.where(valid, slopes, 0) / queries.radii
    if forward and curvature is not None:
        residual = residual - queries.radii / 2 * _bends(curvature, queries, layout)
    if prior is not None:
        base = layout.leaves(prior, "prior")
        dots, _ = queries.plan.inner(base, layout)
        residual = residual - jnp.sum(dots, -1)
    gram = jnp.sum(queries.plan.gram(layout), -1)
    levels = _levels(queries) if forward and origins is None else None
    beta = fit(gram, jnp.where(valid, residual, 0), valid, ridge, levels)
    change = queries.plan.combine(beta, layout)
    if prior is not None:
        change = [p + c for p, c in zip(base, change, strict=True)]
    return layout.updates(change)


def _bends(curvature: Any, queries: Queries, layout: Layout) -> jax.Array:
    """u_kᵀHu_k according to an operator or a trace, [n]."""
    if isinstance(curvature, Operator):
        return curvature.quadratic_forms(queries.plan.materialise(layout), layout)
    return scalar("curvature", curvature) / layout.size * queries.plan.squared_norms(layout)


def _levels(queries: Queries) -> jax.Array:
    """How each round's unknown f(θ) enters the slopes of its directions, [n, num_rounds]."""
    rounds = jnp.arange(queries.plan.size) // queries.plan.num_directions
    belongs = rounds[:, None] == jnp.arange(queries.plan.num_rounds or 1)
    return belongs / queries.radii[:, None]


def interpolated_hessian(
    queries: Queries,
    params: PyTree,
    *,
    prior: Any = "trace",
    ridge: Ridge = 0.0,
) -> Operator:
    """The Hessian closest to ``prior`` with the measured curvatures: min ‖Ĥ − P‖_F, uᵀĤu = s.

    s_k = (F⁺ − 2 f0 + F⁻)/μ². Ĥ = P + Σ α_k u_k u_kᵀ with [(u_jᵀu_k)²] α = s − (u_kᵀPu_k)_k. On
    exact curvatures ‖Ĥ − H‖_F ≤ ‖P − H‖_F; beyond a quadratic s carries an error of order μ²
    times fourth derivatives. Spends no queries; holds all n directions and an n×n matrix.

    Args:
      queries: pairs with f(θ): ``three_point()``, or ``central()`` with ``origin=True``.
      params: a tree with the shapes and dtypes of the parameters.
      prior: P. "trace" is τI with τ the mean of s_k/‖u_k‖², about tr(H)/d; None is zero; or any
        `zo.Operator` on trees like params: a past estimate is then changed as little as the new
        curvatures allow.
      ridge: as for `interpolated_gradient`: variance of the noise (6σ²/μ⁴ with value noise σ) over
        that of the curvatures' differences from the prior's.

    Returns:
      A `LowRankPlusScaled`, or with an operator for a prior the sum of the two: a solver that takes
      the prior takes the sum.

    Raises:
      ValueError: for queries without pairs or without f(θ), a negative ridge, an unknown prior.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2 * jnp.array([1., 3.])), jnp.ones(2)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=3, radius=0.1,
      ...                    stencil=zo.stencils.three_point())
      >>> H = zo.estimators.interpolated_hessian(queries, x)
      >>> bool(jnp.allclose(H.as_matrix(), jnp.diag(jnp.array([2., 6.])), atol=0.05))
      True
    """
    layout = check_params(queries, params)
    ridge = check_ridge(ridge)
    check_pairs(queries, "interpolated_hessian")
    measured, valid = curvatures(queries)
    gram = jnp.sum(queries.plan.gram(layout), -1)
    norms = jnp.diagonal(gram)
    scale = jnp.zeros((), scalar_dtype())
    if isinstance(prior, str) and prior == "trace":
        scale = mean_curvature(measured, norms, valid)
        expected = scale * norms
    elif prior is None:
        expected = jnp.zeros_like(norms)
    elif isinstance(prior, Operator):
        expected = prior.quadratic_forms(queries.plan.materialise(layout), layout)
    else:
        raise ValueError(f"prior must be 'trace', None or a zo.Operator; got {prior!r}.")
    residual = jnp.where(valid, measured - expected, 0)
    alpha = fit(jnp.square(gram), residual, valid, ridge)
    change = LowRankPlusScaled(queries.plan, alpha, scale, layout)
    return prior + change if isinstance(prior, Operator) else change


__all__ = ["interpolated_gradient", "interpolated_hessian"]
