"""The exact inverse through one n×n solve (E16)."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from zovh_jax.solvers.solver import DirectSolver


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Woodbury(DirectSolver):
    """(H + λI)⁻¹ v exactly: v/β − β⁻² U (I + D UᵀU/β)⁻¹ D Uᵀ v, D = diag(w), β = λ + scale.

    There is no D⁻¹ in it, so zero weights are harmless, and H may be indefinite as long as H + λI
    is regular and β is not zero. Memory: all n directions at once, and n² numbers. Time:
    O(n² d + n³).
    """

    needs_gram: ClassVar[bool] = True

    def coefficients(self, weights, base, damping, dots, squared_norms, gram):
        def one_group(beta, t, g):
            matrix = jnp.eye(t.shape[0], dtype=t.dtype) + weights[:, None] * g / beta
            return jnp.linalg.solve(matrix, weights * t) / jnp.square(beta)

        return jax.vmap(one_group, in_axes=(0, 1, 2), out_axes=1)(base, dots, gram())


woodbury = Woodbury

__all__ = ["woodbury"]
