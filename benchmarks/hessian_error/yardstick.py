"""Errors of Hessian estimates without a d×d array.

An estimate is Ĥ = s·I + Σ_k w_k u_k u_kᵀ, so with G = [u_j·u_k], for any operator H whose products,
trace and norm are known,

  ‖Ĥ − H‖² = ‖Ĥ‖² − 2⟨Ĥ, H⟩ + ‖H‖²,
  ‖Ĥ‖² = s²d + 2s Σ_k w_k ‖u_k‖² + wᵀ(G∘G)w,    ⟨Ĥ, H⟩ = s tr H + Σ_k w_k u_kᵀHu_k.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Yardstick:
    """What the relative error needs to know of directions and of H; made by `of`.

    Attributes:
      gram: (u_j·u_k)², [n, n].
      norms, curvatures: ‖u_k‖² and u_kᵀHu_k, [n].
      trace, squared_norm: of H.
      dimension: d.
    """

    gram: jax.Array
    norms: jax.Array
    curvatures: jax.Array
    trace: jax.Array
    squared_norm: jax.Array
    dimension: int

    @classmethod
    def of(cls, rows: Any, exact: Any) -> "Yardstick":
        """The yardstick of these directions, [n, d], and of an operator."""
        gram = jnp.square(jnp.einsum("jd,kd->jk", rows, rows, precision="highest"))
        curvatures = jnp.sum(rows * jax.vmap(exact.mv)(rows), 1)
        norms = jnp.sqrt(jnp.diagonal(gram))
        return cls(gram, norms, curvatures, exact.trace(), exact.squared_norm(), rows.shape[1])

    def error(self, scale: jax.Array, weights: jax.Array, among: slice = slice(None)) -> jax.Array:
        """The error ‖Ĥ − H‖/‖H‖ of scale·I + Σ_k w_k u_k u_kᵀ over these directions."""
        own = self._square(scale, weights, among)
        mixed = scale * self.trace + weights @ self.curvatures[among]
        return self._relative(own - 2 * mixed + self.squared_norm)

    def error_of_identity(self, scale: jax.Array) -> jax.Array:
        """The error ‖scale·I − H‖/‖H‖."""
        own = scale**2 * self.dimension
        return self._relative(own - 2 * scale * self.trace + self.squared_norm)

    def size(self, scale: jax.Array, weights: jax.Array) -> jax.Array:
        """The norm of an estimate over H's, ‖Ĥ‖/‖H‖."""
        return self._relative(self._square(scale, weights, slice(None)))

    def _square(self, scale, weights, among):
        gram, norms = self.gram[among, among], self.norms[among]
        own = scale**2 * self.dimension
        return own + 2 * scale * (weights @ norms) + weights @ gram @ weights

    def _relative(self, squared: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.maximum(squared, 0) / self.squared_norm)
