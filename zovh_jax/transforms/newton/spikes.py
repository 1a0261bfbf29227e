"""A Hessian with a few dominant eigenvalues, learnt from products with it: O(rank·d) memory.

The model of the Hessian H is s·P with P = I + V diag(w) Vᵀ, where the columns of V are orthonormal
and w ≥ 0. An eigenvalue h of H above s, with its eigenvector in V, has w = h/s − 1. In the
coordinates P^{1/2}θ the model is s·I. Directions u = P^{-1/2}z are isotropic there, as z is.

A probe is a direction v with vᵀPv = d. Its residual r = P⁻¹(H − sP)v is the error of the model
along v. The model then changes by the matrix of rank one and of least trace that makes it right
along v (SR1; Nyström's approximation of one column): with q = P r = (H − sP)v, it becomes
s·P + q qᵀ/(vᵀq). If the model's error was positive semidefinite it stays so, and the rank of the
error falls by one: if H − sI has rank k, k probes find it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._factors import dense
from zovh_jax._products import matmul
from zovh_jax._program import FEW
from zovh_jax._rows import gram_of, mixed
from zovh_jax._tree import Layout, scalar_dtype, total
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions, Wrapper

KEPT = 0.9
"""The share of an eigenvalue's excess over s that outlives a probe: the Hessian may change."""
TINY = 1e-30
"""The least s."""


class Spikes(NamedTuple):
    """The model.

    Attributes:
      basis: V's columns, a tree like params with a leading axis [rank], None where frozen; zeros
        where nothing is known yet.
      eigenvalues: h, [rank].
      scale: s; zero before the first probe.
    """

    basis: Any
    eigenvalues: jax.Array
    scale: jax.Array

    @classmethod
    def init(cls, rank: int, layout: Layout) -> "Spikes":
        """The model before the first probe: P = I, s = 0."""
        dtype, basis = scalar_dtype(), layout.filled(rows=(rank,))
        return cls(layout.tree(basis), jnp.zeros(rank, dtype), jnp.zeros((), dtype))

    @property
    def weights(self) -> jax.Array:
        """w, [rank]."""
        scale = jnp.where(self.scale > 0, self.scale, 1)
        return jnp.where(self.scale > 0, jnp.maximum(self.eigenvalues / scale - 1, 0), 0)

    def power(self, exponent: float, rows: Leaves) -> Leaves:
        """P^exponent times each of the rows, [n, *leaf]."""
        basis = jax.tree.leaves(self.basis)
        inner = dots(rows, basis) * ((1 + self.weights) ** exponent - 1)[None]
        change = mix(inner, basis)
        return [x + c.astype(x.dtype) for x, c in zip(rows, change, strict=True)]

    def inner(self, x: Leaves, y: Leaves) -> jax.Array:
        """xᵀPy of two lists of arrays."""
        return dots(self.power(1.0, one_row(x)), one_row(y))[0, 0]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Whitened(Wrapper):
    """u = P^{-1/2} z: E[u uᵀ] = P⁻¹."""

    directions: Directions
    spikes: Spikes

    def draw(self, key, layout, num_directions, indices):
        drawn = dense(self.directions.draw(key, layout, num_directions, indices))
        return self.spikes.power(-0.5, drawn)


def learned(
    spikes: Spikes, v: Leaves, residual: Leaves, trace: jax.Array, dimension: int
) -> tuple[Spikes, jax.Array]:
    """The model after a probe, and the share of the trace that its new eigenvalue takes away.

    The new s is half of the mean curvature that is left, so that H − sP has a positive trace. The
    change starts from s'P, where s' is s, or half of the curvature along v if that is less; and
    negative curvature counts by its size. So no denominator vanishes. The trace bounds eigenvalues.

    Args:
      spikes: the model of which ``residual`` is the error.
      v: the probe, vᵀPv = d.
      residual: r = P⁻¹(H − sP)v.
      trace: tr(P^{-1/2} H P^{-1/2}), as estimated.
      dimension: d.
    """
    scale, trace = spikes.scale, jnp.abs(trace)
    curvature = spikes.inner(v, residual) / dimension + scale
    start = jnp.clip(curvature / 2, 0, scale)  # s'
    unit, size, top = _change(spikes, v, residual, scale - start, trace)
    rows = [
        jnp.concatenate([x, y]) for x, y in zip(jax.tree.leaves(spikes.basis), unit, strict=True)
    ]
    basis, excess = _eigenvectors(rows, jnp.append(KEPT * start * spikes.weights, size))
    left = jnp.maximum(trace - jnp.maximum(top - scale, 0), trace / 10)
    new = Spikes(
        jax.tree.unflatten(jax.tree.structure(spikes.basis), basis),
        jnp.where(excess > 0, start + excess, 0),
        jnp.maximum(left / (2 * dimension), TINY),
    )
    fine = (trace > 0) & (size > 0) & jnp.all(jnp.isfinite(excess)) & jnp.isfinite(new.scale)
    return (
        jax.tree.map(lambda x, y: jnp.where(fine, x, y), new, spikes),
        jnp.where(fine, top / jnp.where(fine, trace, 1), 0),
    )


def _change(
    spikes: Spikes, v: Leaves, residual: Leaves, lowered: jax.Array, trace: jax.Array
) -> tuple[Leaves, jax.Array, jax.Array]:
    """The change q qᵀ/(vᵀq) of the model, for s lower by ``lowered``.

    Returns:
      q/‖q‖ with a leading axis [1]; the eigenvalue that belongs to it; and the eigenvalue in the
      metric, which is at most the trace.
    """
    r = [x + lowered.astype(x.dtype) * y for x, y in zip(residual, v, strict=True)]
    q = spikes.power(1.0, one_row(r))
    slope, square = jnp.abs(dots(one_row(v), q)[0, 0]), dots(one_row(r), q)[0, 0]
    # In the metric q is P^{1/2}r, so that the eigenvalue is ‖P^{1/2}r‖²/(vᵀq) = rᵀq/(vᵀq).
    top = jnp.minimum(square / jnp.maximum(slope, TINY), trace)
    length = jnp.sqrt(dots(q, q)[0, 0])
    unit = [x / jnp.where(length > 0, length, 1).astype(x.dtype) for x in q]
    size = top * jnp.square(length) / jnp.where(square > 0, square, 1)
    return unit, jnp.where(square > 0, size, 0), top


def _eigenvectors(rows: Leaves, sizes: jax.Array) -> tuple[Leaves, jax.Array]:
    """The leading orthonormal eigenvectors of Σ_i sizes_i a_i a_iᵀ, all but the last, and values.

    With the Gram matrix G of the rows a_i: the eigenvectors of G^{1/2} diag(sizes) G^{1/2}, turned
    into combinations of G^{-1/2} a.
    """
    values, basis = jnp.linalg.eigh(dots(rows, rows))
    kept = values > 1e-6 * values[-1]
    root = jnp.sqrt(jnp.where(kept, values, 1))

    def of(numbers):
        """The matrix with G's eigenvectors and other eigenvalues."""
        return matmul(basis * jnp.where(kept, numbers, 0)[None], basis.T)

    half = of(root)
    excess, vectors = jnp.linalg.eigh(matmul(half * sizes[None], half))
    return mix(matmul(of(1 / root), vectors).T[:0:-1], rows), excess[:0:-1]


def dots(rows: Leaves, others: Leaves) -> jax.Array:
    """Inner products of rows [m, *leaf] and [n, *leaf] over the whole tree, [m, n]."""
    pairs, many = zip(rows, others, strict=True), len(rows) > FEW
    return total([gram_of(x, y.astype(x.dtype), briefly=many) for x, y in pairs])


def mix(matrix: jax.Array, rows: Leaves) -> Leaves:
    """The rows Σ_j matrix_ij rows_j."""
    return [mixed(matrix, x, briefly=len(rows) > FEW) for x in rows]


def one_row(leaves: Leaves) -> Leaves:
    """The leaves with a leading axis [1]."""
    return [x[None] for x in leaves]


__all__ = ["Spikes", "Whitened", "dots", "learned", "mix", "one_row"]
