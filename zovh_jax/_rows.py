"""Sums and inner products of rows [b, *leaf], on the leaf's own shape.

Nothing is reshaped: a reshape would gather a leaf that is split over devices. On an Explicit mesh
products are written as sums, since a contraction over a split axis wants to be told its layout.
"""

import functools

import jax
import jax.numpy as jnp

from zovh_jax._mesh import is_split
from zovh_jax._tree import scalar_dtype

FEW_ROWS = 8
"""Up to so many rows are summed by an elementwise loop, which XLA compiles once for many leaves."""


@jax.jit
def row_sum(coefficients: jax.Array, rows: jax.Array) -> jax.Array:
    """Σ_b c_b rows[b], on the rows' own shape, so that it stays split over devices as they are."""
    c = coefficients.astype(rows.dtype)
    if len(c) <= FEW_ROWS:
        terms = [jax.lax.index_in_dim(rows, i, keepdims=False) * c[i] for i in range(len(c))]
        return functools.reduce(jnp.add, terms)
    # A matrix product is several times faster than a reduction over the rows.
    return jnp.tensordot(c, rows, 1, precision="highest")


@jax.jit
def row_products(rows: jax.Array, others: jax.Array) -> jax.Array:
    """rows[b] · others[b] over all other axes, as scalars [b]; one row of others serves all."""
    axes = tuple(range(1, rows.ndim))
    if others.shape[0] == 1 < rows.shape[0] and not is_split(rows):
        product = jnp.tensordot(rows, others[0], rows.ndim - 1, precision="highest")
    else:
        product = jnp.sum(rows * others, axes)
    return product.astype(scalar_dtype())


def gram_of(rows: jax.Array, others: jax.Array) -> jax.Array:
    """Inner products of rows [m, *leaf] and [n, *leaf], as scalars [m, n]."""
    if is_split(rows) or is_split(others):
        product = jax.lax.map(lambda row: jnp.sum(row * others, tuple(range(1, rows.ndim))), rows)
    else:
        product = jnp.einsum("j...,k...->jk", rows, others, precision="highest")
    return product.astype(scalar_dtype())
