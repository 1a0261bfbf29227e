"""The Hessian's diagonal from pairs: the least change of a prior that explains the curvatures."""

from typing import Any

import jax.numpy as jnp

from zovh_jax._tree import cast_leaves, flatten_like, widen
from zovh_jax._types import PyTree
from zovh_jax.directions import Directions, Masked, Scaled
from zovh_jax.estimators.least_change import Ridge, check_pairs, check_ridge, fit, mean_curvature
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries, check_params


def hessian_diagonal(
    queries: Queries, params: PyTree, *, prior: Any = "trace", ridge: Ridge = 0.0
) -> PyTree:
    """The diagonal closest to ``prior`` with the measured curvatures: min ‖h − p‖, Σ h_i u_ki² = s.

    s_k = (F⁺ − 2 f0 + F⁻)/μ². h = p + Σ α_k u_k² with [u_j²·u_k²] α = s − (u_k²·p)_k. For a
    diagonal Hessian ‖h − diag(H)‖ ≤ ‖p − diag(H)‖, and h is exact from n = d pairs on. What is
    beside the diagonal is noise here, of variance about 2‖H − diag(H)‖_F² a pair: where it may be
    there, use ``ridge="auto"``.

    With the last estimate as the prior this is an exponential average over steps: a round of n < d
    directions takes about n/d off the squared error, and less with a ridge. Along ``scaled``
    directions u = s∘z it is u² that is fitted: the change is least in h, not in s²∘h. Spends no
    queries; holds all n directions and an n×n matrix.

    Args:
      queries: pairs with f(θ): ``three_point()``, or ``central()`` with ``origin=True``; along
        directions whose squares differ (not ``rademacher``, ``hadamard``). Those that are not
        finite are dropped.
      params: a tree with the shapes and dtypes of the parameters.
      prior: p. "trace" is the mean of s_k/‖u_k‖² everywhere, about tr(H)/d; None is zero; or a tree
        like params: a past estimate.
      ridge: how far to believe the curvatures: the variance of their noise over that of their
        differences from the prior's. 0 interpolates; "auto" estimates it.

    Returns:
      A tree like params; the prior where no query is finite and on frozen leaves.

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
    structure = check_params(queries, params)
    ridge = check_ridge(ridge)
    check_pairs(queries, "hessian_diagonal")
    if _law(queries.plan.directions) == "rademacher":
        raise ValueError(
            f"directions={queries.plan.directions!r} have entries of one size, whose squares see "
            "the trace only: use zo.directions.gaussian()."
        )
    measured, valid = curvatures(queries)
    # One replay for all: the squares stay in memory for the Gram matrix.
    squares = [
        u if u is None else jnp.square(u).reshape(queries.plan.size, -1)
        for u in queries.plan.materialise(structure)
    ]

    def rows(subscripts, vectors):
        terms = [
            jnp.einsum(subscripts, u, v, precision="highest")
            for u, v in zip(squares, vectors, strict=True)
            if u is not None
        ]
        return sum(t.astype(measured.dtype) for t in terms)

    ones = [jnp.ones(u.shape[1:], u.dtype) if u is not None else None for u in squares]
    if isinstance(prior, str) and prior == "trace":
        norms = rows("kd,d->k", ones)
        scale = mean_curvature(measured, norms, valid)
        base = [x + scale.astype(x.dtype) for x in structure.zeros()]
    elif prior is None:
        base = structure.zeros()
    elif isinstance(prior, str):
        raise ValueError(f"prior must be 'trace', None or a tree like params; got {prior!r}.")
    else:
        base = flatten_like(widen(prior, "prior"), structure, "prior")
    expected = rows(
        "kd,d->k",
        [p.reshape(-1).astype(x.dtype) for p, x in zip(base, structure.zeros(), strict=True)],
    )
    residual = jnp.where(valid, measured - expected, 0)
    alpha = fit(rows("jd,kd->jk", squares), residual, valid, ridge)
    h = [
        p
        if u is None
        else p
        + jnp.einsum("k,kd->d", alpha.astype(u.dtype), u, precision="highest")
        .reshape(p.shape)
        .astype(p.dtype)
        for p, u in zip(base, squares, strict=True)
    ]
    return cast_leaves(h, structure)


def _law(directions: Directions) -> str:
    """Of the family below masks and scales; a scale is the same in all directions."""
    while isinstance(directions, (Masked, Scaled)):
        directions = directions.directions
    return directions.law


__all__ = ["hessian_diagonal"]
