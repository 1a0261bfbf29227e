"""The n×n systems of least-change estimates, with a ridge that is given or estimated."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

from zovh_jax._products import matmul
from zovh_jax._tree import scalar_dtype
from zovh_jax.queries import Queries

RIDGES = [10.0 ** (i / 5) for i in range(-30, 16)]
"""Candidates of ``ridge="auto"``."""

Ridge = float | jax.Array | Literal["auto"]


def check_pairs(queries: Queries, name: str) -> None:
    """Raises where curvature cannot be told from slope."""
    if not queries.stencil.paired or queries.origins is None:
        raise ValueError(
            f"{name} needs pairs and f(θ), to tell curvature from slope: query with "
            f"zo.stencils.three_point(), or central() and origin=True; got {queries.stencil!r} "
            f"and origin={queries.origins is not None}."
        )


def mean_curvature(measured: jax.Array, norms: jax.Array, valid: jax.Array) -> jax.Array:
    """The mean of s_k/‖u_k‖², about tr(H)/d: the prior "trace"."""
    ratios = jnp.where(valid & (norms > 0), measured / jnp.where(norms > 0, norms, 1), 0)
    return jnp.sum(ratios) / jnp.maximum(jnp.sum(valid), 1).astype(ratios.dtype)


def check_ridge(ridge: Any) -> Any:
    """A ridge as an array, or "auto"."""
    if isinstance(ridge, str) and ridge == "auto":
        return ridge
    if isinstance(ridge, str) or (isinstance(ridge, (int, float)) and not ridge >= 0):
        raise ValueError(f"ridge must be a number of 0 or more, or 'auto'; got {ridge!r}.")
    return jnp.asarray(ridge, scalar_dtype())


def fit(
    matrix: jax.Array,
    target: jax.Array,
    valid: jax.Array,
    ridge: Any,
    levels: jax.Array | None = None,
) -> jax.Array:
    """(M + ρm̄ I)⁺ (t − C c), [n], with m̄ the mean of M's diagonal and c the best levels.

    Directions that repeat others, or nearly, make eigenvalues of M that are only rounding: the
    pseudo-inverse leaves them out, so that nothing blows up.

    The levels c are those of generalised least squares, (CᵀWC)⁻¹CᵀWt with W = (M + ρ)⁻¹. At ρ = 0
    that is the limit ρ → 0: c first explains what M cannot, and then makes the change smallest.
    ``ridge="auto"`` weighs the candidates ρ by the likelihood that t ~ N(Cc, s²(M + ρ)) after c is
    integrated out (restricted maximum likelihood), which has n − R degrees of freedom:

      (n − R) log(tᵀPt/(n − R)) + log|M + ρ| + log|CᵀWC|,  P = W − WC(CᵀWC)⁻¹CᵀW.

    Args:
      matrix: M, [n, n], positive semidefinite.
      target: t, [n], zero where not valid.
      valid: which of the n count.
      ridge: ρ, or "auto".
      levels: C, [n, R]: how a free constant of each of R rounds enters t; None for no constant.
    """
    both = valid[:, None] & valid[None, :]
    n = jnp.maximum(jnp.sum(valid), 1).astype(matrix.dtype)
    matrix = jnp.where(both, matrix, 0)
    mean = jnp.sum(jnp.diagonal(matrix)) / n
    matrix = matrix / jnp.where(mean > 0, mean, 1)
    values, basis = jnp.linalg.eigh(matrix)
    cutoff = 4 * matrix.shape[0] * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(values))
    kept = values > cutoff
    right = matmul(basis.T, target)
    columns = jnp.zeros((target.shape[0], 0), matrix.dtype)
    if levels is not None:
        levels = jnp.where(valid[:, None], levels, 0)
        lengths = jnp.sqrt(jnp.sum(levels**2, 0))
        levels = levels / jnp.where(lengths > 0, lengths, 1)
        columns = matmul(basis.T, levels)
    used = jnp.sum(jnp.any(columns != 0, 0)).astype(matrix.dtype)
    nothing = jnp.zeros(values.shape, bool)

    def candidate(rho):
        """The solution with a ridge, and −2 log of its likelihood at the best s²."""
        total = jnp.maximum(values, 0) + rho
        rest, information = _without_levels(columns, right, 1 / total, nothing)
        free = jnp.maximum(n - used, 1)
        spread = jnp.maximum(jnp.sum(rest**2 / total) / free, jnp.finfo(rest.dtype).tiny)
        dropped = matrix.shape[0] - n  # whose eigenvalues are zero, and tell nothing
        deviance = free * jnp.log(spread) + jnp.sum(jnp.log(total)) - dropped * jnp.log(rho)
        return rest / total, deviance + information

    if isinstance(ridge, str):
        solutions, deviances = jax.vmap(candidate)(jnp.asarray(RIDGES, matrix.dtype))
        # The posterior mean over the candidates, which are spread evenly over orders of magnitude.
        rotated = matmul(jax.nn.softmax(-deviances / 2), solutions)
    else:
        rho = ridge.astype(values.dtype)
        ridged = rho > 0
        total = jnp.where(kept | ridged, jnp.maximum(values, 0) + rho, 1)
        weights = jnp.where(kept | ridged, 1 / total, 0)
        rest, _ = _without_levels(columns, right, weights, ~kept & ~ridged)
        rotated = jnp.where(kept, rest / jnp.where(kept, values + rho, 1), 0)
    fitted = matmul(basis, rotated)
    return jnp.where(valid & (mean > 0), fitted / jnp.where(mean > 0, mean, 1), 0)


def _without_levels(
    columns: jax.Array, right: jax.Array, weights: jax.Array, first: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """t − C c with the best c, and log|CᵀWC| over the levels that W decides.

    Args:
      columns: C, [n, R], of unit length, or zero for a round that is missing.
      right: t, [n].
      weights: the diagonal of W, [n].
      first: which rows c has to explain, as well as it can, before W decides about the rest.
    """
    if not columns.shape[1]:
        return right, jnp.zeros((), right.dtype)
    top = jnp.where(first[:, None], columns, 0)
    squares, axes = jnp.linalg.eigh(matmul(top.T, top))
    fixed = squares > 4 * columns.shape[0] * jnp.finfo(right.dtype).eps
    along = matmul(axes.T, matmul(top.T, right))
    c = matmul(axes, jnp.where(fixed, along / jnp.where(fixed, squares, 1), 0))
    free = jnp.where(fixed, 0, axes)
    weighted = weights[:, None] * columns
    empty = 1.0 * ~jnp.any(columns != 0, 0)
    normal = matmul(columns.T, weighted) + jnp.diag(empty)
    normal = matmul(matmul(free.T, normal), free) + jnp.diag(1.0 * fixed)
    rest = matmul(weighted.T, right - matmul(columns, c))
    c = c + matmul(free, jnp.linalg.solve(normal, matmul(free.T, rest)))
    return right - matmul(columns, c), jnp.linalg.slogdet(normal)[1]


__all__ = ["Ridge", "check_pairs", "check_ridge", "fit", "mean_curvature"]
