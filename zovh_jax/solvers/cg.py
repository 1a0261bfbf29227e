"""Conjugate gradients, with a residual check.

Not JAX's own: that takes dot products which a mesh with explicit axes refuses, and does not tell
how many products it spent.
"""

import dataclasses

import jax
import jax.numpy as jnp

from zovh_jax import _checks, _tree
from zovh_jax.solvers.solver import IterativeSolver, SolveInfo, poison


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ConjugateGradient(IterativeSolver):
    """(H + λI)⁻¹ v by conjugate gradients from zero (Hestenes and Stiefel 1952).

    On scale·I plus n rank-one terms exact arithmetic ends in at most n + 1 steps, for an indefinite
    H too unless a search direction p has pᵀ(H + λI)p = 0. An answer that is worse than x = 0
    (residual above 1) counts as diverged and is NaN.

    Args:
      max_steps: the most steps, of a product with H each; the residual's check is one more.
      tol: stop at this relative residual.
    """

    max_steps: int = 100
    tol: float = 1e-6

    def __post_init__(self):
        _checks.positive_int("max_steps", self.max_steps)
        _checks.positive("tol", self.tol)

    def iterate(self, matvec, v, key):
        del key
        # Derivatives are those of the solution, not of the iteration.
        x, steps = jax.lax.custom_linear_solve(
            matvec, v, self._from_zero, symmetric=True, has_aux=True
        )
        size = _tree.norm(v)
        rest = _tree.norm(jax.tree.map(jnp.subtract, v, matvec(x)))
        residual = rest / jnp.where(size > 0, size, 1)
        diverged = ~(residual <= 1)
        return poison(x, diverged), SolveInfo(residual, diverged, steps + 1)

    def _from_zero(self, matvec, v):
        """The iterate where its residual is small enough, and how many products that took."""
        goal = self.tol**2 * _tree.vdot(v, v)

        def unfinished(state):
            _, _, _, square, steps = state
            return (square > goal) & (steps < self.max_steps)

        def step(state):
            x, rest, way, square, steps = state
            product = matvec(way)
            length = square / _tree.vdot(way, product)
            x = _tree.add_scaled(x, length, way)
            rest = _tree.add_scaled(rest, -length, product)
            smaller = _tree.vdot(rest, rest)
            way = _tree.add_scaled(rest, smaller / square, way)
            return x, rest, way, smaller, steps + 1

        start = jax.tree.map(jnp.zeros_like, v), v, v, _tree.vdot(v, v), jnp.zeros((), jnp.int32)
        x, _, _, _, steps = jax.lax.while_loop(unfinished, step, start)
        return x, steps


cg = ConjugateGradient

__all__ = ["cg"]
