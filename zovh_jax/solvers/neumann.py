"""Neumann series for the inverse (E19): products with H only, any matvec, any pytree."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from zovh_jax import _checks, _tree
from zovh_jax._types import Matvec, PyTree
from zovh_jax.solvers.solver import SolveInfo, Solver, as_matvec, poison


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Neumann(Solver):
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

    def solve(self, operator, v, damping, key=None):
        matvec, count = as_matvec(operator, damping), 1
        if self.step_size is None:
            alpha, count = 1 / self._norm_estimate(matvec, v), count + self.num_power_iterations
        else:
            alpha = jnp.asarray(self.step_size, _tree.scalar_dtype())
        if self.truncation == "random":
            if key is None:
                raise ValueError("neumann(truncation='random') needs a key: pass key=.")
            keep = self.num_terms / (self.num_terms + 1)
            uniform = jax.random.uniform(_checks.key(key), minval=1e-7, maxval=1.0)
            last = jnp.floor(jnp.log(uniform) / jnp.log(keep)).astype(jnp.int32)
        else:
            keep, last = 1.0, jnp.asarray(self.num_terms, jnp.int32)

        def advance(term):
            return _tree.add_scaled(term, -alpha, matvec(term))

        def body(state):
            i, term, size, total, weight, grew = state
            term = advance(term)
            weight = weight / keep
            new_size = _tree.norm(term)
            total = _tree.add_scaled(total, weight, term)
            return i + 1, term, new_size, total, weight, grew | _grows(size, new_size)

        start = _tree.norm(v)
        one = jnp.ones((), _tree.scalar_dtype())
        state = (jnp.zeros((), jnp.int32), v, start, v, one, jnp.zeros((), bool))
        _, term, size, total, _, grew = jax.lax.while_loop(lambda s: s[0] < last, body, state)
        x = _tree.scale(alpha, total)
        if self.truncation == "fixed":  # v − A x = (I − αA)^{T+1} v: the next term
            rest = _tree.norm(advance(term))
            diverged = grew | _grows(size, rest)
        else:
            rest = _tree.norm(_tree.add_scaled(v, -one, matvec(x)))
            diverged = grew | ~jnp.isfinite(rest)
        residual = rest / jnp.where(start > 0, start, 1)
        info = SolveInfo(residual, diverged, last + count)
        return poison(x, diverged), info

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
      The solution, a tree like v; or (solution, info). A series whose terms grow (H + λI not
      positive definite, or step_size too large) diverges: every number of the solution is then
      NaN and ``info.diverged`` is True. A series cut off early has a large ``info.residual``.

    Example:
      >>> import jax.numpy as jnp, zovh_jax as zo
      >>> x, info = zo.neumann_solve(lambda x: 2.0 * x, jnp.ones(3), num_terms=3, return_info=True)
      >>> x, bool(info.diverged)
      (Array([0.5, 0.5, 0.5], dtype=float32), False)
    """
    solver = Neumann(num_terms, step_size, truncation, num_power_iterations)
    _tree.layout_of(v, name="v")
    v = _tree.widen(v)
    x, info = solver.solve(matvec, v, jnp.asarray(damping, _tree.scalar_dtype()), key)
    return (x, info) if return_info else x


neumann = Neumann

__all__ = ["neumann", "neumann_solve"]
