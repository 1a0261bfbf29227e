"""Outliers: finite values that cannot be the objective's, as far as the last rounds tell.

A step changes f by some √d times what a query's perturbation does, at most. A value that is a
hundred times farther from the last f(θ) is dropped, as one that is not finite. Where half of a
round's values are so far away, they are dropped once: if the next round's are too, the objective
has changed, and they are believed.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import scalar_dtype
from zovh_jax.queries import Queries
from zovh_jax.transforms._state import saturating_add

BEYOND = 100
"""How far a value may be from the last f(θ), over √d times the usual."""


class Usual(NamedTuple):
    """What is known about the size of differences.

    Attributes:
      size: the largest distance of a round's values from its f(θ), and of that from the last one;
        of the last rounds, each of which counts half as much as the next. 0 before the first.
      lost: whether most of the last round's values were dropped.
      num_outliers: how many values were dropped so far; `zo.diagnostics` reports it.
    """

    size: jax.Array
    lost: jax.Array
    num_outliers: jax.Array

    @classmethod
    def init(cls) -> "Usual":
        """Before the first round."""
        return cls(jnp.zeros((), scalar_dtype()), jnp.zeros((), bool), jnp.zeros((), jnp.int32))

    def _known(self, level: jax.Array) -> jax.Array:
        """Whether there is something to compare with; ``level`` is the last f(θ)."""
        return (self.size > 0) & jnp.isfinite(level)

    def believes(self, values: jax.Array, level: jax.Array, dimension: int) -> jax.Array:
        """Whether values may be the objective's; ``level`` is the last f(θ)."""
        farthest = BEYOND * math.sqrt(dimension) * self.size
        return ~self._known(level) | (jnp.abs(values - level) <= farthest)

    def sift(self, queries: Queries, level: jax.Array, dimension: int) -> tuple[Queries, "Usual"]:
        """A round with NaN for its outliers, and what is known after it."""
        assert queries.origin is not None
        every = jnp.append(queries.values, queries.origin)
        finite = jnp.isfinite(every)
        odd = finite & ~self.believes(every, level, dimension)
        most = jnp.any(odd) & (2 * jnp.sum(odd) >= jnp.sum(finite))
        lost = most & ~self.lost
        dropped = odd & (lost | ~most)
        every = jnp.where(dropped, jnp.nan, every)
        values, origin = every[:-1].reshape(queries.values.shape), every[-1]
        last = jnp.where(self._known(level), level, origin)
        centre = jnp.where(jnp.isfinite(origin), origin, last)
        distances = jnp.abs(jnp.append(values, last) - centre)
        largest = jnp.max(jnp.where(jnp.isfinite(distances), distances, 0))
        size = jnp.maximum(largest.astype(self.size.dtype), self.size / 2)
        usual = Usual(size, lost, saturating_add(self.num_outliers, jnp.sum(dropped)))
        return dataclasses.replace(queries, values=values, origin=origin), usual


__all__ = ["Usual"]
