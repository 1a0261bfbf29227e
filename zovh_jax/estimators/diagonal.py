"""The Hessian's diagonal from pairs: the least change of a prior that explains the curvatures."""

from typing import Any

import jax.numpy as jnp

from zovh_jax._rows import gram_of, row_products, row_sum
from zovh_jax._tree import total
from zovh_jax._types import PyTree
from zovh_jax.estimators.least_change import Ridge, check_pairs, check_ridge, fit, mean_curvature
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries, check_params


def hessian_diagonal(
    queries: Queries, params: PyTree, *, prior: Any = "trace", ridge: Ridge = 0.0
) -> PyTree:
    """The diagonal closest to ``prior`` with the measured curvatures: min ‖h − p‖, u_k²·h = s_k.

    s_k = (F⁺ − 2 f0 + F⁻)/μ². h = p + Σ α_k u_k² with [u_j²·u_k²] α = s − (u_k²·p)_k. For a
    diagonal Hessian ‖h − diag(H)‖ ≤ ‖p − diag(H)‖, and h is exact from n = d pairs on. Other
    entries of H act as noise of variance about 2‖H − diag(H)‖_F² a pair: where there may be any,
    use ``ridge="auto"``.

    With the last estimate as the prior this is an exponential average over steps: a round of n < d
    directions takes about n/d off the squared error, and less with a ridge. Along ``scaled``
    directions u = s∘z the fit is to u²: the change is least in h, not in s²∘h. Spends no queries;
    holds all n directions and an n×n matrix.

    Args:
      queries: pairs with f(θ): ``three_point()``, or ``central()`` with ``origin=True``; along
        directions whose squares differ (not ``rademacher``, ``hadamard``). Those that are not
        finite are dropped.
      params: a tree with the shapes and dtypes of the parameters.
      prior: p. "trace" is the mean of s_k/‖u_k‖² everywhere, about tr(H)/d; None is zero; or a tree
        like params: a past estimate.
      ridge: the variance of the curvatures' noise over that of their differences from the prior's.
        0 interpolates; "auto" estimates it.

    Returns:
      A tree like params; the prior where no query is finite, zero on frozen leaves.

    Raises:
      ValueError: for queries without pairs or without f(θ), directions that see the trace only, a
        negative ridge, an unknown prior.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2 * jnp.array([1., 3.])), jnp.ones(2)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=3, radius=0.1,
      ...                    stencil=zo.stencils.three_point())
      >>> h = zo.estimators.hessian_diagonal(queries, x)
      >>> bool(jnp.allclose(h, jnp.array([2., 6.]), atol=0.05))
      True
    """
    layout = check_params(queries, params)
    ridge = check_ridge(ridge)
    check_pairs(queries, "hessian_diagonal")
    if not queries.plan.directions.sees_diagonal:
        raise ValueError(
            f"directions={queries.plan.directions!r} have entries of one size, whose squares see "
            "the trace only: use zo.directions.gaussian()."
        )
    measured, valid = curvatures(queries)
    # One replay for all: the squares stay in memory for the Gram matrix.
    squares = [jnp.square(u) for u in queries.plan.materialise(layout)]

    def along(vector):
        terms = [
            row_products(u, v.astype(u.dtype)[None]) for u, v in zip(squares, vector, strict=True)
        ]
        return total(terms)

    if isinstance(prior, str) and prior == "trace":
        scale = mean_curvature(measured, along(layout.filled(1.0)), valid)
        base = [x + scale.astype(x.dtype) for x in layout.zeros()]
    elif prior is None:
        base = layout.zeros()
    elif isinstance(prior, str):
        raise ValueError(f"prior must be 'trace', None or a tree like params; got {prior!r}.")
    else:
        base = layout.leaves(prior, "prior")
    residual = jnp.where(valid, measured - along(base), 0)
    alpha = fit(total([gram_of(u, u) for u in squares]), residual, valid, ridge)
    h = [p + row_sum(alpha, u) for p, u in zip(base, squares, strict=True)]
    return layout.updates(h)


__all__ = ["hessian_diagonal"]
