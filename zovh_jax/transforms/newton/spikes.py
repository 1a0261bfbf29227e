"""A Hessian with a few dominating eigenvalues, learned from products with it: O(rank·d) memory.

The model is s·P with P = I + V diag(w) Vᵀ, the columns of V orthonormal, w ≥ 0. In the coordinates
P^{1/2}θ it is s·I; directions u = P^{-1/2} z are isotropic there, as z is. Where H has eigenvalues
h above s along V, w = h/s − 1.

A probe is a direction v with vᵀPv = d and the residual r = P⁻¹(H − sP)v of the model along it. What
is learned from it is the rank-one change of least trace that explains it (SR1; Nyström's
approximation of one column): with q = P r = (H − sP)v, B + q qᵀ/(vᵀq). Its error stays positive
semidefinite if it was, and has a rank less: if H − sI has rank k, k probes find it.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._rows import gram_of
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions, Wrapper
from zovh_jax.queries import Queries

KEPT = 0.9
"""What is left of an eigenvalue's excess over s after a probe: the Hessian may have changed."""
TINY = 1e-30
"""The least s."""


class Spikes(NamedTuple):
    """The model.

    Attributes:
      basis: V, a tree like params with a leading axis [rank], None where frozen; zeros where
        nothing is known yet.
      eigenvalues: h, [rank].
      scale: s; zero before the first probe.
    """

    basis: Any
    eigenvalues: jax.Array
    scale: jax.Array

    @classmethod
    def init(cls, rank: int, layout: Layout) -> "Spikes":
        """Of nothing yet: P = I, s = 0."""
        dtype, basis = scalar_dtype(), layout.filled(rows=(rank,))
        return cls(layout.tree(basis), jnp.zeros(rank, dtype), jnp.zeros((), dtype))

    @property
    def weights(self) -> jax.Array:
        """w, [rank]."""
        scale = jnp.where(self.scale > 0, self.scale, 1)
        return jnp.where(self.scale > 0, jnp.maximum(self.eigenvalues / scale - 1, 0), 0)

    def power(self, exponent: float, rows: Leaves) -> Leaves:
        """P^exponent of each of the rows, [n, *leaf]."""
        basis = jax.tree.leaves(self.basis)
        inner = _dots(rows, basis) * ((1 + self.weights) ** exponent - 1)[None]
        change = _mix(inner, basis)
        return [x + c.astype(x.dtype) for x, c in zip(rows, change, strict=True)]

    def inner(self, x: Leaves, y: Leaves) -> jax.Array:
        """xᵀPy of two trees."""
        return _dots(self.power(1.0, one_row(x)), one_row(y))[0, 0]


class Probe(NamedTuple):
    """A product of the Hessian in the making.

    Attributes:
      direction: v, a tree like params, vᵀPv = d.
      residual: what is known of P⁻¹(H − sP)v, a tree like params.
      active: whether this epoch's rounds measure it.
      gain: the share of the trace that the last probe took away.
      ended: queries spent when it ended.
    """

    direction: Any
    residual: Any
    active: jax.Array
    gain: jax.Array
    ended: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Whitened(Wrapper):
    """u = P^{-1/2} z: E[u uᵀ] = P⁻¹."""

    directions: Directions
    spikes: Spikes

    def draw(self, key, layout, num_directions, indices):
        drawn = self.directions.draw(key, layout, num_directions, indices)
        return self.spikes.power(-0.5, drawn)


def learned(
    spikes: Spikes, v: Leaves, residual: Leaves, trace: jax.Array, dimension: int
) -> tuple[Spikes, jax.Array]:
    """The model after a probe, and the share of the trace that its new eigenvalue takes away.

    Half of the mean curvature becomes the new s, so that H − sP has a positive trace. Where the
    curvature along v is not above s either, the change is from s' P instead, s' half of it, and
    negative curvature counts by its size: no denominator vanishes. The trace bounds eigenvalues.

    Args:
      spikes: the model of which ``residual`` is one.
      v: the probe, vᵀPv = d.
      residual: P⁻¹(H − sP)v.
      trace: tr(P^{-1/2} H P^{-1/2}), as estimated.
      dimension: d.
    """
    s, trace = spikes.scale, jnp.abs(trace)
    curvature = spikes.inner(v, residual) / dimension + s
    shift = jnp.clip(curvature / 2, 0, s)
    r = [x + (s - shift).astype(x.dtype) * y for x, y in zip(residual, v, strict=True)]
    q = spikes.power(1.0, one_row(r))
    slope, square = jnp.abs(_dots(one_row(v), q)[0, 0]), _dots(one_row(r), q)[0, 0]
    # In the metric the change has one eigenvalue, ‖P^{1/2}r‖²/(vᵀq).
    top = jnp.minimum(square / jnp.maximum(slope, TINY), trace)
    length = jnp.sqrt(_dots(q, q)[0, 0])
    unit = [x / jnp.where(length > 0, length, 1).astype(x.dtype) for x in q]
    rows = [
        jnp.concatenate([x, y]) for x, y in zip(jax.tree.leaves(spikes.basis), unit, strict=True)
    ]
    sizes = jnp.append(
        KEPT * shift * spikes.weights, top * jnp.square(length) / jnp.where(square > 0, square, 1)
    )
    basis, excess = _eigenvectors(rows, sizes)
    left = jnp.maximum(trace - jnp.maximum(top - s, 0), trace / 10)
    new = Spikes(
        jax.tree.unflatten(jax.tree.structure(spikes.basis), basis),
        jnp.where(excess > 0, shift + excess, 0),
        jnp.maximum(left / (2 * dimension), TINY),
    )
    fine = (trace > 0) & (square > 0) & jnp.all(jnp.isfinite(excess)) & jnp.isfinite(new.scale)
    return (
        jax.tree.map(lambda x, y: jnp.where(fine, x, y), new, spikes),
        jnp.where(fine, top / jnp.where(fine, trace, 1), 0),
    )


def mixed_slopes(here: Queries, there: Queries, far: jax.Array) -> jax.Array:
    """u_kᵀHv from the slopes around θ and around θ + far·v, [K]."""
    assert here.origins is not None and there.origins is not None
    if here.stencil.paired:
        change = there.odd - here.odd
    else:
        change = (there.odd - there.origins) - (here.odd - here.origins)
    return change / (here.radii * far)


def _eigenvectors(rows: Leaves, sizes: jax.Array) -> tuple[Leaves, jax.Array]:
    """The leading orthonormal eigenvectors of Σ_i sizes_i a_i a_iᵀ, all but the last, and values.

    With the Gram matrix G of the rows a: those of G^{1/2} diag(sizes) G^{1/2}, times G^{-1/2} a.
    """
    values, basis = jnp.linalg.eigh(_dots(rows, rows))
    kept = values > 1e-6 * values[-1]
    root = jnp.sqrt(jnp.where(kept, values, 1))

    def of(numbers):
        return _product(basis * jnp.where(kept, numbers, 0)[None], basis.T)

    half = of(root)
    excess, vectors = jnp.linalg.eigh(_product(half * sizes[None], half))
    return _mix(_product(of(1 / root), vectors).T[:0:-1], rows), excess[:0:-1]


def _dots(rows: Leaves, others: Leaves) -> jax.Array:
    """Inner products of rows [m, *leaf] and [n, *leaf] over the whole tree, [m, n]."""
    return sum(
        (gram_of(x, y.astype(x.dtype)) for x, y in zip(rows, others, strict=True)),
        jnp.zeros((), scalar_dtype()),
    )


def _mix(matrix: jax.Array, rows: Leaves) -> Leaves:
    """Rows Σ_j matrix_ij rows_j."""
    return [jnp.tensordot(matrix.astype(x.dtype), x, 1, precision="highest") for x in rows]


def one_row(leaves: Leaves) -> Leaves:
    """With a leading axis [1]."""
    return [x[None] for x in leaves]


def _product(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.einsum("ij,jk->ik", x, y, precision="highest")


__all__ = ["Probe", "Spikes", "Whitened", "learned", "mixed_slopes", "one_row"]
