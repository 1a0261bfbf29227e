"""Curvature in each group: quadratics fitted to values of several steps, and what solves use.

Source: ZO-SAH, arXiv 2507.06125. The moves of other groups are no part of the paper's fit.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._products import einsum


class Seen(NamedTuple):
    """What S steps saw in J groups of q coordinates, the newest first.

    Attributes:
      slopes: [S, J, p], (f(θ + μw) − f(θ))/μ at each of a step's p points w; NaN where unknown.
      centres: [S, J, q], θ at the groups' coordinates.
      radii: [S], μ.
    """

    slopes: jax.Array
    centres: jax.Array
    radii: jax.Array


def fit_hessians(
    seen: Seen,
    points: np.ndarray,
    prior: jax.Array,
    *,
    ridge: jax.Array,
    scales: jax.Array | None = None,
    rounding: jax.Array | float = 0.0,
) -> jax.Array:
    """Hessians of the groups, by regularised least-squares fits of a quadratic to the values.

    Let c be a step's centre, measured from the newest one. If f is quadratic, the step's slope
    along a point w is wᵀ(g + Hc + b) + μ/2·wᵀHw: g is the gradient at the newest centre, and b
    is what the moves of other groups changed in the gradient of this one. Slopes, not values,
    are fitted, so that the level of f may differ from step to step.

    Without ``scales``, b is left out, and the fit takes the moves of other groups for curvature
    of this one. With ``scales`` h, the curvatures against other groups are unknowns as well:
    b = Σ_k C_k c_k, where the ridge pulls C_k to zero as it pulls H to the prior. Of many C_k,
    the values only show the few combinations that the steps went along, so that there are
    (S − 1)·q such unknowns. The ridge takes H in units of h_j and C_k in units of √(h_j h_k (J−1)).
    This makes the fit independent of how parameters are scaled, and gives a bound: on a quadratic
    with H ≥ 0, exact prior and h_k = ‖H_kk‖, the true H and C are one solution, whose penalty is
    Σ_k ‖C_k‖²/(h_j h_k (J−1)) ≤ 1. The fit's penalty is not larger, so its error is at most h_j.

    Args:
      seen: the values; centres in any origin.
      points: [p, q], the points w; the first q are the unit vectors.
      prior: [J, q, q], what the ridge pulls to.
      ridge: weight of ‖H − prior‖², relative to a slope's squared error when distances are in
        units of the largest one seen by the group.
      scales: [J], the size h of each group's curvature, above zero; or None.
      rounding: standard error of a slope from rounding, or zero; it needs ``scales``. Where it
        would change H by more than h, the prior is kept.

    Returns:
      [J, q, q], symmetric; the prior where a group's newest forward slopes are not all known.
    """
    offsets = seen.centres - seen.centres[:1]
    moves = None
    if scales is not None and prior.shape[0] > 1 and offsets.shape[0] > 1:
        moves = _moves_of_others(offsets[1:], scales)
    units = jnp.ones(prior.shape[0], prior.dtype) if scales is None else scales
    noise = jnp.zeros_like(units) if scales is None else rounding / units

    def one(slopes, offsets, prior, moves, noise):
        return _fit(slopes, offsets, seen.radii, points, prior, moves, ridge, noise)

    in_axes = (1, 1, 0, None if moves is None else 0, 0)
    return jax.vmap(one, in_axes)(seen.slopes, offsets, prior, moves, noise)


def _moves_of_others(offsets: jax.Array, scales: jax.Array) -> jax.Array:
    """[J, S, S] factors L: L Lᵀ = (J−1) Σ_{k≠j} h_k/h_j c_k c_kᵀ, for the offsets c [S, J, q]."""
    own = einsum("sjq,tjq,j->jst", offsets, offsets, scales)
    others = jnp.sum(own, 0, keepdims=True) - own
    others = others * ((len(scales) - 1) / scales)[:, None, None]
    values, basis = jnp.linalg.eigh(others)
    return basis * jnp.sqrt(jnp.maximum(values, 0))[:, None, :]


def _fit(slopes, offsets, radii, points, prior, moves, ridge, noise):
    """`fit_hessians` in one group: slopes [S, p], offsets [S, q], moves [S−1, S−1] or None."""
    q = points.shape[1]
    i, j = np.triu_indices(q)
    known = jnp.isfinite(slopes)
    usable = jnp.all(known[0, :q])
    asked = jnp.any(known, -1)
    offsets, radii = jnp.where(asked[:, None], offsets, 0), jnp.where(asked, radii, 0)
    unit = jnp.maximum(jnp.max(jnp.abs(offsets)), jnp.max(radii))
    unit = jnp.where(unit > 0, unit, 1)

    rows = _rows(offsets / unit, radii / unit, points, None if moves is None else moves / unit)
    rows = jnp.where(known.reshape(-1, 1), rows.reshape(slopes.size, -1), 0)
    curvatures = slice(q, q + len(i))
    start = unit * prior[i, j]  # the unknowns are H·unit, so that a row's entries are about 1
    expected = einsum("ra,a->r", rows[:, curvatures], start)
    right = jnp.where(known, slopes, 0).reshape(-1) - expected
    weight = jnp.sqrt(ridge + jnp.square(noise / unit))
    weights = np.ones(rows.shape[1], rows.dtype)
    weights[:q], weights[curvatures] = 0, np.where(i == j, 1, np.sqrt(2))
    change = _least_squares(rows, right, weight * weights, usable)[curvatures]
    half = (start + change) / unit
    fitted = jnp.zeros_like(prior).at[i, j].set(half).at[j, i].set(half)
    return jnp.where(usable & jnp.all(jnp.isfinite(fitted)), fitted, prior)


def _rows(offsets, radii, points, moves):
    """[S, p, n]: what a slope is in terms of g, the upper half of H, and the moves of others."""
    i, j = np.triu_indices(points.shape[1])
    w = jnp.asarray(points, offsets.dtype)[None]
    # wᵀHc + μ/2·wᵀHw = wᵀH(c + μ/2·w): bilinear in w and the middle of the step.
    middles = offsets[:, None, :] + radii[:, None, None] / 2 * w
    outer = w[:, :, :, None] * middles[:, :, None, :]
    off_diagonal = jnp.asarray(i != j, w.dtype).reshape(1, 1, -1)
    upper = outer[:, :, i, j] + off_diagonal * outer[:, :, j, i]
    gradient = jnp.broadcast_to(w, middles.shape)
    if moves is None:
        return jnp.concatenate([gradient, upper], -1)
    moves = jnp.concatenate([jnp.zeros_like(moves[:1]), moves])  # the newest step is the origin
    others = moves[:, None, :, None] * w[:, :, None, :]
    return jnp.concatenate([gradient, upper, others.reshape(*upper.shape[:2], -1)], -1)


def _least_squares(rows, right, weights, usable):
    """The x of the least ‖rows·x − right‖² + ‖weights·x‖²; zero unless ``usable``.

    By QR, which needs half the digits of the normal equations: those are too many for float32.
    """
    n = rows.shape[1]
    system = jnp.concatenate(
        [
            jnp.concatenate([rows, right[:, None]], 1),
            jnp.concatenate([jnp.diag(weights), jnp.zeros((n, 1), rows.dtype)], 1),
        ]
    )
    triangle = jnp.linalg.qr(jnp.where(usable, system, jnp.eye(*system.shape)), mode="r")
    return jax.scipy.linalg.solve_triangular(triangle[:n, :n], triangle[:n, n])


def gradients_of(slopes: jax.Array, hessians: jax.Array, radius: jax.Array) -> jax.Array:
    """Gradients of the groups at a step's centre, free of forward differences' bias.

    Where the minus point is known, it is the central difference, (F⁺ − F⁻)/2μ. Elsewhere it is
    the gradient of the fitted quadratic through the step's own values: (F⁺ − f(θ))/μ − μ/2·H_aa.

    Args:
      slopes: [J, p], of one step: along e_a, then −e_a, then whatever else; NaN where unknown.
      hessians: [J, q, q].
      radius: μ.

    Returns:
      [J, q]; NaN where the forward slope is unknown.
    """
    q = hessians.shape[1]
    forward, backward = slopes[:, :q], slopes[:, q : 2 * q]
    corrected = forward - radius / 2 * jnp.diagonal(hessians, axis1=1, axis2=2)
    return jnp.where(jnp.isfinite(backward), (forward - backward) / 2, corrected)


def clipped_solve(hessians: jax.Array, vectors: jax.Array, floor: jax.Array) -> jax.Array:
    """|H|⁻¹v in each group, |H| with eigenvalues max(|λ|, floor): [J, q, q], [J, q] → [J, q]."""
    return _along_eigenvectors(hessians, vectors, lambda size: 1 / jnp.maximum(size, floor))


def clipped_product(hessians: jax.Array, vectors: jax.Array, floor: jax.Array) -> jax.Array:
    """|H|v in each group, with the same |H|."""
    return _along_eigenvectors(hessians, vectors, lambda size: jnp.maximum(size, floor))


def _along_eigenvectors(hessians, vectors, factor):
    """The vectors with their components along H's eigenvectors multiplied by factor(|λ|)."""
    values, basis = jnp.linalg.eigh(hessians)
    rotated = einsum("jab,ja->jb", basis, vectors)
    return einsum("jab,jb->ja", basis, rotated * factor(jnp.abs(values)))
