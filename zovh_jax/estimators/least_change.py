"""The n×n systems of least-change estimates, with a ridge that is given or estimated."""

from typing import Any, Literal

import jax
import jax.numpy as jnp

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
    constant: jax.Array | None = None,
) -> jax.Array:
    """(M + ridge·m̄ I)⁺ (t − c·constant), [n], m̄ the mean of M's diagonal and c the best constant.

    Directions that repeat others, or nearly, are eigenvalues that are nothing but rounding: the
    pseudo-inverse leaves them out, so that nothing blows up.
    """
    both = valid[:, None] & valid[None, :]
    n = jnp.maximum(jnp.sum(valid), 1).astype(matrix.dtype)
    matrix = jnp.where(both, matrix, 0)
    mean = jnp.sum(jnp.diagonal(matrix)) / n
    matrix = matrix / jnp.where(mean > 0, mean, 1)
    values, basis = jnp.linalg.eigh(matrix)
    cutoff = 4 * matrix.shape[0] * jnp.finfo(matrix.dtype).eps * jnp.max(jnp.abs(values))
    kept = values > cutoff

    def rotate(x):
        return jnp.einsum("ij,i->j", basis, x, precision="highest")

    def solve(weights):
        right = rotate(target)
        if constant is None:
            return weights * right, right
        ones = rotate(jnp.where(valid, constant, 0))
        total = jnp.sum(weights * ones**2)
        right = right - jnp.sum(weights * ones * right) / jnp.where(total > 0, total, 1) * ones
        return weights * right, right

    def candidate(rho):
        """The solution, and −2 log of the likelihood that t ~ N(0, s²(M + ρI)) at the best s²."""
        total = jnp.maximum(values, 0) + rho
        solution, right = solve(1 / total)
        spread = jnp.maximum(jnp.sum(solution * right) / n, jnp.finfo(right.dtype).tiny)
        dropped = matrix.shape[0] - n  # whose eigenvalues are zero, and tell nothing
        return solution, n * jnp.log(spread) + jnp.sum(jnp.log(total)) - dropped * jnp.log(rho)

    if isinstance(ridge, str):
        solutions, deviances = jax.vmap(candidate)(jnp.asarray(RIDGES, matrix.dtype))
        # The posterior mean over the candidates, which are spread evenly over orders of magnitude.
        rotated = jnp.einsum("r,ri->i", jax.nn.softmax(-deviances / 2), solutions)
    else:
        total = jnp.where(kept, values + ridge.astype(values.dtype), 1)
        rotated, _ = solve(jnp.where(kept, 1 / total, 0))
    fitted = jnp.einsum("ij,j->i", basis, rotated, precision="highest")
    return jnp.where(valid & (mean > 0), fitted / jnp.where(mean > 0, mean, 1), 0)


__all__ = ["Ridge", "check_pairs", "check_ridge", "fit", "mean_curvature"]
