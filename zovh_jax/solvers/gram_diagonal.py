"""The ZoVH paper's approximate inverse: the Gram matrix replaced by its diagonal (E17)."""

import dataclasses

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax.solvers.solver import DirectSolver


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GramDiagonal(DirectSolver):
    """v/β − Σ_k w_k (u_k·v) / (β e_k) u_k with e_k = β + w_k‖u_k‖² (E17). O(n d), no n×n array.

    Exact where the directions are orthogonal; otherwise its error falls like √(n/d).

    e_k is the curvature that the estimate sees along u_k. It may be zero or negative, which makes
    (E17) blow up or change sign. The guard uses max(|e_k|, floor·λ) in its place, whose inverse is
    never above 1/(floor·λ). It changes nothing where e_k ≥ floor·λ, and almost nothing where
    e_k ≪ −λ, as 1/e_k is then about zero either way.

    Args:
      guard: False for the paper's form, whose denominators can vanish.
      floor: the smallest curvature that is divided by, as a fraction of λ.
    """

    guard: bool = True
    floor: float = 0.1

    def __post_init__(self):
        _checks.positive("floor", self.floor)

    def regularise(self, base, damping):
        return jnp.maximum(jnp.abs(base), self.floor * damping) if self.guard else base

    def coefficients(self, weights, base, damping, dots, squared_norms, gram):
        weights, base = weights[:, None], base[None, :]
        curvature = base + weights * squared_norms
        exact = weights * dots / (base * curvature)
        if not self.guard:
            return exact
        safe_base, safe = self.regularise(base, damping), self.regularise(curvature, damping)
        # 1/β − 1/e_k = w_k‖u_k‖²/(β e_k), with each in its guarded form.
        norms = jnp.where(squared_norms > 0, squared_norms, 1)
        guarded = (1 / safe_base - 1 / safe) * dots / norms
        return jnp.where((safe_base == base) & (safe == curvature), exact, guarded)


gram_diagonal = GramDiagonal

__all__ = ["gram_diagonal"]
