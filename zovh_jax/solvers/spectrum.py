"""Eigenvalues of scale·I plus n rank-one terms by n×n algebra, and functions of such operators.

With U = [u_1 … u_n], D = diag(w) and the Gram matrix UᵀU = V S Vᵀ, the columns of Q = U V S^(−1/2)
are orthonormal, and U D Uᵀ = Q T Qᵀ with T = S^(1/2) Vᵀ D V S^(1/2), an m×m matrix, m = min(n, d).
With T = R diag(t) Rᵀ, the operator β I + U D Uᵀ has the eigenvalues β + t_i along the columns of
Q R, and β across them, d − m times. So a function of it is

  φ(βI + UDUᵀ) z = φ(β) z + Q R diag(φ(β + t) − φ(β)) Rᵀ Qᵀ z,

and Q R = U K with K = V S^(−1/2) R, [n, m]: no array is larger than the n directions. Of more than
d directions, the n − d smallest eigenvalues in S are rounding errors, and left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._products import einsum, matmul
from zovh_jax._rows import gram_of, mixed
from zovh_jax._tree import total
from zovh_jax._types import Leaves
from zovh_jax.operators import LowRankPlusScaled


class Spectrum(NamedTuple):
    """Eigenvalues of an operator on the perturbed leaves.

    Attributes:
      base: β, [], the eigenvalue of all vectors across the modes.
      values: β + t, [m].
      modes: K, [n, m]: mode i is Σ_k K_ki u_k.
      rows: the directions u_k, a list of arrays [n, *shape].
      num_others: d − m, a Python int: how many times β counts.
    """

    base: jax.Array
    values: jax.Array
    modes: jax.Array
    rows: Leaves
    num_others: int

    @classmethod
    def of(cls, operator: LowRankPlusScaled, shift: jax.Array) -> "Spectrum":
        """The spectrum of operator + shift·I. O(n² d + n³) time."""
        rows = operator.plan.materialise(operator.layout)
        gram = total([gram_of(u, u) for u in rows])
        n = gram.shape[0]
        m = min(n, operator.layout.size)
        squares, basis = jnp.linalg.eigh(gram)
        squares, basis = squares[-m:], basis[:, -m:]
        kept = squares > n * jnp.finfo(gram.dtype).eps * jnp.max(squares)
        lengths = jnp.where(kept, jnp.sqrt(jnp.where(kept, squares, 1)), 0)
        inverse = jnp.where(kept, 1 / jnp.where(kept, lengths, 1), 0)
        left = basis * lengths
        small = einsum("km,k,kl->ml", left, operator.weights, left)
        values, rotation = jnp.linalg.eigh(small)
        modes = matmul(basis * inverse, rotation)
        base = operator.scale + shift
        return cls(base, base + values, modes, rows, operator.layout.size - m)

    @property
    def definite(self) -> jax.Array:
        """Whether all eigenvalues are above zero."""
        return jnp.all(self.values > 0) & ((self.base > 0) | (self.num_others == 0))

    def log_determinant(self) -> jax.Array:
        """The sum of the eigenvalues' logarithms, []; NaN where the operator isn't definite."""
        total = jnp.sum(jnp.log(jnp.where(self.values > 0, self.values, 1)))
        if self.num_others:
            total = total + self.num_others * jnp.log(jnp.where(self.base > 0, self.base, 1))
        return jnp.where(self.definite, total, jnp.nan)

    def apply(self, function: Callable[[jax.Array], jax.Array], vectors: Leaves) -> Leaves:
        """φ of the operator times some vectors, arrays [num, *shape]; NaN if it isn't definite.

        Args:
          function: φ, elementwise on eigenvalues above zero.
          vectors: one array a perturbed leaf.
        """
        values = function(jnp.where(self.values > 0, self.values, 1))
        # Where the modes span everything β may be negative, and nothing lies across them.
        across = jnp.where(self.base > 0, function(jnp.where(self.base > 0, self.base, 1)), 0)
        across = jnp.where(self.definite, across, jnp.nan)
        pairs = zip(vectors, self.rows, strict=True)
        dots = total([gram_of(z, u) for z, u in pairs])
        along = matmul(dots, self.modes) * (values - across)
        c = matmul(along, self.modes.T)
        return [
            across.astype(z.dtype) * z + mixed(c, u).astype(z.dtype)
            for z, u in zip(vectors, self.rows, strict=True)
        ]


__all__ = ["Spectrum"]
