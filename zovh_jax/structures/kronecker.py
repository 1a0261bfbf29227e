"""A Kronecker product for each layer, fitted to curvatures along matrices of rank one.

Along u = a bᵀ, in one layer alone, a Hessian A ⊗ B has the curvature uᵀHu = (aᵀA a)(bᵀB b), linear
in A and in B. Queries along such directions do not form the perturbed matrix (`zo.directions`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._factors import Factors
from zovh_jax._products import einsum
from zovh_jax._tree import Layout
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions, Wrapper, low_rank
from zovh_jax.estimators.least_change import mean_curvature
from zovh_jax.estimators.weights import curvatures
from zovh_jax.structures.structure import Spectral, Structure, along

SWEEPS = 20
"""Steps of A and of B, each."""
HELD_OUT = 5
"""One direction of so many is not fitted, but says after which sweep to stop."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Products(Spectral):
    """A ⊗ B of each leaf, by the eigenvectors of both.

    Attributes:
      left, right: for each leaf an orthogonal matrix whose columns are eigenvectors of A and of B.
    """

    eigenvalues: jax.Array
    counts: jax.Array
    measured: jax.Array
    left: Leaves
    right: Leaves
    layout: Layout = dataclasses.field(metadata={"static": True})

    def apply(self, vectors):
        products = []
        for z, a, b, values in zip(vectors, self.left, self.right, self._matrices(), strict=True):
            matrices = z.reshape(-1, *values.shape)
            inside = einsum("nij,ik,jl->nkl", matrices, a, b) * values
            products.append(einsum("nkl,ik,jl->nij", inside, a, b).reshape(z.shape))
        return products

    def diagonal(self):
        parts = zip(self.left, self.right, self._matrices(), self.layout.shapes, strict=True)
        return self._tree(
            [einsum("kl,ik,jl->ij", v, a**2, b**2).reshape(shape) for a, b, v, shape in parts]
        )

    def _matrices(self) -> Leaves:
        """The eigenvalues of each leaf, [inputs, outputs]."""
        sizes = [(len(a), len(b)) for a, b in zip(self.left, self.right, strict=True)]
        ends = np.cumsum([m * n for m, n in sizes])
        parts = jnp.split(self.eigenvalues, ends[:-1])
        return [part.reshape(size) for part, size in zip(parts, sizes, strict=True)]


@dataclasses.dataclass(frozen=True, init=False)
class LeafByLeaf(Wrapper):
    """A family whose direction k is left as it is on leaf k mod L of L, and zero on the others."""

    directions: Directions

    def __init__(self, directions: Directions):
        object.__setattr__(self, "directions", directions)

    def draw(self, key, layout, num_directions, indices):
        drawn = self.directions.draw(key, layout, num_directions, indices)
        own = indices % layout.num_leaves
        return [_kept(u, own == leaf) for leaf, u in enumerate(drawn)]


@dataclasses.dataclass(frozen=True)
class Kronecker(Structure):
    """A ⊗ B of each layer, A of its inputs and B of its outputs; nothing between layers.

    Layers take turns: K/L directions each, of rank one. Axes of a parameter are inputs or outputs
    as `zo.directions.low_rank` has them; a vector has an A alone, which is all of its Hessian. The
    fit is a descent in A and B from multiples of the identity, and stops where directions that it
    does not see are explained best. Memory: m² and n² numbers for a layer of m inputs and n
    outputs, m + n for each direction.

    Args:
      num_directions: K.
    """

    num_directions: int

    def __post_init__(self):
        _checks.positive_int("num_directions", self.num_directions)

    def family(self):
        return LeafByLeaf(low_rank())

    def num_pairs(self, layout):
        if self.num_directions < layout.num_leaves:
            raise ValueError(
                f"num_directions={self.num_directions} must be at least the number of parameter "
                f"arrays, {layout.num_leaves}: they take turns."
            )
        return self.num_directions

    def curvature(self, queries, params):
        layout = queries.plan.layout(params)
        values, valid = curvatures(queries)
        parts = []
        for leaf, rows in enumerate(queries.plan.rows(layout)):
            turns = slice(leaf, None, layout.num_leaves)
            a, b = _sides(rows[turns])
            parts.append((*product(a, b, values[turns], valid[turns]), jnp.any(valid[turns])))
        eigenvalues, left, right, known = zip(*parts, strict=True)
        sizes = np.asarray([x.size for x in eigenvalues])
        eigenvalues = jnp.concatenate([x.ravel() for x in eigenvalues])
        measured = jnp.repeat(jnp.stack(known), sizes, total_repeat_length=layout.size)
        return Products(
            eigenvalues, jnp.ones_like(eigenvalues), measured, list(left), list(right), layout
        )


def product(
    a: jax.Array, b: jax.Array, values: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """A ⊗ B with (aᵀA a)(bᵀB b) near some values, by its eigenvalues and eigenvectors.

    Args:
      a, b: [n, inputs] and [n, outputs].
      values: [n].
      valid: which of them count.

    Returns:
      Eigenvalues [inputs, outputs], none below zero, and the eigenvectors of A and of B.
    """
    # Along directions of length 1 all curvatures have the same weight.
    lengths = [jnp.sqrt(jnp.sum(x**2, 1)) for x in (a, b)]
    a, b = (x / jnp.where(n > 0, n, 1)[:, None] for x, n in zip((a, b), lengths, strict=True))
    norms = jnp.square(lengths[0] * lengths[1])
    mean = mean_curvature(values, norms, valid)
    values = values / jnp.where(norms > 0, norms, 1)
    held = jnp.arange(len(values)) % HELD_OUT == HELD_OUT - 1
    fitted, held = valid & ~held, valid & held

    def sweep(carry: Any, _: None) -> tuple[Any, None]:
        first, second, best = carry
        second = _step(second, b, _forms(a, first), values, fitted)
        first = _step(first, a, _forms(b, second), values, fitted)
        gap = jnp.where(held, values - _forms(a, first) * _forms(b, second), 0)
        error = jnp.sum(gap**2)
        better = (error < best[0]) | ~jnp.any(held)
        best = jax.tree.map(
            lambda new, old: jnp.where(better, new, old), (error, first, second), best
        )
        return (first, second, best), None

    first, second = mean * jnp.eye(a.shape[1]), jnp.eye(b.shape[1])
    error = jnp.sum(jnp.where(held, values - mean, 0) ** 2)
    start: Any = first, second, (error, first, second)
    (*_, (_, first, second)), _ = jax.lax.scan(sweep, start, None, length=SWEEPS)
    (p, left), (q, right) = jnp.linalg.eigh(first), jnp.linalg.eigh(second)
    return jnp.maximum(jnp.outer(p, q), 0), left, right


def _step(matrix, rows, factors, values, fitted):
    """The matrix, moved along the gradient of Σ (values − factors · rowᵀ M row)² to its least."""
    gap = jnp.where(fitted, values - factors * _forms(rows, matrix), 0)
    gradient = einsum("k,ki,kj->ij", gap * factors, rows, rows)
    along_it = jnp.where(fitted, factors * _forms(rows, gradient), 0)
    steepness = jnp.sum(along_it**2)
    return matrix + jnp.sum(gap * along_it) / jnp.where(steepness > 0, steepness, 1) * gradient


def _forms(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """uᵀMu of each row, [n]."""
    return jnp.sum(einsum("ki,ij->kj", rows, matrix) * rows, 1)


def _sides(rows) -> tuple[jax.Array, jax.Array]:
    """a and b of directions of rank one, as rows; a vector's b is 1."""
    if isinstance(rows, Factors):
        return rows.left.reshape(len(rows.left), -1), rows.right.reshape(len(rows.right), -1)
    return rows.reshape(len(rows), -1), jnp.ones((len(rows), 1), rows.dtype)


def _kept(rows, on: jax.Array):
    """The rows, zero where not ``on``."""
    if isinstance(rows, Factors):
        return Factors(rows.left * along(on, rows.left), rows.right)
    return rows * along(on, rows)


__all__ = ["Kronecker", "LeafByLeaf", "Products", "product"]
