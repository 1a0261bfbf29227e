"""Sweeps: how a diagonal of curvature is learnt from 4D queries.

Directions are u = z/√h: h is the diagonal so far, z are those of `Halves`, and D is the order of
their Hadamard matrix. A couple z, z' are one half of the parameters and the other half, each asked
as a pair ±. With the curvatures q and q' along them, q = (F⁺ − 2f0 + F⁻)/μ²,

    a = (q − q')/2 = wᵀρ,   b = (q + q')/2 = Σ_i ρ_i,   ρ_i = H_ii/h_i.

A sweep is D couples, 4D queries, and has all rows w. It gives ρ = Σ a w / D, which is exact for a
diagonal Hessian. Elements beside the diagonal, third derivatives and noise disturb a and b alike;
and b would always be the same without them. So the variance v of b is also that of the error of a.
With ρ̄, the mean of ρ,

    β = 1 − v/E[a²],   ρ ← ρ̄ + β (ρ − ρ̄),   h ← h |ρ|/mean|ρ|

is the best linear guess (James and Stein's): noise alone teaches nothing. For safety β is computed
from v plus two of its standard errors, and |ρ| stays above the error that is left, √(βv/D).

h changes only when a sweep ends: the rows of a whole sweep are orthogonal, those of a part are not.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._program import FEW, written
from zovh_jax._tree import Layout, scalar_dtype, total
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries
from zovh_jax.transforms.newton._walk import choose

FLOOR = 1e-3
"""The least |ρ_i| that a sweep believes, over the mean |ρ|."""
RANGE = 1e-6
"""The least element of h, over the mean of h."""
NEWS = 0.1
"""The mean square of the relative change of h below which the next rest is longer."""
LONGEST = 2
"""The largest power of 4 that multiplies the length of a sweep in that of a rest."""


class Sweep(NamedTuple):
    """What the present sweep has seen so far.

    Attributes:
      num_rounds: rounds of all sweeps so far.
      rest: plain rounds until the next sweep; 0 inside a sweep.
      num_quiet: how many sweeps in a row changed h little, at most `LONGEST`.
      num_couples, total: how many couples there were, and Σ b.
      num_differences, spread: of consecutive b, how many, and the sum of their squares.
      signal: Σ a², without what ρ̄ adds to a.
      last: the last b.
      gathered: Σ a w, a tree like params in float32 or wider, None where frozen.
    """

    num_rounds: jax.Array
    rest: jax.Array
    num_quiet: jax.Array
    num_couples: jax.Array
    total: jax.Array
    num_differences: jax.Array
    spread: jax.Array
    signal: jax.Array
    last: jax.Array
    gathered: PyTree


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
        """The number of rounds of a sweep."""
        return -(-4 * self.order // self.num_directions)

    def init(self) -> Sweep:
        """The state before the first round: a rest of 2D plain directions."""
        zeros = [jnp.zeros((), scalar_dtype()) for _ in range(6)]
        rest = jnp.asarray(-(-2 * self.order // self.num_directions), jnp.int32)
        num_rounds, num_quiet = (jnp.zeros((), jnp.int32) for _ in range(2))
        gathered = self.layout.tree(self.layout.zeros())
        fields: list[Any] = [num_rounds, rest, num_quiet, *zeros, gathered]
        return Sweep(*fields)

    def inside(self, sweep: Sweep) -> jax.Array:
        """Whether a sweep has begun and has not ended."""
        return sweep.num_rounds % self.length > 0

    def ends(self, sweep: Sweep) -> jax.Array:
        """Whether one more round of a sweep ends it."""
        return (sweep.num_rounds + 1) % self.length == 0

    def wait(self, sweep: Sweep, plain: jax.Array) -> Sweep:
        """The sweep after a round that was none of its own; ``plain`` if it was one of its rest."""
        return sweep._replace(rest=sweep.rest - plain.astype(jnp.int32))

    def learn(
        self, sweep: Sweep, h: PyTree, queries: Queries, norms: jax.Array
    ) -> tuple[Sweep, PyTree]:
        """The sweep with one more round of its own, and h, which is new where the sweep ends."""
        gathered = self.gather(sweep, h, queries, norms)
        branches = [lambda: (gathered, h), lambda: self.finish(gathered, h)]
        return choose(self.ends(sweep), branches, like=queries.values)

    def gather(self, sweep: Sweep, h: PyTree, queries: Queries, norms: jax.Array) -> Sweep:
        """The sweep with a round along `Halves` over √h in it; ``norms`` are ‖z‖², [K]."""
        a, b, new = self._couples(sweep, queries, norms)
        # Differences of b are taken inside a round, where both b have the same f(θ). A round of
        # K = 4 has one b, and the difference is to that of the round before.
        first = (sweep.num_couples > 0) & (len(b) == 1)
        before = jnp.concatenate([sweep.last[None], b[:-1]])
        known = new & jnp.concatenate([first[None], new[:-1]])
        coefficients = (a[:, None] * jnp.asarray([[1, 1, -1, -1]], a.dtype) / 4).reshape(-1)
        sums = queries.plan.combine_squares(coefficients, self.layout)  # Σ a w/h
        trees = (jax.tree.leaves(tree) for tree in (sweep.gathered, h))
        gathered = [old + scale * x for old, scale, x in zip(*trees, sums, strict=True)]
        return sweep._replace(
            num_rounds=sweep.num_rounds + 1,
            num_couples=sweep.num_couples + jnp.sum(new).astype(b.dtype),
            total=sweep.total + jnp.sum(b),
            num_differences=sweep.num_differences + jnp.sum(known).astype(b.dtype),
            spread=sweep.spread + jnp.sum(jnp.where(known, jnp.square(b - before), 0)),
            signal=sweep.signal + jnp.sum(jnp.square(a)),
            last=jnp.where(new[-1], b[-1], sweep.last),
            gathered=self.layout.tree(gathered),
        )

    def finish(self, sweep: Sweep, h: PyTree) -> tuple[Sweep, PyTree]:
        """The state before the next sweep, with a rest before it; and the next h."""
        mean, noise, shrink, signal = map(self._written, self._statistics(sweep))
        ratios = self._ratios(jax.tree.leaves(sweep.gathered), mean, noise, shrink)
        # Where most couples were dropped nothing is learnt, and the next sweep is put off.
        seen = 2 * sweep.num_couples > self.order
        following = self._multiplied(jax.tree.leaves(h), ratios, seen)
        news = shrink * signal / self.order > NEWS * jnp.square(mean)
        num_quiet = jnp.where(news, 0, jnp.minimum(sweep.num_quiet + 1, LONGEST))
        num_quiet = jnp.where(seen, num_quiet, LONGEST)
        rests = jnp.asarray([min(self.length * 4**i, 2**30) for i in range(LONGEST + 1)])
        empty = self.init()._replace(
            num_rounds=sweep.num_rounds, rest=rests[num_quiet].astype(jnp.int32)
        )
        return empty._replace(num_quiet=num_quiet), self.layout.tree(following)

    def _couples(self, sweep: Sweep, queries: Queries, norms: jax.Array) -> tuple[Any, Any, Any]:
        """a and b of a round's couples, [K/4] each, zero where not new; and which are new.

        A couple is not new if a value of it was dropped, or if the sweep has had its row already:
        the last round of a sweep may end with the first rows once more.
        """
        n = self.num_directions // 4
        bends, valid = curvatures(queries)
        q = jnp.mean(bends.reshape(n, 2, 2), -1)
        place = sweep.num_rounds % self.length * n + jnp.arange(n)
        new = jnp.all(valid.reshape(n, 4), -1) & (place < self.order)
        b = jnp.where(new, jnp.mean(q, -1), 0)
        # The matrix has D columns and only d are used, so that Σ_i w_i is not zero, and a contains
        # ρ̄ Σ_i w_i. It is taken out here: Σ_i w_i/d is the difference of ‖z‖² and ‖z'‖² over the
        # sum, and b is d ρ̄.
        squares = norms.reshape(n, 2, 2)[:, :, 0]
        excess = (squares[:, 0] - squares[:, 1]) / jnp.maximum(jnp.sum(squares, -1), 1)
        a = jnp.where(new, (q[:, 0] - q[:, 1]) / 2 - b * excess, 0)
        return a, b, new

    def _statistics(self, sweep: Sweep) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """ρ̄, v, β and E[a²] of a whole sweep."""
        n = jnp.maximum(sweep.num_couples, 2)
        differences = jnp.maximum(sweep.num_differences, 1)
        mean = sweep.total / n / max(self.layout.size, 1)
        noise, signal = sweep.spread / (2 * differences), sweep.signal / n
        certain = noise * (1 + 2 * jnp.sqrt(2 / differences))
        shrink = jnp.where(signal > certain, 1 - certain / jnp.where(signal > 0, signal, 1), 0)
        return mean, noise, shrink, signal

    def _ratios(
        self, gathered: Leaves, mean: jax.Array, noise: jax.Array, shrink: jax.Array
    ) -> Leaves:
        """|ρ|, shrunk towards ρ̄ by β, and above what is left of the error."""
        ratios = [
            jnp.abs(mean + shrink / self.order * x.astype(mean.dtype)).astype(x.dtype)
            for x in gathered
        ]
        least = jnp.maximum(FLOOR * self._mean(ratios), jnp.sqrt(shrink * noise / self.order))
        return [jnp.maximum(x, least.astype(x.dtype)) for x in ratios]

    def _multiplied(self, h: Leaves, ratios: Leaves, seen: jax.Array) -> Leaves:
        """h |ρ|/mean|ρ|, its least element bounded; h itself where that is not known."""
        average = self._mean(ratios)
        good = seen & jnp.isfinite(average) & (average > 0)
        products = [x * r / average.astype(x.dtype) for x, r in zip(h, ratios, strict=True)]
        floor = RANGE * self._mean(products)
        return [
            jnp.where(good, jnp.maximum(x, floor.astype(x.dtype)), old)
            for x, old in zip(products, h, strict=True)
        ]

    def _mean(self, leaves: Leaves) -> jax.Array:
        """The mean over all parameters that are perturbed."""
        sums = [jnp.sum(x.astype(scalar_dtype())) for x in leaves]
        return self._written(total(sums) / max(self.layout.size, 1))

    def _written(self, x: jax.Array) -> jax.Array:
        """The scalar, made once: otherwise each leaf that reads it would compute it again."""
        return written(x) if self.layout.num_leaves > FEW else x


__all__ = ["DiagonalSweeps", "Sweep"]
