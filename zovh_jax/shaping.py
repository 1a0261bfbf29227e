"""Shaping: what is done to a round's values before anything is made of them.

Values that are NaN or infinite are dropped everywhere. Shaping is for finite ones that are wrong
(outliers, outages that return zeros), and for values of which only the order means something.

| rule | a value becomes | it assumes |
|---|---|---|
| ``none()`` | itself | finite values are right, up to noise of finite variance |
| ``winsorised()`` | itself, or the end of a range around the median | most values are right |
| ``ranks()`` | its rank in the round, from −½ to ½ | only that smaller is better |

- ``winsorised()`` is for outliers. It changes nothing while no value is out of its wide range, so
  that learning rates stay what they were; its range follows the values of the last rounds.
- ``ranks()`` makes the search independent of monotone changes of the objective, as in OpenAI-ES.
  The length of a gradient of ranks does not shrink towards a minimum: learning rates are in other
  units, and must decay (or Adam must follow) to get close. A Hessian of ranks means nothing, and is
  refused.

None of them spends queries. `zo.diagnostics` shows the values as they were, and counts those that
are not finite.
"""

import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype
from zovh_jax.queries import ROUNDING, Queries, median
from zovh_jax.stencils import Stencil

NORMAL = 1.4826
"""The standard deviation of a normal distribution over its median absolute deviation."""
FEW = 8
"""A range from so few deviations is made twice as wide, as their median is uncertain."""


class Shaping:
    """A rule of shaping; see the module's docstring."""

    ranked: ClassVar[bool] = False
    """Whether only the order of the values is left."""

    def init(self, num_directions: int, stencil: Stencil) -> Any:
        """What the rule remembers of past rounds, before the first: a tree of arrays."""
        return ()

    def apply(self, queries: Queries, memory: Any) -> tuple[Queries, Any]:
        """One round, shaped; and the memory with this round in it."""
        raise NotImplementedError  # pragma: no cover - abstract


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class NoShaping(Shaping):
    """Values as they are."""

    def apply(self, queries, memory):
        return queries, memory


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Ranks(Shaping):
    """The rank of a value among all of its round, f(θ) too, from −½ (least) to ½ (largest).

    Equal values have the mean of their ranks. +∞ has the worst rank, as "this point failed" is
    information; where it is not, return NaN. NaN and −∞ stay missing.

    For gradients, along forward stencils or pairs; of a pair the difference of its ranks counts.

    Source: the centred ranks of OpenAI-ES, Salimans et al., arXiv 1703.03864.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = lambda x: jnp.exp(10 * x)  # monotone, so that ranks along x are those of x itself
      >>> q = zo.query(f, jnp.zeros(()), jax.random.key(0), num_directions=3, radius=1.0,
      ...              shaping=zo.shaping.ranks())
      >>> sorted(q.values.tolist())
      [-0.5, 0.0, 0.5]
    """

    ranked: ClassVar[bool] = True

    def apply(self, queries, memory):
        _check_one(queries)
        values = queries.values.reshape(-1)
        known = queries.origin is not None
        if known:
            values = jnp.append(values, queries.origin)
        ranks = _ranks(values)
        origin = ranks[-1] if known else None
        values = (ranks[:-1] if known else ranks).reshape(queries.values.shape)
        ranked = dataclasses.replace(queries, values=values, origin=origin, noise=None, ranked=True)
        return ranked, memory


class Memory(NamedTuple):
    """What `winsorised` knows of past rounds; zero stands for nothing.

    Attributes:
      deviations: [memory, K]: how far values were from their round's median; for pairs
        [memory, K, 2]: |odd parts|, and how far even parts were from their median.
      jumps: [memory]: how far a round's median was from the level before it.
      rises: [memory]: how far f(θ) was from its round's median.
      level: the last round's median, as it was shaped.
      num_rounds: how many rounds it has seen that said anything.
    """

    deviations: jax.Array
    jumps: jax.Array
    rises: jax.Array
    level: jax.Array
    num_rounds: jax.Array


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Winsorised(Shaping):
    """Values farther than ``limit`` robust deviations from the median are moved to that distance.

    The deviation is 1.4826 times the median of |F − median|, over this round and those that are
    remembered. Deviations of zero, which values of few levels have, are left out, and those of
    rounding, where some are larger: f may not depend on much of what is perturbed. The same is done

    - to pairs, value by value and to their two parts: (F⁺ − F⁻)/2 around zero, (F⁺ + F⁻)/2 around
      its median;
    - to f(θ), around the median of the round. Its range also covers its usual distance from there,
      which comes from curvature.

    A round whose median jumps away from the last one's is moved to that level as a whole, as rounds
    that are reused share one mean; the range covers the usual moves of medians. A round whose
    values are all equal says nothing (an outage that returns zeros), and is dropped.

    So a round that is wrong as a whole costs one step of at most ``limit`` times the usual length.
    An objective that really changes its scale is followed after ``memory``/2 rounds. By default
    0.3% of normal values are clipped, which takes 0.1% off a gradient. A Hessian with one
    eigenvalue far above the others gives values with a long tail: use ``limit=20`` there.

    `zo.query` alone has no memory: a range then comes from the one round.

    Args:
      limit: in standard deviations of normal values.
      memory: how many rounds the range is made from.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = lambda x: jnp.where(x[0] > 0.1, 1e30, jnp.sum(x))  # fails without saying so
      >>> optimizer = zo.zo_sgd(1e-3, num_directions=8, radius=0.1, key=jax.random.key(0),
      ...                       shaping=zo.shaping.winsorised())
      >>> x = jnp.zeros(3)
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> bool(jnp.all(jnp.abs(updates) < 0.1))
      True
    """

    limit: float = 3.0
    memory: int = 16

    def __post_init__(self):
        _checks.positive("limit", self.limit)
        _checks.positive_int("memory", self.memory)

    def init(self, num_directions, stencil):
        k, dtype = _checks.positive_int("num_directions", num_directions), scalar_dtype()
        shape = (self.memory, k, 2) if stencil.paired else (self.memory, k)
        jumps, rises = (jnp.zeros(self.memory, dtype) for _ in range(2))
        level, count = jnp.zeros((), dtype), jnp.zeros((), jnp.int32)
        return Memory(jnp.zeros(shape, dtype), jumps, rises, level, count)

    def apply(self, queries, memory):
        _check_one(queries)
        if not isinstance(memory, Memory):
            memory = self.init(queries.plan.num_directions, queries.stencil)
        paired, valid = queries.stencil.paired, queries.valid & ~_is_flat(queries)
        slot = memory.num_rounds % self.memory

        even = jnp.where(valid, queries.even, 0)
        middle = median(even, valid)
        parts = [even - middle]
        if paired:
            parts.insert(0, jnp.where(valid, queries.odd, 0))
        sizes = jnp.stack([jnp.where(valid, jnp.abs(part), 0) for part in parts], -1)
        seen = memory.deviations.at[slot].set(sizes if paired else sizes[:, 0])
        by_part = seen.reshape(-1, len(parts))
        # This round's own median may be wrong.
        size = jnp.abs(jnp.where(memory.num_rounds > 0, memory.level, middle))
        error = ROUNDING * jnp.finfo(size.dtype).eps * size
        limits = [self._limit(by_part[:, i], error) for i in range(len(parts))]

        some = jnp.any(valid)
        jump = jnp.where(memory.num_rounds > 0, jnp.abs(middle - memory.level), 0)
        jumps = memory.jumps.at[slot].set(jump)
        farthest = jnp.maximum(limits[-1], self._limit(memory.jumps))
        moved = jump > farthest
        level = jnp.where(moved, memory.level, middle)

        # What needs no change keeps every digit.
        inside = jnp.all(sizes <= jnp.stack(limits)[None], -1) & ~moved
        if paired:
            # Each value is clipped first: where one of a pair is wrong, the other still counts.
            most = limits[0] + limits[1]
            each = jnp.where(valid[:, None], queries.values - middle, 0)
            each = jnp.clip(each, -most, most)
            odd = jnp.clip((each[:, 0] - each[:, 1]) / 2, -limits[0], limits[0])
            even = jnp.clip((each[:, 0] + each[:, 1]) / 2, -limits[1], limits[1])
            shaped = level + jnp.stack([even + odd, even - odd], -1)
            inside, valid = inside[:, None], valid[:, None]
        else:
            shaped = level + jnp.clip(parts[0], -limits[0], limits[0])
        values = jnp.where(valid, jnp.where(inside, queries.values, shaped), jnp.inf)

        origin, rises = queries.origin, memory.rises
        if origin is not None:
            known = jnp.isfinite(origin) & some
            rise = jnp.where(known, origin - middle, 0)
            most = jnp.maximum(limits[-1], self._limit(memory.rises))
            clipped = level + jnp.clip(rise, -most, most)
            origin = jnp.where(known & (moved | (jnp.abs(rise) > most)), clipped, origin)
            rises = rises.at[slot].set(jnp.abs(rise))
        # Less a multiple of ``memory`` before it overflows: the slots stay the same.
        count = memory.num_rounds + 1
        count = jnp.where(count >= 2**30, count - 2**30 // self.memory * self.memory, count)
        new = Memory(seen, jumps, rises, level, count)
        # A round that says nothing leaves no trace, however many of them there are.
        memory = jax.tree.map(lambda x, y: jnp.where(some, x, y), new, memory)
        return dataclasses.replace(queries, values=values, origin=origin), memory

    def _limit(self, sizes: jax.Array, error: jax.Array | float = 0.0) -> jax.Array:
        """The range that these deviations give; 0 where none of them is above zero."""
        known = sizes > jnp.where(jnp.any(sizes > error), error, 0)
        margin = 1 + FEW / jnp.maximum(jnp.sum(known), 1).astype(sizes.dtype)
        return self.limit * NORMAL * margin * median(sizes, known)


def _check_one(queries: Queries) -> None:
    if queries.plan.num_rounds is not None:
        raise ValueError(
            f"shaping is for one round, got {queries.plan.num_rounds} of a history: shape each "
            "before History.push, as zo.query(…, shaping=…) does."
        )


def _is_flat(queries: Queries) -> jax.Array:
    """Whether two finite values or more, f(θ) among them, are all the same."""
    values = queries.values.reshape(-1)
    if queries.origin is not None:
        values = jnp.append(values, queries.origin)
    finite = jnp.isfinite(values)
    least = jnp.min(jnp.where(finite, values, jnp.inf))
    return (jnp.sum(finite) > 1) & (least == jnp.max(jnp.where(finite, values, -jnp.inf)))


def _ranks(values: jax.Array) -> jax.Array:
    """Ranks from −½ to ½, [n]; NaN stays, and −∞ becomes NaN."""
    missing = jnp.isnan(values) | (values == -jnp.inf)
    n = jnp.sum(~missing)
    # The missing ones go to the end, where counts stop short of them.
    ordered = jnp.sort(jnp.where(missing, jnp.inf, values))
    # Unrolled: a loop would be many programs, one after another, on an accelerator.
    place = functools.partial(jnp.searchsorted, ordered, values, method="scan_unrolled")
    below, upto = place(side="left"), jnp.minimum(place(side="right"), n)
    rank = (below + upto - 1).astype(values.dtype) / 2
    centred = rank / jnp.maximum(n - 1, 1) - jnp.where(n > 1, 0.5, 0)
    return jnp.where(missing, jnp.nan, centred.astype(values.dtype))


none = NoShaping
ranks = Ranks
winsorised = Winsorised

__all__ = ["Shaping", "none", "ranks", "winsorised"]
