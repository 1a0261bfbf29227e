"""Groups of coordinates: how they are drawn, queried, read from the leaves and written to them."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._tree import Layout, direction_dtype, scalar_dtype
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.directions import Directions
from zovh_jax.evaluators import Evaluator
from zovh_jax.evaluators.query import query


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Sparse(Directions):
    """Directions with q non-zeros each: u_k = Σ_c weights[k, c] · e_{coordinates[k, c]}.

    A direction is dense only while its block is evaluated, so ``chunked(size)`` bounds the memory.
    It claims no moments, so that averaged Hessians refuse it.

    Args:
      coordinates: [K, q] flat indices.
      weights: [K, q].
    """

    coordinates: jax.Array
    weights: jax.Array

    def draw(self, key, layout, num_directions, indices):
        del key, num_directions
        coordinates, weights = self.coordinates[indices], self.weights[indices]
        leaves = []
        for start, shape, dtype in _layout(layout):
            wide = direction_dtype(dtype)
            row = (1,) * len(shape)
            position = jnp.arange(start, start + math.prod(shape), dtype=jnp.int32)
            position = position.reshape(1, *shape)
            u = jnp.zeros((indices.shape[0], *shape), wide)
            for c in range(coordinates.shape[1]):
                here = position == coordinates[:, c].reshape(-1, *row)
                w = weights[:, c].astype(wide).reshape(-1, *row)
                u = u + jnp.where(here, w, jnp.zeros_like(w))
            leaves.append(u)
        return leaves


def _layout(layout: Layout) -> list[tuple[int, tuple[int, ...], Any]]:
    """The first flat index, the shape and the dtype of each leaf."""
    sizes = [math.prod(shape) for shape in layout.shapes]
    starts = np.cumsum([0, *sizes])[:-1].tolist()
    return list(zip(starts, layout.shapes, layout.dtypes, strict=True))


def read(leaves: list[jax.Array], layout: Layout, coordinates: jax.Array) -> jax.Array:
    """The parameters at some coordinates, as scalars."""
    total = jnp.zeros(coordinates.shape, scalar_dtype())
    for leaf, (start, shape, _) in zip(leaves, _layout(layout), strict=True):
        size = math.prod(shape)
        if size:
            local = coordinates - start
            there = leaf.reshape(-1)[jnp.clip(local, 0, size - 1)].astype(total.dtype)
            total = jnp.where((local >= 0) & (local < size), there, total)
    return total


def write(values: jax.Array, layout: Layout, coordinates: jax.Array) -> Leaves:
    """Leaves that are zero but for ``values`` at ``coordinates``, in the dtype of directions."""
    values, coordinates = values.reshape(-1), coordinates.reshape(-1)
    leaves = []
    for start, shape, dtype in _layout(layout):
        size, wide = math.prod(shape), direction_dtype(dtype)
        local = coordinates - start
        # Negative indices would count from the end: whatever lies elsewhere is put past the end.
        local = jnp.where((local >= 0) & (local < size), local, size)
        flat = jnp.zeros(size, wide).at[local].set(values.astype(wide), mode="drop")
        leaves.append(flat.reshape(shape))
    return leaves


def random_groups(key: jax.Array, size: int, num_groups: int, dimension: int) -> jax.Array:
    """[num_groups, dimension] distinct coordinates of ``size``, every such array equally likely.

    By Floyd's algorithm, whose memory does not grow with ``size`` as a permutation's would; its
    time, O((num_groups·dimension)²), is below that of the queries.
    """
    count = num_groups * dimension
    sample_key, order_key = jax.random.split(key)
    last = jnp.arange(size - count, size, dtype=jnp.int32)
    picks = jax.random.randint(sample_key, (count,), 0, last + 1, jnp.int32)

    def add(i, chosen):
        taken = jnp.any(chosen == picks[i])
        return chosen.at[i].set(jnp.where(taken, last[i], picks[i]))

    chosen = jax.lax.fori_loop(0, count, add, jnp.full((count,), -1, jnp.int32))
    return jax.random.permutation(order_key, chosen).reshape(num_groups, dimension)


def forward_points(dimension: int) -> np.ndarray:
    """[q, q]: the unit vectors."""
    return np.eye(dimension)


def curvature_points(dimension: int) -> np.ndarray:
    """[q(q+1)/2, q]: what a quadratic needs beyond the unit vectors: −e_i, and e_i + e_j."""
    unit = np.eye(dimension)
    i, j = np.triu_indices(dimension, 1)
    return np.concatenate([-unit, unit[i] + unit[j]])


def points_around(groups: jax.Array, points: np.ndarray) -> Sparse:
    """The directions of all points of all groups, group by group."""
    num_groups, dimension = groups.shape
    weights = jnp.asarray(points, scalar_dtype())
    return Sparse(
        jnp.repeat(groups, len(points), axis=0),
        jnp.broadcast_to(weights, (num_groups, *weights.shape)).reshape(-1, dimension),
    )


def slopes_of(
    values: jax.Array, origin: jax.Array, radius: jax.Array, num_groups: int
) -> jax.Array:
    """(F − f(θ))/μ as [num_groups, p]; NaN for a radius that is not above zero."""
    slopes = (values.reshape(num_groups, -1) - origin) / radius
    return jnp.where(radius > 0, slopes, jnp.nan)


Ask = Callable[[slice], tuple[jax.Array, jax.Array, jax.Array]]
"""Of a slice of the groups: slopes [J, p] at curvature points, queries spent, and how many of their
values are not finite."""


def asking_curvature(
    value_fn: ValueFn,
    params: PyTree,
    key: jax.Array,
    groups: jax.Array,
    *,
    origin: jax.Array,
    radius: jax.Array,
    evaluate: Evaluator,
) -> Ask:
    """A function that queries curvature points of groups around params, whose value is known."""
    points = curvature_points(groups.shape[1])

    def ask(which: slice) -> tuple[jax.Array, jax.Array, jax.Array]:
        some = groups[which]
        queries = query(
            value_fn,
            params,
            key,  # not drawn from: the directions are given
            num_directions=len(some) * len(points),
            radius=radius,
            directions=points_around(some, points),
            evaluate=evaluate,
        )
        slopes = slopes_of(queries.values, origin, radius, len(some))
        return slopes, jnp.asarray(queries.values.size, jnp.int32), queries.num_nonfinite

    return ask
