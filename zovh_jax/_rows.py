"""Sums and inner products of rows [b, *leaf], on the leaf's own shape; rows may be `Factors`.

Nothing is reshaped: a reshape would gather a leaf that is split over devices. On an Explicit mesh
products are written as sums, since a contraction over a split axis wants to be told its layout.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._factors import FEW_ROWS, SMALL, Factors
from zovh_jax._mesh import is_split
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype
from zovh_jax._types import Leaves


@functools.partial(jax.jit, static_argnames="briefly")
def row_sum(coefficients: jax.Array, rows: Any, briefly: bool = False) -> jax.Array:
    """Σ_b c_b rows[b], on the rows' own shape, so that it stays split over devices as they are.

    Args:
      coefficients: c, [b].
      rows: [b, *leaf].
      briefly: whether few rows of a small leaf are added by one sum, which compiles sooner; adding
        them one by one runs several times as fast.
    """
    if isinstance(rows, Factors):
        return rows.row_sum(coefficients, briefly)
    c = coefficients.astype(rows.dtype)
    if len(c) <= FEW_ROWS and briefly and math.prod(rows.shape[1:]) <= SMALL:
        return jnp.sum(c.reshape(-1, *(1,) * (rows.ndim - 1)) * rows, 0)
    if len(c) <= FEW_ROWS:
        terms = [jax.lax.index_in_dim(rows, i, keepdims=False) * c[i] for i in range(len(c))]
        return functools.reduce(jnp.add, terms)
    # A matrix product is several times faster than a reduction over the rows.
    return jnp.tensordot(c, rows, 1, precision="highest")


@jax.jit
def row_products(rows: Any, others: jax.Array) -> jax.Array:
    """rows[b] · others[b] over all other axes, as scalars [b]; one row of others serves all."""
    if isinstance(rows, Factors):
        return rows.inner(others).astype(scalar_dtype())
    axes = tuple(range(1, rows.ndim))
    if others.shape[0] == 1 < rows.shape[0] and not is_split(rows):
        product = jnp.tensordot(rows, others[0], rows.ndim - 1, precision="highest")
    else:
        product = jnp.sum(rows * others, axes)
    return product.astype(scalar_dtype())


@jax.jit
def squared_norms(rows: Any) -> jax.Array:
    """‖rows[b]‖² over all other axes, as scalars [b]."""
    if isinstance(rows, Factors):
        return rows.squared_norms().astype(scalar_dtype())
    return row_products(rows, rows)


def gram_of(rows: Any, others: Any) -> jax.Array:
    """Inner products of rows [m, *leaf] and [n, *leaf], as scalars [m, n]."""
    if isinstance(rows, Factors):
        return rows.gram(others).astype(scalar_dtype())
    if is_split(rows) or is_split(others):
        product = jax.lax.map(lambda row: jnp.sum(row * others, tuple(range(1, rows.ndim))), rows)
    else:
        product = jnp.einsum("j...,k...->jk", rows, others, precision="highest")
    return product.astype(scalar_dtype())


def raveled(leaves: Leaves, num_rows: int) -> jax.Array:
    """Rows of leaves as a matrix [num_rows, d], in ``ravel_pytree`` order; for few parameters."""
    rows = [x.reshape(num_rows, math.prod(x.shape[1:])) for x in leaves]
    return jnp.concatenate([x.astype(scalar_dtype()) for x in rows], 1)


def unraveled(vectors: jax.Array, layout: Layout) -> Leaves:
    """Vectors [..., d] as arrays [..., *shape], in the dtypes of directions."""
    ends = np.cumsum([math.prod(shape) for shape in layout.shapes])
    parts = jnp.split(vectors, ends[:-1], axis=-1)
    return [
        part.reshape(*vectors.shape[:-1], *shape).astype(direction_dtype(dtype))
        for part, shape, dtype in zip(parts, layout.shapes, layout.dtypes, strict=True)
    ]
