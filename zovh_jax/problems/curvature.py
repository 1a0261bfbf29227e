"""Exact Hessians of the test functions as operators: O(d) memory, closed forms, no d×d array."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.fft import dct, idct

from zovh_jax._products import einsum, matmul
from zovh_jax._tree import Layout, layout_of
from zovh_jax.operators import Operator


class Curvature(Operator):
    """A symmetric operator on vectors [d] with closed forms for its trace and norm."""

    @property
    def layout(self) -> Layout:  # type: ignore[override]
        """The layout of a vector [d]."""
        return layout_of(jax.eval_shape(self.diagonal))

    def trace(self) -> jax.Array:
        """The trace, a scalar."""
        return jnp.sum(self.diagonal())

    def squared_norm(self) -> jax.Array:
        """The squared Frobenius norm, a scalar."""
        raise NotImplementedError  # pragma: no cover - abstract


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BandedPlusLowRank(Curvature):
    """tridiagonal(side, main, side) + Σ_r weights_r v_r v_rᵀ.

    Attributes:
      main: [d].
      side: [d − 1]; None for a diagonal band.
      vectors, weights: v_1 … v_R, [R, d], and their weights, [R]; None for no such terms.
    """

    main: jax.Array
    side: Any = None
    vectors: Any = None
    weights: Any = None

    def mv(self, vector):
        product = self._band(vector)
        if self.vectors is not None:
            along = self.weights * matmul(self.vectors, vector)
            product = product + matmul(along, self.vectors)
        return product

    def diagonal(self):
        if self.vectors is None:
            return self.main
        return self.main + matmul(self.weights, jnp.square(self.vectors))

    def squared_norm(self):
        total = jnp.sum(jnp.square(self.main))
        if self.side is not None:
            total = total + 2 * jnp.sum(jnp.square(self.side))
        if self.vectors is not None:
            images = jax.vmap(self._band)(self.vectors)
            total = total + 2 * jnp.sum(self.weights * einsum("rd,rd->r", self.vectors, images))
            gram = matmul(self.vectors, self.vectors.T)
            total = total + einsum("r,rs,s->", self.weights, jnp.square(gram), self.weights)
        return total

    def _band(self, vector):
        product = self.main * vector
        if self.side is not None:
            product = product.at[:-1].add(self.side * vector[1:])
            product = product.at[1:].add(self.side * vector[:-1])
        return product


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Rotated(Curvature):
    """Rᵀ diag(eigenvalues) R with the orthogonal R = DCT · diag(signs); a product is O(d log d).

    Attributes:
      eigenvalues, signs: [d].
    """

    eigenvalues: jax.Array
    signs: jax.Array

    def mv(self, vector):
        return self.rotate_back(self.eigenvalues * self.rotate(vector))

    def rotate(self, vector: jax.Array) -> jax.Array:
        """R v."""
        return dct(self.signs * vector, norm="ortho")

    def rotate_back(self, vector: jax.Array) -> jax.Array:
        """Rᵀ v."""
        return self.signs * idct(vector, norm="ortho")

    def diagonal(self):
        # Σ_k λ_k R_ki² is one Fourier transform: R_ki² = (1 + cos(π(2i+1)k/d))/d, 1/d for k = 0.
        d = self.eigenvalues.size
        k = jnp.arange(d, dtype=self.eigenvalues.dtype)
        twisted = self.eigenvalues.at[0].set(0) * jnp.exp(1j * jnp.pi * k / d)
        return jnp.mean(self.eigenvalues) + jnp.real(jnp.fft.ifft(twisted))

    def trace(self):
        return jnp.sum(self.eigenvalues)

    def squared_norm(self):
        return jnp.sum(jnp.square(self.eigenvalues))


__all__ = ["BandedPlusLowRank", "Curvature", "Rotated"]
