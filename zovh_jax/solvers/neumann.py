"""Neumann series for the inverse (E19): products with H only, any matvec, any pytree.

When is a divergence seen? Write A = H + λI, with eigenvalues λ_j and c_j the components of v along
their eigenvectors. Term i of the series is t_i = (I − αA)^i v, with components (1 − αλ_j)^i c_j:
for a negative eigenvalue −ε they grow, like (1 + αε)^i. Two signs of it are looked for, neither of
which costs a product:

- terms that grow, ‖t_{i+1}‖ > ‖t_i‖: for any eigenvalue outside (0, 2/α), once its component is the
  largest. Growth must be above rounding, 1e-4, so an ε below 1e-4/α is never seen by it;
- a term with t_iᵀ A t_i < 0, which only a negative eigenvalue can give, from the difference t_i −
  t_{i+1} = αA t_i. Its only threshold is rounding, and for α ≤ 1/‖A‖ the quotient
  t_iᵀAt_i / t_iᵀt_i falls from term to term towards the least eigenvalue.

An eigenvalue −ε, along which v has the component c₋, stays unseen with too few terms: as long as

  ε c₋² (1 + αε)^{2i} < Σ_{λ_j > 0} λ_j c_j² (1 − αλ_j)^{2i}   for all i ≤ T.

The answer then has about α(T + 1)c₋ along its eigenvector, where −c₋/ε would be right. But
``info.residual`` can't be small: v − A x = t_{T+1} has (1 + αε)^{T+1} c₋ there, so the residual is
at least |c₋|/‖v‖. A residual r says that v has no more than r‖v‖ along negative eigenvectors.
"""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from zovh_jax import _checks, _tree
from zovh_jax._types import Matvec, PyTree
from zovh_jax.solvers.solver import IterativeSolver, SolveInfo, damped, poison


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Neumann(IterativeSolver):
    """(H + λI)⁻¹ v ≈ α Σ_{i=0..T} (I − α(H + λI))^i v, which converges for H + λI ≻ 0.

    Args:
      num_terms: T; the mean of T under random truncation.
      step_size: α, below 2/‖H + λI‖. None estimates 1/‖H + λI‖ by power iteration.
      truncation: "fixed", or "random": T is geometric with mean num_terms and term i is weighted
        by 1/P(T ≥ i), which makes the answer unbiased for the whole series. It needs a key, and
        has finite variance only while ‖I − α(H + λI)‖² < num_terms/(num_terms + 1).
      num_power_iterations: products spent on the estimate of the norm.
    """

    num_terms: int
    step_size: float | None = None
    truncation: Literal["fixed", "random"] = "fixed"
    num_power_iterations: int = 12

    def __post_init__(self):
        _checks.positive_int("num_terms", self.num_terms)
        _checks.positive_int("num_power_iterations", self.num_power_iterations)
        if self.step_size is not None:
            _checks.positive("step_size", self.step_size)
        if self.truncation not in ("fixed", "random"):
            raise ValueError(f"truncation must be 'fixed' or 'random', got {self.truncation!r}.")

    def iterate(self, matvec, v, key):
        count, alpha = 1, jnp.asarray(self.step_size or 1, _tree.scalar_dtype())
        if self.step_size is None:
            alpha, count = 1 / self._norm_estimate(matvec, v), count + self.num_power_iterations
        keep, last = self._truncated(key)
        epsilons = [float(jnp.finfo(x.dtype).eps) for x in jax.tree.leaves(v)]
        rounding = 16 * max(epsilons, default=0.0)

        def advance(term):
            """The next term, its norm, and whether it shows that the series diverges."""
            new = _tree.add_scaled(term, -alpha, matvec(term))
            square, size = _tree.vdot(term, term), _tree.norm(new)
            curvature = _tree.vdot(term, jax.tree.map(jnp.subtract, term, new))  # α tᵀAt
            bad = _grows(jnp.sqrt(square), size) | (curvature < -rounding * square)
            return new, size, bad

        def body(state):
            i, term, total, weight, bad = state
            term, _, worse = advance(term)
            weight = weight / keep
            total = _tree.add_scaled(total, weight, term)
            return i + 1, term, total, weight, bad | worse

        start = _tree.norm(v)
        one = jnp.ones((), _tree.scalar_dtype())
        state = (jnp.zeros((), jnp.int32), v, v, one, jnp.zeros((), bool))
        _, term, total, _, diverged = jax.lax.while_loop(lambda s: s[0] < last, body, state)
        x = _tree.scale(alpha, total)
        if self.truncation == "fixed":  # v − A x = (I − αA)^{T+1} v: the next term
            _, rest, worse = advance(term)
            diverged = diverged | worse
        else:
            rest = _tree.norm(_tree.add_scaled(v, -one, matvec(x)))
            diverged = diverged | ~jnp.isfinite(rest)
        residual = rest / jnp.where(start > 0, start, 1)
        info = SolveInfo(residual, diverged, last + count)
        return poison(x, diverged), info

    def _truncated(self, key: jax.Array | None) -> tuple[float, jax.Array]:
        """P(T ≥ i + 1 | T ≥ i) and T."""
        if self.truncation == "fixed":
            return 1.0, jnp.asarray(self.num_terms, jnp.int32)
        if key is None:
            raise ValueError("neumann(truncation='random') needs a key: pass key=.")
        keep = self.num_terms / (self.num_terms + 1)
        uniform = jax.random.uniform(_checks.key(key), minval=1e-7, maxval=1.0)
        return keep, jnp.floor(jnp.log(uniform) / jnp.log(keep)).astype(jnp.int32)

    def _norm_estimate(self, matvec: Matvec, v: PyTree) -> jax.Array:
        """‖A‖ on the Krylov space of v, which the series never leaves."""

        def body(carry, _):
            x, best = carry
            y = matvec(_tree.scale(1 / _positive(_tree.norm(x)), x))
            return (y, jnp.maximum(best, _tree.norm(y))), None

        start = (v, jnp.zeros((), _tree.scalar_dtype()))
        (_, best), _ = jax.lax.scan(body, start, length=self.num_power_iterations)
        return _positive(best)


def _grows(before: jax.Array, after: jax.Array) -> jax.Array:
    """Terms of a convergent series shrink: growth, or NaN, means an eigenvalue outside (0, 2/α)."""
    return ~(after <= before * (1 + 1e-4))


def _positive(x: jax.Array) -> jax.Array:
    return jnp.where(x > 0, x, 1)


def neumann_solve(
    matvec: Matvec,
    v: PyTree,
    *,
    damping: Any = 0.0,
    num_terms: int,
    step_size: float | None = None,
    truncation: Literal["fixed", "random"] = "fixed",
    num_power_iterations: int = 12,
    key: jax.Array | None = None,
    return_info: bool = False,
) -> Any:
    """(H + λI)⁻¹ v by a Neumann series, from products with H alone (E19).

    Args:
      matvec: x ↦ H x on trees like v, symmetric; ``operator.mv`` or any function.
      v: the right-hand side, a tree of float arrays.
      damping: λ; H + λI must be positive definite.
      num_terms: T: the sum runs over i = 0..T and costs T + 1 products, the residual included.
      step_size: α in (0, 2/‖H + λI‖); by default from ``num_power_iterations`` more products.
      truncation: "fixed", or "random" for the unbiased random truncation (needs ``key``).
      num_power_iterations: products spent on choosing the step size.
      key: for the random truncation.
      return_info: also return a `SolveInfo`.

    Returns:
      The solution, a tree like v; or (solution, info). A series that diverges (H + λI not positive
      definite, or step_size too large) is reported: every number of the solution is then NaN and
      ``info.diverged`` is True. A series cut off early has a large ``info.residual``, and so has
      one that is too short for a small negative eigenvalue to show: with a residual r, v has at
      most r‖v‖ along eigenvectors of negative eigenvalues. (The solver's module says what is seen
      when.)

    Raises:
      ValueError: for sizes out of range, or a random truncation without a ``key``.
      TypeError: if v has leaves that are not floats.

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> x, info = zo.neumann_solve(lambda x: 2.0 * x, jnp.ones(3), num_terms=3, return_info=True)
      >>> x, bool(info.diverged)
      (Array([0.5, 0.5, 0.5], dtype=float32), False)
    """
    solver = Neumann(num_terms, step_size, truncation, num_power_iterations)
    _tree.layout_of(v, name="v")
    v = _tree.widen(v)
    damping = jnp.asarray(damping, _tree.scalar_dtype())
    x, info = solver.iterate(damped(matvec, damping), v, key)
    return (x, info) if return_info else x


neumann = Neumann

__all__ = ["neumann", "neumann_solve"]
