"""Conjugate gradients: JAX's own, with a residual check."""

import dataclasses

import jax
import jax.numpy as jnp

from zovh_jax import _checks, _tree
from zovh_jax.solvers.solver import IterativeSolver, SolveInfo, poison


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ConjugateGradient(IterativeSolver):
    """(H + λI)⁻¹ v by ``jax.scipy.sparse.linalg.cg``.

    On scale·I plus n rank-one terms exact arithmetic ends in at most n + 1 steps, for an indefinite
    H too unless a search direction p has pᵀ(H + λI)p = 0. An answer that is worse than x = 0
    (residual above 1) counts as diverged and is NaN.

    Args:
      max_steps: the most products with H.
      tol: stop at this relative residual.
    """

    max_steps: int = 100
    tol: float = 1e-6

    def __post_init__(self):
        _checks.positive_int("max_steps", self.max_steps)
        _checks.positive("tol", self.tol)

    def iterate(self, matvec, v, key):
        del key
        x, _ = jax.scipy.sparse.linalg.cg(matvec, v, tol=self.tol, maxiter=self.max_steps)
        size = _tree.norm(v)
        rest = _tree.norm(jax.tree.map(jnp.subtract, v, matvec(x)))
        residual = rest / jnp.where(size > 0, size, 1)
        diverged = ~(residual <= 1)
        # One product at the start and one for the residual.
        info = SolveInfo(residual, diverged, jnp.asarray(self.max_steps + 2, jnp.int32))
        return poison(x, diverged), info


cg = ConjugateGradient

__all__ = ["cg"]
