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
from zovh_jax._products import einsum, tensordot
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype
from zovh_jax._types import Leaves

MEDIUM = 2**16
"""Leaves of up to so many numbers are worth a copy that makes them compile sooner."""


@functools.partial(jax.jit, static_argnames="briefly")
def row_sum(coefficients: jax.Array, rows: Any, briefly: bool = False) -> jax.Array:
    """Σ_b c_b rows[b], on the rows' own shape, so that it stays split over devices as they are.

    Args:
      coefficients: c, [b].
      rows: [b, *leaf].
      briefly: whether to compile soon rather than run fast; for many leaves. Few rows of a small
        leaf are added by one sum, which takes several times as long as adding them one by one; of
        more rows see `mixed`.
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
    return mixed(c[None], rows, briefly)[0]


@functools.partial(jax.jit, static_argnames="briefly")
def row_products(rows: Any, others: jax.Array, briefly: bool = False) -> jax.Array:
    """rows[b] · others[b] over all other axes, as scalars [b]; one row of others serves all.

    Args:
      rows, others: [b, *leaf], and as many or one.
      briefly: as in `mixed`.
    """
    if isinstance(rows, Factors):
        return rows.inner(others).astype(scalar_dtype())
    axes = tuple(range(1, rows.ndim))
    if others.shape[0] == 1 < rows.shape[0] and not is_split(rows):
        product = gram_of(rows, others, briefly)[:, 0]
    else:
        product = jnp.sum(rows * others, axes)
    return product.astype(scalar_dtype())


@jax.jit
def squared_norms(rows: Any) -> jax.Array:
    """‖rows[b]‖² over all other axes, as scalars [b]."""
    if isinstance(rows, Factors):
        return rows.squared_norms().astype(scalar_dtype())
    return row_products(rows, rows)


def gram_of(rows: Any, others: Any, briefly: bool = False) -> jax.Array:
    """Inner products of rows [m, *leaf] and [n, *leaf], as scalars [m, n].

    Args:
      rows, others: the rows, perhaps `Factors` both.
      briefly: as in `mixed`; without effect on `Factors` and on leaves that are split.
    """
    if isinstance(rows, Factors):
        return rows.gram(others).astype(scalar_dtype())
    if is_split(rows) or is_split(others):
        product = jax.lax.map(lambda row: jnp.sum(row * others, tuple(range(1, rows.ndim))), rows)
    else:
        small = math.prod(rows.shape[1:]) <= MEDIUM
        x, y = (_two(x) if briefly and small else x for x in (rows, others))
        product = einsum("j...,k...->jk", x, y)
    return product[: rows.shape[0], : others.shape[0]].astype(scalar_dtype())


def mixed(matrix: jax.Array, rows: jax.Array, briefly: bool = False) -> jax.Array:
    """The rows Σ_j matrix_ij rows_j, [i, *leaf].

    Args:
      matrix: [i, j].
      rows: [j, *leaf].
      briefly: whether to compile soon rather than run fast: a single row becomes two, unless the
        leaf is large.
    """
    matrix = matrix.astype(rows.dtype)
    left = _two(matrix) if briefly and math.prod(rows.shape[1:]) <= MEDIUM else matrix
    return tensordot(left, rows, 1)[: matrix.shape[0]]


def _two(rows: jax.Array) -> jax.Array:
    """The rows, and zeros after a single one.

    On a CPU XLA writes a program for each product of a matrix with a vector, and calls a library
    for all products of two matrices.
    """
    return jnp.concatenate([rows, jnp.zeros_like(rows)]) if len(rows) == 1 else rows


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
