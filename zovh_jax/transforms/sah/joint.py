"""Shorter steps where the Newton steps of all groups, taken together, are too long."""

import jax
import jax.numpy as jnp

from zovh_jax.transforms.sah.fit import Seen, clipped_product, gradients_of

MOST = 4
"""The largest shortening, in units of the number of groups."""
KEPT = 0.8
"""The share of the last shortening that a step keeps at least."""


def shortening(
    seen: Seen,
    hessians: jax.Array,
    floor: jax.Array,
    rounding: jax.Array,
    before: jax.Array,
) -> jax.Array:
    """What to divide the groups' Newton steps by, so that together they are not too long.

    Let s be the last move of all groups, and y the change of their gradients. Along s, the
    function has the curvature sᵀy, of which the groups' own Hessians account for Σ_j s_jᵀ|H_j|s_j.
    Their ratio is 1 where the groups do not interact, and up to J on a convex quadratic; there,
    learning rates above 2 divided by the ratio diverge. It is also above 1 where curvature has
    grown since H was fitted. Groups that did not interact along one move may along the next, so
    the last shortening is forgotten slowly. Rounding makes no step shorter, and noise makes it
    at most 4·J times shorter.

    Args:
      seen: the values, at least of this step and the one before.
      hessians: [J, q, q], as for `gradients_of`.
      floor: the least curvature of |H|.
      rounding: standard error of a slope.
      before: the last shortening, kept up to J where nothing is known of a move.

    Returns:
      A scalar of at least 1.
    """
    num_groups = hessians.shape[0]
    new, old = (gradients_of(seen.slopes[t], hessians, seen.radii[t]) for t in (0, 1))
    known = jnp.all(jnp.isfinite(new - old), -1, keepdims=True)
    change = jnp.where(known, new - old, 0)
    move = jnp.where(known, seen.centres[0] - seen.centres[1], 0)
    own = jnp.sum(move * clipped_product(hessians, move, floor))
    joint = jnp.sum(change * move) - 2 * rounding * jnp.sum(jnp.abs(move))
    ratio = joint / own
    measured = jnp.clip(jnp.maximum(ratio, KEPT * before), 1, MOST * num_groups)
    return jnp.where(jnp.isfinite(ratio), measured, jnp.minimum(before, num_groups))
