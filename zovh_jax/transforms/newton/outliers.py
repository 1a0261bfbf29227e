"""Outliers: finite values that cannot be the objective's, as far as the last rounds tell.

A step changes f by some √d times what a query's perturbation does, at most. A value that is a
hundred times farther from the last f(θ) is dropped, as one that is not finite. Where half of a
round's values are so far away, they are dropped once: if the next round's are too, the objective
has changed, and they are believed.

Such a round, and one that has no other before it, is its own measure: a value is dropped that is a
hundred times √d times as far from f(θ) as most are, of those that are above rounding: f may not
depend on much of what is perturbed. An f(θ) that is wrong in the very first round is believed.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._mesh import varying_with
from zovh_jax._tree import scalar_dtype
from zovh_jax.queries import Queries, median
from zovh_jax.transforms._state import saturating_add

BEYOND = 100
"""How far a value may be from the last f(θ), over √d times the usual."""
MOST = 1e3
"""The usual, over the largest distance of the last round, at most."""


class Usual(NamedTuple):
    """What is known about the size of differences.

    Attributes:
      size: the largest distance of a round's values from its f(θ), and of that from the last one;
        of the last rounds, each of which counts half as much as the next, and no more than `MOST`
        allows. 0 before the first.
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

    def believed(self, queries: Queries, level: jax.Array, dimension: int) -> Queries:
        """A round from elsewhere, with NaN for values that cannot be the objective's."""
        assert queries.origin is not None

        def kept(values: jax.Array) -> jax.Array:
            return jnp.where(self.believes(values, level, dimension), values, jnp.nan)

        return dataclasses.replace(
            queries, values=kept(queries.values), origin=kept(queries.origin)
        )

    def sift(
        self, queries: Queries, level: jax.Array, dimension: int, rounding: jax.Array
    ) -> tuple[Queries, "Usual"]:
        """A round with NaN for its outliers, and what is known after it.

        Args:
          queries: of the round.
          level: the last f(θ).
          dimension: d.
          rounding: the rounding error of f(θ).
        """
        assert queries.origin is not None
        every = jnp.append(queries.values, queries.origin)
        finite = jnp.isfinite(every)
        known = self._known(level)
        far = finite & ~self.believes(every, level, dimension)
        most = jnp.any(far) & (2 * jnp.sum(far) >= jnp.sum(finite))
        lost = most & ~self.lost
        alone = ~known | (most & self.lost)
        dropped = jax.lax.cond(
            alone,
            lambda: varying_with(_far_off(every, finite, dimension, rounding), far),
            lambda: varying_with(far, every),
        )
        every = jnp.where(dropped, jnp.nan, every)
        values, origin = every[:-1].reshape(queries.values.shape), every[-1]
        last = jnp.where(known, level, origin)
        centre = jnp.where(jnp.isfinite(origin), origin, last)
        distances = jnp.abs(jnp.append(values, last) - centre)
        largest = jnp.max(jnp.where(jnp.isfinite(distances), distances, 0))
        # One that was far too large is soon forgotten.
        faded = jnp.where(largest > 0, jnp.minimum(self.size / 2, MOST * largest), self.size / 2)
        size = jnp.maximum(largest, faded).astype(self.size.dtype)
        usual = Usual(size, lost, saturating_add(self.num_outliers, jnp.sum(dropped)))
        return dataclasses.replace(queries, values=values, origin=origin), usual


def _far_off(
    values: jax.Array, finite: jax.Array, dimension: int, rounding: jax.Array
) -> jax.Array:
    """Which values are too far from f(θ), the last one, over the median of visible distances."""
    known = finite & finite[-1]
    distances = jnp.where(known, jnp.abs(values - values[-1]), 0)
    usual = median(distances[:-1], (distances > rounding)[:-1])
    return known & (usual > 0) & (distances > BEYOND * math.sqrt(dimension) * usual)


__all__ = ["Usual"]
