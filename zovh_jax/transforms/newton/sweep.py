"""A diagonal of curvature, learnt from 4D queries: for the state of an optimiser.

Directions are u = z/√h, h the diagonal so far, z those of `Halves`, D the order of its Hadamard
matrix. Of a couple z, z', half the parameters and the other half, both as pairs,

    a = (q − q')/2 = wᵀρ,   b = (q + q')/2 = Σ_i ρ_i,   ρ_i = H_ii/h_i,

q and q' the curvatures (F⁺ − 2f0 + F⁻)/μ². D couples, 4D queries, have all w: ρ = Σ a w / D, exact
for a diagonal Hessian. What is beside the diagonal, third derivatives and noise come into a and b
alike, and b should be the same every time: so the variance v of b is that of a too, and

    β = 1 − v/E[a²],   ρ ← ρ̄ + β (ρ − ρ̄),   h ← h |ρ|/mean|ρ|

is the best linear guess (James and Stein's): nothing is learnt from noise. β is taken from v plus
two standard errors, and |ρ| is kept above the error that is left, √(βv/D). While h is learnt it
stays what it was: rows of one sweep are orthogonal, so that ρ is right at its end only.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries

FLOOR = 1e-3
"""A sweep divides no element of h by more, from its mean."""
RANGE = 1e-6
"""Least element of h, from its mean."""
NEWS = 0.1
"""Mean square of a relative change of h below which the next rest is longer."""
LONGEST = 2
"""Powers of 4 that a rest, in sweeps, may have."""


class Sweep(NamedTuple):
    """What a sweep has seen so far.

    Attributes:
      rounds: of all sweeps so far.
      rest: plain rounds until the next sweep.
      rests: how many sweeps in a row said little that was new, at most `LONGEST`.
      couples, total: their number, and Σ b.
      differences, spread: of consecutive b, their number, and the sum of their squares.
      signal: Σ a², a without what the mean of ρ makes of it.
      last: the last b.
    """

    rounds: jax.Array
    rest: jax.Array
    rests: jax.Array
    couples: jax.Array
    total: jax.Array
    differences: jax.Array
    spread: jax.Array
    signal: jax.Array
    last: jax.Array


@dataclasses.dataclass(frozen=True)
class DiagonalSweeps:
    """How h is learnt; sizes only.

    Attributes:
      layout: of the parameters.
      num_directions: K, of a round, a multiple of 4.
    """

    layout: Layout
    num_directions: int

    @property
    def order(self) -> int:
        """D."""
        return order_of(self.layout.size)

    @property
    def length(self) -> int:
        """Rounds of a sweep."""
        return -(-4 * self.order // self.num_directions)

    def init(self) -> Sweep:
        """Before the first round: a rest of 2D plain directions."""
        zero = [jnp.zeros((), scalar_dtype()) for _ in range(6)]
        rest = jnp.asarray(-(-2 * self.order // self.num_directions), jnp.int32)
        return Sweep(jnp.zeros((), jnp.int32), rest, jnp.zeros((), jnp.int32), *zero)

    def gather(
        self, sweep: Sweep, h: PyTree, gathered: PyTree, queries: Queries, norms: jax.Array
    ) -> tuple[Sweep, PyTree]:
        """With a round along `Halves` over √h in it; ``norms`` are ‖z‖², [K]."""
        n = self.num_directions // 4
        bends, valid = curvatures(queries)
        q = jnp.mean(bends.reshape(n, 2, 2), -1)
        squares = norms.reshape(n, 2, 2)[:, :, 0]
        # The last round of a sweep may end with the sweep's first rows once more.
        place = sweep.rounds % self.length * n + jnp.arange(n)
        new = jnp.all(valid.reshape(n, 4), -1) & (place < self.order)
        b = jnp.where(new, jnp.mean(q, -1), 0)
        # Of D − d columns that are missing, the mean ρ is in a.
        some = jnp.maximum(jnp.sum(squares, -1), 1)
        expected = b * (squares[:, 0] - squares[:, 1]) / some
        a = jnp.where(new, (q[:, 0] - q[:, 1]) / 2 - expected, 0)
        # Inside a round the noise of f(θ) and what changes with θ are in both; K = 4 has no choice.
        first = (sweep.couples > 0) & (n == 1)
        before = jnp.concatenate([sweep.last[None], b[:-1]])
        known = new & jnp.concatenate([first[None], new[:-1]])
        pairs = jnp.sum(known).astype(b.dtype)
        coefficients = (a[:, None] * jnp.asarray([[1, 1, -1, -1]], a.dtype) / 4).reshape(-1)
        sums = queries.plan.combine_squares(coefficients, self.layout)  # Σ a w/h
        leaves = (jax.tree.leaves(tree) for tree in (gathered, h))
        new_leaves = [old + scale * x for old, scale, x in zip(*leaves, sums, strict=True)]
        return sweep._replace(
            rounds=sweep.rounds + 1,
            couples=sweep.couples + jnp.sum(new).astype(b.dtype),
            total=sweep.total + jnp.sum(b),
            differences=sweep.differences + pairs,
            spread=sweep.spread + jnp.sum(jnp.where(known, jnp.square(b - before), 0)),
            signal=sweep.signal + jnp.sum(jnp.square(a)),
            last=jnp.where(new[-1], b[-1], sweep.last),
        ), self.layout.tree(new_leaves)

    def finish(self, sweep: Sweep, h: PyTree, gathered: PyTree) -> tuple[Sweep, PyTree, PyTree]:
        """The next h, at the end of a sweep; and the sums for the next sweep."""
        n = jnp.maximum(sweep.couples, 2)
        d = self.layout.size
        mean = sweep.total / n / d
        noise, signal = sweep.spread / (2 * jnp.maximum(sweep.differences, 1)), sweep.signal / n
        certain = noise * (1 + 2 * jnp.sqrt(2 / jnp.maximum(sweep.differences, 1)))
        shrink = jnp.where(signal > certain, 1 - certain / jnp.where(signal > 0, signal, 1), 0)
        ratios = [
            jnp.abs(mean + shrink / self.order * x.astype(mean.dtype)).astype(x.dtype)
            for x in jax.tree.leaves(gathered)
        ]
        average = self._mean(ratios)
        least = jnp.maximum(FLOOR * average, jnp.sqrt(shrink * noise / self.order))
        ratios = [jnp.maximum(x, least.astype(x.dtype)) for x in ratios]
        average = self._mean(ratios)
        good = jnp.isfinite(average) & (average > 0)
        old = jax.tree.leaves(h)
        new = [x * r / average.astype(x.dtype) for x, r in zip(old, ratios, strict=True)]
        floor = RANGE * self._mean(new)
        new = [
            jnp.where(good, jnp.maximum(x, floor.astype(x.dtype)), was)
            for x, was in zip(new, old, strict=True)
        ]
        news = shrink * signal / self.order > NEWS * jnp.square(mean)
        rests = jnp.where(news, 0, jnp.minimum(sweep.rests + 1, LONGEST))
        rest = jnp.asarray([min(self.length * 4**i, 2**30) for i in range(LONGEST + 1)])
        empty = self.init()._replace(
            rounds=sweep.rounds, rest=rest[rests].astype(jnp.int32), rests=rests
        )
        zeros = jax.tree.map(jnp.zeros_like, gathered)
        return empty, self.layout.tree(new), zeros

    def _mean(self, leaves: Leaves) -> jax.Array:
        """Over the parameters that are perturbed."""
        total = jnp.zeros((), scalar_dtype())
        for x in leaves:
            total = total + jnp.sum(x.astype(total.dtype))
        return total / max(self.layout.size, 1)


__all__ = ["DiagonalSweeps", "Sweep"]
