"""What all structures are, and the positive semidefinite operators that they make."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions import Directions
from zovh_jax.operators import Operator
from zovh_jax.queries import Queries


class Spectral(Operator):
    """An operator by its eigenvalues and eigenvectors, so that functions of it are at hand.

    A subclass is a dataclass with these fields, and those of its eigenvectors.

    Attributes:
      eigenvalues: [m].
      counts: how many times each of them counts, [m]; they add up to d.
      measured: which of them values have told, [m]; the others are assumed.
      layout: of the parameters; static.
    """

    eigenvalues: jax.Array
    counts: jax.Array
    measured: jax.Array
    layout: Layout

    def apply(self, vectors: Leaves) -> Leaves:
        """The products with some vectors, arrays [num, *shape]."""
        raise NotImplementedError  # pragma: no cover - abstract

    def mv(self, vector: PyTree) -> PyTree:
        leaves = self.layout.leaves(vector, "vector")
        return self._tree([x[0] for x in self.apply([v[None] for v in leaves])])

    def trace(self) -> jax.Array:
        return self.total(lambda values: values)

    def mapped(self, function: Callable[[jax.Array], jax.Array]) -> "Spectral":
        """A function of the operator: the same eigenvectors with other eigenvalues."""
        return dataclasses.replace(self, eigenvalues=function(self.eigenvalues))  # type: ignore

    def total(self, function: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """The sum of a function over all d eigenvalues, []."""
        return jnp.sum(self.counts * function(self.eigenvalues))


class Structure:
    """A shape of the Hessian: where to ask, and what to make of the curvatures found there.

    A structure of your own defines these three; `zo.laplace` masks, asks and does the rest.
    """

    def family(self) -> Directions:
        """The family to ask along; frozen leaves are not its concern."""
        raise NotImplementedError  # pragma: no cover - abstract

    def num_pairs(self, layout: Layout) -> int:
        """How many directions to ask along, forth and back."""
        raise NotImplementedError  # pragma: no cover - abstract

    def curvature(self, queries: Queries, params: PyTree) -> Spectral:
        """The Hessian of this shape; negative eigenvalues, which a minimum has not, are zero."""
        raise NotImplementedError  # pragma: no cover - abstract


def along(vectors: jax.Array, leaf: jax.Array) -> jax.Array:
    """A vector [n] as a column before an array [n, *shape]."""
    return vectors.reshape(-1, *(1,) * (leaf.ndim - 1)).astype(leaf.dtype)


__all__ = ["Spectral", "Structure", "along"]
