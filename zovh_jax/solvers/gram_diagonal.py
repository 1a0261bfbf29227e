"""The ZoVH paper's approximate inverse: the Gram matrix replaced by its diagonal (E17)."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax.solvers.solver import DirectSolver, Solver


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class GramDiagonal(DirectSolver):
    """v/β − Σ_k w_k (u_k·v) / (β e_k) u_k with e_k = β + w_k‖u_k‖² (E17). O(n d), no n×n array.

    Exact where the directions are orthogonal; otherwise its error falls like √(n/d) while n < d.

    e_k is the curvature that the estimate sees along u_k. It may be zero or negative, which makes
    (E17) blow up or change sign. The guard uses max(|e_k|, floor·λ) in its place, whose inverse is
    never above 1/(floor·λ). It changes nothing where e_k ≥ floor·λ, and almost nothing where
    e_k ≪ −λ, as 1/e_k is then about zero either way.

    Each direction takes the part φ_k = 1 − β/e_k of v along itself. Together more than d of them
    can take more than all of v, as each counts what it shares with the others: the product then
    points the other way. A ``limit`` on the φ_k prevents it, and changes nothing where they are
    smaller. With d/(2n) they take at most half of v on average, or add half (Gaussian directions).

    Args:
      guard: False for the paper's form, whose denominators can vanish.
      floor: the smallest curvature that is divided by, as a fraction of λ.
      limit: the largest |φ_k|, above zero; None for the paper's form. It needs the guard.
    """

    guard: bool = True
    floor: float = 0.1
    limit: float | None = None

    def __post_init__(self):
        _checks.positive("floor", self.floor)
        if self.limit is not None:
            _checks.positive("limit", self.limit)
            if not self.guard:
                raise ValueError(f"limit={self.limit!r} needs guard=True; got guard=False.")

    def regularise(self, base, damping):
        return jnp.maximum(jnp.abs(base), self.floor * damping) if self.guard else base

    def coefficients(self, weights, base, damping, dots, squared_norms, gram):
        weights, base = weights[:, None], base[None, :]
        curvature = base + weights * squared_norms
        exact = weights * dots / (base * curvature)
        if not self.guard:
            return exact
        safe_base, safe = self.regularise(base, damping), self.regularise(curvature, damping)
        # φ_k = 1 − β/e_k = w_k‖u_k‖²/e_k, with β and e_k in their guarded forms.
        norms = jnp.where(squared_norms > 0, squared_norms, 1)
        part = 1 - safe_base / safe
        limited = part if self.limit is None else jnp.clip(part, -self.limit, self.limit)
        unchanged = (safe_base == base) & (safe == curvature) & (limited == part)
        return jnp.where(unchanged, exact, limited * dots / (safe_base * norms))


def warn_of_overlap(
    solver: Solver, num_directions: int, size: int, uncorrected: bool = False
) -> None:
    """Warns where a Gram-diagonal product climbs for some slope and damping.

    Args:
      solver: of any kind.
      num_directions: n, of the Hessian.
      size: d.
      uncorrected: whether v is made of the same directions, and each takes its own part of it too.
    """
    if not isinstance(solver, GramDiagonal) or not size:
        return
    overlap = num_directions + (size - 1 if uncorrected else 0)
    largest = 1.0 if solver.limit is None else solver.limit
    if largest * overlap >= size:
        limit = size / (2 * overlap)
        warnings.warn(
            f"{solver!r} with {num_directions} directions for {size} numbers makes a product that "
            "climbs wherever values differ by much more than λμ²(n − 1)/d; see "
            "zo.estimators.newton_direction. Take fewer directions, or "
            f"solver=zo.solvers.gram_diagonal(limit={limit:.2g}), which descends.",
            stacklevel=3,
        )


gram_diagonal = GramDiagonal

__all__ = ["gram_diagonal", "warn_of_overlap"]
