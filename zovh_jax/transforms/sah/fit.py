"""Curvature in each group: quadratics fitted to values of several steps, and what solves use.

Source: ZO-SAH, arXiv 2507.06125.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Steps(NamedTuple):
    """What S steps saw in J groups of q coordinates, the newest first.

    Attributes:
      slopes: [S, J, p], (f(θ + μw) − f(θ))/μ at each of a step's p points w; NaN where unknown.
      centres: [S, J, q], θ at the groups' coordinates.
      radii: [S], μ.
    """

    slopes: jax.Array
    centres: jax.Array
    radii: jax.Array


def fit_hessians(steps: Steps, points: np.ndarray, ridge: jax.Array, prior: jax.Array) -> jax.Array:
    """Hessians of the groups, by regularised least-squares fits of a quadratic to the values.

    A step centred at c, measured from the newest centre, sees along its point w the slope
    wᵀ(g + Hc) + μ/2·wᵀHw if f is quadratic. Fitting slopes, not values, gives every step a
    constant of its own: what f changed because other groups moved is no curvature of this group.
    (What their moves changed in g cannot be told from Hc, and stays as an error.)

    Unknowns: g [q] and the upper half of H, in units of 1/σ, where σ is the largest distance
    seen; so the ridge, on H alone, has no unit.

    Args:
      steps: the values; centres in any origin.
      points: [p, q], the points w; the first q are the unit vectors.
      ridge: weight of ‖H − prior‖² (upper half), relative to that of a slope's squared error.
      prior: [J, q, q], what the ridge pulls to.

    Returns:
      [J, q, q], symmetric; the prior where a group's newest forward slopes are not all known.
    """

    def one(slopes, centres, prior):
        return _fit(slopes, centres - centres[:1], steps.radii, points, ridge, prior)

    return jax.vmap(one, in_axes=(1, 1, 0))(steps.slopes, steps.centres, prior)


def _fit(slopes, offsets, radii, points, ridge, prior):
    """`fit_hessians` in one group: slopes [S, p], offsets [S, q]."""
    q = points.shape[1]
    i, j = np.triu_indices(q)
    w = jnp.asarray(points, slopes.dtype)[None]
    known = jnp.isfinite(slopes)
    some = jnp.any(known, -1)
    usable = jnp.all(known[0, :q])
    offsets, radii = jnp.where(some[:, None], offsets, 0), jnp.where(some, radii, 0)
    sigma = jnp.maximum(jnp.max(jnp.abs(offsets)), jnp.max(radii))
    sigma = jnp.where(sigma > 0, sigma, 1)

    # wᵀHc + μ/2·wᵀHw = wᵀH(c + μ/2·w): bilinear in w and the middle of the step.
    middles = (offsets[:, None, :] + radii[:, None, None] / 2 * w) / sigma
    outer = w[:, :, :, None] * middles[:, :, None, :]
    off_diagonal = jnp.asarray(i != j, w.dtype).reshape(1, 1, -1)
    upper = outer[:, :, i, j] + off_diagonal * outer[:, :, j, i]
    rows = jnp.concatenate([jnp.broadcast_to(w, (*slopes.shape, q)), upper], -1)
    rows = jnp.where(known.reshape(-1, 1), rows.reshape(slopes.size, -1), 0)

    start = sigma * prior[i, j]
    expected = jnp.einsum("ra,a->r", rows[:, q:], start, precision="highest")
    residual = jnp.where(known, slopes, 0).reshape(-1) - expected
    normal = jnp.einsum("ra,rb->ab", rows, rows, precision="highest")
    normal = normal + jnp.diag(jnp.where(jnp.arange(rows.shape[1]) < q, 0, ridge))
    normal = jnp.where(usable, normal, jnp.eye(rows.shape[1], dtype=rows.dtype))
    right = jnp.einsum("ra,r->a", rows, residual, precision="highest")
    half = (start + jnp.linalg.solve(normal, right)[q:]) / sigma
    fitted = jnp.zeros_like(prior).at[i, j].set(half).at[j, i].set(half)
    return jnp.where(usable & jnp.all(jnp.isfinite(fitted)), fitted, prior)


def clipped_solve(hessians: jax.Array, vectors: jax.Array, floor: jax.Array) -> jax.Array:
    """|H|⁻¹v in each group, |H| with eigenvalues max(|λ|, floor): [J, q, q], [J, q] → [J, q]."""
    values, basis = jnp.linalg.eigh(hessians)
    rotated = jnp.einsum("jab,ja->jb", basis, vectors, precision="highest")
    rotated = rotated / jnp.maximum(jnp.abs(values), floor)
    return jnp.einsum("jab,jb->ja", basis, rotated, precision="highest")
