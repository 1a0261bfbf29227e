"""How past rounds count in an estimate.

An old round was made around another θ, so it tells about another gradient, at another level of the
objective. The rules give each direction a weight, always self-normalised, or shift its value:

- ``levels()``: all rounds count alike, each around a level of its own as far as the values show
  that levels differ. The default of `zo.zoar` and `zo.zovh`: safe where each round sees another
  batch, or f falls fast, and the papers' form where neither is so.
- ``uniform()``: the papers' form: all rounds count alike around one common mean, (E11) and (E15).
  Where rounds differ in level by more than the values do within one, as on minibatches, the
  differences are taken for slopes, and a run can diverge.
- ``discounted(decay)``: weight decay^age, however much has changed. It does not keep a run from
  diverging where the level falls fast.
- ``adaptive()``: a round counts less, the more its mean value differs from the current round's,
  compared with the spread of values within rounds. It keeps scalars only.
- ``importance()``: the density of an old point around the current θ over that around the old one
  (E5), which makes old rounds unbiased for the current gradient. It keeps N copies of the
  parameters, and helps where ‖θ_j − θ‖ is below μ: beyond, the ratios degenerate.

None of them spends queries, and none of them looks at the radius. Where it changes from round to
round (a schedule, an optimiser that adapts it), a round made at μ_j tells about F_{μ_j}: the
estimate is of the weighted mean of the rounds' ∇F_{μ_j} or ∇²F_{μ_j}, and unbiased for that. But
noise in the values, of standard deviation σ, enters a gradient as σ/μ_j and a Hessian as σ/μ_j², so
that a few rounds at a small radius can make most of the error. Rounds also differ in level, by
F_{μ_j} − f ≈ ½μ_j² tr(H), which one common mean leaves as noise. Where σ dominates, weigh by μ_j²
or μ_j⁴ (`zo.estimators.gradient`, `hessian`); else keep the radius constant over a history's
length, or the history short.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._rows import row_products
from zovh_jax._tree import scalar_dtype, total
from zovh_jax._types import PyTree
from zovh_jax.directions import Directions
from zovh_jax.history import History
from zovh_jax.queries import Queries
from zovh_jax.stencils import Stencil


class Reuse:
    """A rule of reuse; see the module's docstring."""

    needs_centers: ClassVar[bool] = False
    """Whether the history must keep each round's θ."""
    shifts: ClassVar[bool] = False
    """Whether it shifts the values of rounds, which is left out where f(θ) is the baseline."""

    def check(self, directions: Directions, stencil: Stencil) -> None:
        """Raises where the rule does not go with these rounds."""

    def apply(self, history: History, params: PyTree) -> Queries:
        """The rounds of a history, with the weights that they have at ``params``."""
        raise NotImplementedError  # pragma: no cover - abstract


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Uniform(Reuse):
    """All rounds count alike around one mean: (E11) and (E15), the papers' form."""

    def apply(self, history, params):
        return history.queries()


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Levels(Reuse):
    """Each round has a level of its own, between its mean and that of all rounds.

    Let F̄ be the mean of all values, F̄_r that of the n_r values of round r, s² the variance of
    values within rounds and σ² that of the rounds' levels, both estimated from the values. The best
    linear guess of a round's level is

        b_r = F̄ + w_r (F̄_r − F̄),  w_r = σ²/(σ² + s²/n_r).

    Where σ² = 0 it is F̄, the papers' baseline. Where levels differ by more than values do within a
    round, it is F̄_r, which costs 1/n_r of a round's information. A value is part of its own level,
    which would shrink the estimate, so values are stretched around b_r: for given w_r the estimate
    is unbiased.

    It is for baselines made from the values, such as ``mean()``. It changes nothing with
    ``origin()``, which is a level for each round already, nor with one direction a round, which
    shows no s².
    """

    shifts: ClassVar[bool] = True

    def apply(self, history, params):
        queries = history.queries()
        valid, values, counts, means, within = _moments(history, queries)
        n, some = jnp.maximum(jnp.sum(counts), 1), jnp.maximum(counts, 1)  # to divide by
        mean = jnp.sum(values) / n
        between = jnp.sum(counts * jnp.square(means - mean))
        excess = between - within * (jnp.sum(counts > 0) - 1).astype(values.dtype)
        rounds = n - jnp.sum(jnp.square(counts)) / n  # n_r (R − 1) where all rounds are whole
        excess = jnp.maximum(excess, 0) / jnp.where(rounds > 0, rounds, 1)
        total = excess + within / some
        share = jnp.where(
            jnp.any(counts > 1) & (total > 0), excess / jnp.where(total > 0, total, 1), 0
        )
        level = mean + share * (means - mean)
        own = share / some + (1 - share) / n  # a value's part in its own level
        stretch = jnp.where(own < 1, (1 - 1 / n) / jnp.where(own < 1, 1 - own, 1), 0)
        shifted = mean + (values - level[:, None]) * stretch[:, None]
        shift = jnp.where(valid, shifted - values, 0)
        shift = shift[..., None] if queries.stencil.paired else shift
        return dataclasses.replace(queries, values=queries.values + shift)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Discounted(Reuse):
    """A round that is ``age`` steps old has weight decay^age.

    Args:
      decay: between 0 (only the current round) and 1 (``uniform``).

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> optimizer = zo.zoar(0.05, num_directions=4, radius=0.1, key=jax.random.key(0),
      ...                     history_size=8, reuse=zo.reuse.discounted(0.7))
      >>> state = optimizer.init(jnp.ones(3))
    """

    decay: float

    def __post_init__(self):
        if not 0 <= self.decay <= 1:
            raise ValueError(f"decay must be between 0 and 1, got {self.decay!r}.")

    def apply(self, history, params):
        ages = history.ages.astype(scalar_dtype())
        by_round = jnp.asarray(self.decay, ages.dtype) ** ages
        return _weighted(history.queries(), by_round)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Adaptive(Reuse):
    """Rounds whose level has moved count less: weight 1/(1 + max(0, Δ²/s² − 2/K)/tolerance²).

    Δ is the difference between a round's mean value and the current round's, s² the variance of
    the values within rounds, and 2/K the mean of Δ²/s² by chance alone. While the level stays the
    same, all rounds count. Once it has moved by more than the values of a round spread, old rounds
    fade, and with them the error of one common mean. The weights depend on the values, which
    shrinks the old rounds' part of the estimate by a fraction of order 1/K.

    Args:
      tolerance: the change of level, in units of s, at which a round has half its weight.
    """

    tolerance: float = 1.0

    def __post_init__(self):
        _checks.positive("tolerance", self.tolerance)

    def apply(self, history, params):
        queries = history.queries()
        _, _, counts, means, variance = _moments(history, queries)
        current = jnp.argmin(history.ages)
        moved = jnp.square(means - means[current])
        chance = variance * (1 / jnp.maximum(counts, 1) + 1 / jnp.maximum(counts[current], 1))
        excess = jnp.maximum(moved - chance, 0)
        scale = variance * self.tolerance**2
        # Where the values do not vary at all, any change of level is too much.
        by_round = jnp.where(excess > 0, scale / (scale + excess), 1)
        by_round = jnp.where((history.ages == 0) | (counts[current] == 0), 1, by_round)
        return _weighted(queries, by_round)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Importance(Reuse):
    """Importance sampling (E5): old points count as if drawn around the current θ.

    The point θ_j + μu is, from the current θ, along v = u + (θ_j − θ)/μ, and has weight
    W = exp(−(‖v‖² − ‖u‖²)/2), clipped and self-normalised; estimates use v in u's place.

    W's spread grows like exp(‖θ_j − θ‖²/μ²). The effective sample size (ΣW)²/ΣW² tells how many
    directions are really left; where it falls below ``min_effective`` of all, the old rounds are
    left out of this step.

    Forward stencil and Gaussian directions only. Memory: N copies of the parameters in the state.

    Args:
      clip: the largest ratio; bounds the variance for a little bias. ``float("inf")`` for none.
      min_effective: the least effective sample size, as a fraction of the directions at hand.

    Source: ZoAR and ZoVH, as an extension of their query reuse; (E5).
    """

    needs_centers: ClassVar[bool] = True
    clip: float = 10.0
    min_effective: float = 0.5

    def __post_init__(self):
        if not self.clip >= 1:
            raise ValueError(f"clip must be 1 or more, got {self.clip!r}.")
        if not 0 <= self.min_effective <= 1:
            raise ValueError(f"min_effective must be between 0 and 1, got {self.min_effective!r}.")

    def check(self, directions, stencil):
        if not directions.standard_normal or stencil.paired:
            raise ValueError(
                "reuse=zo.reuse.importance() needs Gaussian directions and a forward stencil; got "
                f"directions={directions!r} and stencil={stencil!r}. Use zo.reuse.adaptive()."
            )

    def apply(self, history, params):
        queries = history.recentered(params)
        self.check(queries.plan.directions, queries.stencil)
        weights = jnp.minimum(density_ratios(queries, params), self.clip)
        weights = jnp.where(queries.valid, weights, 0)
        sums, squares = jnp.sum(weights), jnp.sum(jnp.square(weights))
        effective = jnp.square(sums) / jnp.where(squares > 0, squares, 1)
        enough = effective >= self.min_effective * jnp.sum(queries.valid).astype(weights.dtype)
        current = jnp.repeat(history.ages == 0, queries.plan.num_directions)
        weights = jnp.where(enough, weights, current.astype(weights.dtype))
        return dataclasses.replace(queries, weights=weights)


def density_ratios(queries: Queries, params: PyTree) -> jax.Array:
    """π_θ(x)/π_{θ_j}(x) of recentred queries' points x, [n]."""
    plan = queries.plan
    assert plan.shift is not None
    # With s the shift and v = u + s: log W = −(‖v‖² − ‖u‖²)/2 = −v·s + ‖s‖²/2.
    squares = total([row_products(s, s) for s in plan.shift])
    along = plan.inner_by_round(plan.shift, plan.layout(params))
    return jnp.exp(jnp.repeat(squares, plan.num_directions) / 2 - along)


def _moments(history: History, queries: Queries) -> tuple[jax.Array, ...]:
    """Which values are valid, the values, [N, K] each; counts, means, [N]; variance in rounds."""
    shape = (history.size, queries.plan.num_directions)
    valid = queries.valid.reshape(shape)
    values = jnp.where(valid, queries.even.reshape(shape), 0)
    counts = jnp.sum(valid, 1).astype(values.dtype)
    means = jnp.sum(values, 1) / jnp.maximum(counts, 1)
    squares = jnp.sum(jnp.where(valid, jnp.square(values - means[:, None]), 0))
    return (
        valid,
        values,
        counts,
        means,
        squares / jnp.maximum(jnp.sum(jnp.maximum(counts - 1, 0)), 1),
    )


def _weighted(queries: Queries, by_round: jax.Array) -> Queries:
    weights = jnp.repeat(by_round.astype(scalar_dtype()), queries.plan.num_directions)
    return dataclasses.replace(queries, weights=weights)


uniform = Uniform
levels = Levels
discounted = Discounted
adaptive = Adaptive
importance = Importance

__all__ = ["Reuse", "adaptive", "density_ratios", "discounted", "importance", "levels", "uniform"]
