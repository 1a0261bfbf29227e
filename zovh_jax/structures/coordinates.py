"""The Hessian's own entries, from curvatures along coordinates and their sums."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._rows import unraveled
from zovh_jax._tree import Layout
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions
from zovh_jax.estimators.least_change import mean_curvature
from zovh_jax.estimators.weights import curvatures
from zovh_jax.structures.interpolated import Modes
from zovh_jax.structures.structure import Spectral, Structure


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Axes(Spectral):
    """A diagonal operator: its eigenvalues are the entries, in the order of the leaves."""

    eigenvalues: jax.Array
    counts: jax.Array
    measured: jax.Array
    layout: Layout = dataclasses.field(metadata={"static": True})

    def apply(self, vectors):
        return [z * h.astype(z.dtype) for z, h in zip(vectors, self._leaves(), strict=True)]

    def diagonal(self):
        return self._tree(self._leaves())

    def _leaves(self) -> Leaves:
        return unraveled(self.eigenvalues, self.layout)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Coordinates(Directions):
    """Coordinates in random order, without replacement: at most d."""

    sees_diagonal = True
    largest = 1.0

    def draw(self, key, layout, num_directions, indices):
        return unraveled(1.0 * jax.nn.one_hot(order(key, layout)[indices], layout.size), layout)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Entries(Directions):
    """The d coordinates, and then the sums of two: the d(d + 1)/2 entries of a Hessian."""

    sees_diagonal = True
    largest = 1.0

    def draw(self, key, layout, num_directions, indices):
        first, second = (jnp.asarray(x)[indices] for x in entries(layout.size))
        columns = jnp.arange(layout.size)
        hit = (first[:, None] == columns) | (second[:, None] == columns)
        return unraveled(hit.astype(jnp.float32), layout)


def order(key: jax.Array, layout: Layout) -> jax.Array:
    """The order of `Coordinates`, [d]."""
    return jax.random.permutation(key, layout.size)


def entries(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of `Entries`: the diagonal first."""
    each = np.arange(size)
    above = np.triu_indices(size, 1)
    return np.append(each, above[0]), np.append(each, above[1])


@dataclasses.dataclass(frozen=True)
class Diagonal(Structure):
    """The Hessian's diagonal, exact to rounding and fourth derivatives from d pairs on.

    With fewer pairs, entries that were not asked for, drawn at random, are the mean of the others.
    That is the least change of `zo.estimators.hessian_diagonal` along coordinates, where other
    entries of the Hessian do not disturb it.

    Args:
      num_directions: K ≤ d; None for d.
    """

    num_directions: int | None = None

    def __post_init__(self):
        if self.num_directions is not None:
            _checks.positive_int("num_directions", self.num_directions)

    def family(self):
        return Coordinates()

    def num_pairs(self, layout):
        if self.num_directions is not None and self.num_directions > layout.size:
            raise ValueError(
                f"num_directions={self.num_directions} are more than the {layout.size} entries of "
                "the diagonal: leave it out for all of them."
            )
        return self.num_directions or layout.size

    def curvature(self, queries, params):
        layout = queries.plan.layout(params)
        values, valid = curvatures(queries)
        mean = mean_curvature(values, jnp.ones_like(values), valid)
        places = order(queries.plan.key, layout)[: len(values)]
        h = jnp.full(layout.size, mean).at[places].set(jnp.where(valid, values, mean))
        measured = jnp.zeros(layout.size, bool).at[places].set(valid)
        return Axes(jnp.maximum(h, 0), jnp.ones_like(h), measured, layout)


@dataclasses.dataclass(frozen=True)
class Full(Structure):
    """All entries of the Hessian, from its d(d + 1)/2 curvatures along e_i and e_i + e_j.

    H_ij = (s_ij − s_i − s_j)/2. Where a curvature is missing, the entry is 0, or the mean of the
    others on the diagonal. Memory: d² numbers and the points of an evaluator's block, which are all
    d²/2 with ``vmapped()`` and few with ``chunked(size)``. Time: d³.
    """

    def family(self):
        return Entries()

    def num_pairs(self, layout):
        return layout.size * (layout.size + 1) // 2

    def curvature(self, queries, params):
        layout = queries.plan.layout(params)
        d = layout.size
        values, valid = curvatures(queries)
        mean = mean_curvature(values[:d], jnp.ones_like(values[:d]), valid[:d])
        diagonal = jnp.where(valid[:d], values[:d], mean)
        first, second = (x[d:] for x in entries(d))
        above = (values[d:] - diagonal[first] - diagonal[second]) / 2
        upper = (
            jnp.zeros((d, d), values.dtype).at[first, second].set(jnp.where(valid[d:], above, 0))
        )
        eigenvalues, basis = jnp.linalg.eigh(upper + upper.T + jnp.diag(diagonal))
        return Modes(
            jnp.append(jnp.maximum(eigenvalues, 0), 0),
            jnp.append(jnp.ones_like(eigenvalues), 0),
            jnp.append(jnp.full(d, jnp.any(valid)), False),
            unraveled(basis.T, layout),
            layout,
        )


__all__ = ["Axes", "Diagonal", "Full"]
