"""The length of a step without a learning rate: rules that the three Newton optimisers share.

The step is p = −m Σ_k s_k u_k, from slopes s_k along directions u_k. The model says that it changes
f by s·p + ½ c ‖p‖², where s·p = −m Σ_k s_k². The next round's f(θ) shows the true change Δf, and so
the curvature along the step:

    κ = 2 (Δf − s·p)/‖p‖².

c is an exponential average of |κ|. Before the first step there is no κ, and c is the trace of the
Hessian over d. A trust region bounds the length where the model was wrong. A step is taken back if
f is not finite after it, or rose by more than the model said it would fall.

Slopes of forward queries are (F_k − b_k)/μ with b_k = f(θ) + ½μ² τ‖u_k‖², where τ is the trace over
d from *past* rounds. So τ does not depend on u_k, the slopes are unbiased, and on an isotropic
quadratic they have no noise. Under noise, where this round's own trace is far from that, it is
taken instead, and slopes are too small by 1/K at most. Slopes of pairs need no τ.

Lengths are in the metric in which directions have E‖u‖² = d.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax.baselines import past
from zovh_jax.directions import Directions
from zovh_jax.estimators.trace import TraceAverage, TraceEstimate
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import ROUNDING, Queries
from zovh_jax.transforms._rounds import Rounds
from zovh_jax.transforms.newton.noise import HARM, SHORTER, Asked, Noise, NoiseRules, looked_for
from zovh_jax.transforms.newton.outliers import Usual
from zovh_jax.transforms.newton.radius import TINY, RadiusRules

SHORTEST = 1e-3
"""The least limit of a step, over how far a round looks: steps that the rounding of parameters
swallows change nothing, and would shrink it for ever."""
SURE = 3
"""A round's trace counts from so many standard errors on; more, where samples are few."""


class Trust(NamedTuple):
    """What an optimiser knows about the length of its next step.

    Attributes:
      radius: μ of the next round.
      limit: the longest step that is allowed.
      trace: the average of the Hessian's trace.
      curvature, weight: Σ w |κ| and Σ w, whose ratio is c.
      origin: f(θ) before the last step; ∞ where it was not finite.
      slope: s·p of the last step, 0 or below.
      squared_length: ‖p‖² of the last step; 0 where there is no step to judge.
      slope_error: the standard error of s·p that comes from τ.
      num_undone: how many steps were taken back.
      returned: whether the last round took a step back, so that f(θ) is asked at θ_old again.
      rise: by how much f had risen then.
      usual: what is known about the size of differences, which outliers exceed.
      noise: what is known about the noise of the values.
    """

    radius: jax.Array
    limit: jax.Array
    trace: TraceAverage
    curvature: jax.Array
    weight: jax.Array
    origin: jax.Array
    slope: jax.Array
    squared_length: jax.Array
    slope_error: jax.Array
    num_undone: jax.Array
    returned: jax.Array
    rise: jax.Array
    usual: Usual
    noise: Noise

    @classmethod
    def init(cls, radius: float, dimension: int, level: Any) -> "Trust":
        """The state before the first round: a step may be as long as that round looks far."""
        mu = jnp.array(radius, scalar_dtype(), copy=True)
        # Each array is a buffer of its own, so that the state can be donated.
        zeros = [jnp.zeros((), mu.dtype) for _ in range(6)]
        undone, limit = jnp.zeros((), jnp.int32), mu * math.sqrt(dimension)
        back, rise = jnp.zeros((), bool), jnp.zeros((), mu.dtype)
        known: list[Any] = [
            TraceAverage.init(),
            *zeros,
            undone,
            back,
            rise,
            Usual.init(),
            Noise.init(level),
        ]
        return cls(mu, limit, *known)

    @property
    def model(self) -> jax.Array:
        """c, or 0 where no curvature is known yet."""
        return self.curvature / jnp.where(self.weight > 0, self.weight, 1)

    def without_step(self) -> "Trust":
        """The state after a round that took no step: the next round has none to judge."""
        zero = jnp.zeros_like(self.squared_length)
        return self._replace(squared_length=zero)


@dataclasses.dataclass(frozen=True)
class StepRules:
    """The rules for the length of a step.

    Attributes:
      looking: for how far a round looks, and which differences mean something.
      share: the multiple of Σ_k s_k u_k that is the best step where c = 1; from the directions.
      decay: of the averages, in one round.
      auto: whether noise is looked for.
      noisy: the rules under noise.
    """

    looking: RadiusRules
    share: jax.Array | float
    decay: jax.Array | float
    auto: bool
    noisy: NoiseRules

    @classmethod
    def of(
        cls, layout: Layout, directions: Directions, rounds: Rounds, *, memory: Any, noise: Any
    ) -> "StepRules":
        """The rules for rounds of these directions; ``memory`` is a number of slopes."""
        num_directions = rounds.num_directions
        looking = RadiusRules.of(layout, rounds)
        share = directions.shrinkage(num_directions, layout) / num_directions
        return cls(
            looking,
            share,
            jnp.exp(-num_directions / memory),
            looked_for(noise),
            NoiseRules(share, ROUNDING * looking.epsilon),
        )

    @property
    def dimension(self) -> int:
        """d, the number of parameters that are perturbed."""
        return self.looking.dimension

    def sift(self, trust: Trust, queries: Queries) -> tuple[Queries, Trust]:
        """A round of queries with NaN for outliers."""
        rounding = self.looking.rounding(queries.origin)
        queries, usual = trust.usual.sift(queries, trust.origin, self.dimension, rounding)
        return queries, trust._replace(usual=usual)

    def judge(self, trust: Trust, origin: jax.Array, lost: jax.Array) -> tuple[Trust, jax.Array]:
        """What the last step taught, now that f(θ) is known; and whether it must be taken back.

        Args:
          origin: f(θ). Where it or the one before is not finite, nothing is learnt.
          lost: whether f has no value at half of the points around θ either.
        """
        pending = trust.squared_length > 0
        known = pending & jnp.isfinite(origin) & jnp.isfinite(trust.origin)
        squared_length = jnp.where(pending, trust.squared_length, 1)
        change = jnp.where(known, origin - trust.origin, 0)
        noise = self.looking.error(trust.origin, origin, trust.noise)
        trust, noisy = self._find_noise(trust, origin)
        promised = trust.slope + trust.model * squared_length / 2
        missing = pending & ~jnp.isfinite(origin)
        failed = missing | known & ~noisy & (change > jnp.abs(promised) + noise)
        length = jnp.sqrt(squared_length)
        limit = self._limit(trust.limit, length, change, promised, noise, failed)
        # Where only f(θ) is missing, a query may have crashed, and nothing be wrong with the step.
        limit = jnp.where(missing & ~lost, length, limit)
        limit = jnp.maximum(limit, SHORTEST * math.sqrt(self.dimension) * trust.radius)
        measured = self._measured(trust, change, squared_length, noise)
        gain = jnp.where(known & ~noisy, 1 - self.decay, 0)
        trust = trust._replace(
            rise=change,
            limit=jnp.where(failed | known & ~noisy, limit, trust.limit),
            curvature=trust.curvature + gain * (measured - trust.curvature),
            weight=trust.weight + gain * (1 - trust.weight),
        )
        return trust, failed

    def _find_noise(self, trust: Trust, origin: jax.Array) -> tuple[Trust, jax.Array]:
        """Noisy from now on, if f(θ) is another than before the step that was taken back."""
        difference = jnp.abs(origin - trust.origin)
        harm = jnp.maximum(
            3 * self.looking.error(trust.origin, origin, trust.noise), HARM * trust.rise
        )
        found = self.auto & trust.returned & jnp.isfinite(difference) & (difference > harm)
        found |= trust.noise.found
        trust = trust._replace(
            returned=jnp.zeros_like(trust.returned), noise=trust.noise._replace(found=found)
        )
        return trust, found

    def heard(
        self, trust: Trust, origin: jax.Array, values: jax.Array, asked: Asked
    ) -> tuple[Trust, jax.Array]:
        """The state after two more values; and whether the way to θ did harm."""
        before = jnp.where(trust.squared_length > 0, trust.origin, jnp.nan)
        believed = trust.usual.believes(values, origin, self.dimension)
        values = jnp.where(believed, values, jnp.nan)
        noise, harm = self.noisy.heard(trust.noise, values, origin, before, asked)
        return trust._replace(noise=noise), harm

    def slopes(self, trust: Trust, queries: Queries, norms: jax.Array) -> tuple[jax.Array, Trust]:
        """s_k, [K], zero where a query was dropped; and the state with this round in its trace.

        Args:
          queries: of this round, with f(θ).
          norms: ‖u_k‖², [K], in the metric.
        """
        d = self.dimension
        bends, valid = curvatures(queries)
        valid &= norms > 0
        samples = jnp.where(valid, bends * (d / jnp.where(norms > 0, norms, 1)), 0)
        trace = trust.trace.add_samples(samples, valid, decay=self.decay)
        if queries.stencil.paired:
            slopes = jnp.where(valid, queries.odd, 0) / queries.radii
        else:
            # The first round has no past and takes its own trace.
            old, new = (average.estimate.trace for average in (trust.trace, trace))
            known = jnp.where(trust.trace.weight > 0, old, new)
            if self.auto:
                own = _trace_of_round(known, samples, valid)
                known = jnp.where(trust.noise.found, own, known)
            rise = jnp.where(valid, past(known).rise(queries.radii, norms, d), 0)
            slopes = queries.radii / 2 * bends - rise / queries.radii
        return slopes, trust._replace(trace=trace)

    def decide(
        self,
        trust: Trust,
        queries: Queries,
        slopes: jax.Array,
        length: jax.Array,
        origin: jax.Array,
    ) -> tuple[jax.Array, Trust]:
        """m of the step −m Σ_k s_k u_k; and the state with what the next round needs to judge it.

        Args:
          queries: of this round.
          slopes: s_k, [K].
          length: ‖Σ_k s_k u_k‖ in the metric.
          origin: f(θ) as it was answered; the one in ``queries`` may stand in for it.
        """
        assert queries.origin is not None
        trust = self._with_first_curvature(trust, queries)
        finite, some = jnp.isfinite(queries.origin), jnp.where(length > 0, length, 1)
        best = self.share / jnp.maximum(trust.model, TINY)
        moves = (trust.weight > 0) & finite & (length > 0) & jnp.isfinite(length)
        first = jnp.minimum(best, trust.limit / some)
        square = jnp.square(length)
        trace = TraceEstimate(*(x / self.dimension for x in trust.trace.estimate))
        noisy = self.noisy.multiple(trust.noise, trace, first)
        multiple = jnp.where(trust.noise.found, noisy, first)
        multiple = jnp.where(moves, multiple, 0)
        noise = self.noisy.stepped(trust.noise, multiple, square)
        multiple *= jnp.where(trust.noise.found, self.noisy.cut(trust.noise, square), 1)
        squared_length = jnp.square(multiple * some)
        going = trust._replace(
            radius=self.looking.following(queries, squared_length, trust.model, trust.noise),
            origin=jnp.where(jnp.isfinite(origin), origin, jnp.inf),
            slope=-multiple * jnp.sum(jnp.square(slopes)),
            squared_length=squared_length,
            slope_error=self._slope_error(trust, queries, multiple * jnp.abs(jnp.sum(slopes))),
            noise=noise,
        )
        # A walk that took noise for curvature has looked nearer and nearer: it begins anew.
        new = trust.noise.found & (trust.noise.num_rounds == 1) & (trust.noise.usual > 0)
        started = self._started(trust)
        trust = jax.tree.map(lambda x, y: jnp.where(new, x, y), started, going)
        return jnp.where(new, 0, multiple), trust

    def _started(self, trust: Trust) -> Trust:
        """The state before the first noisy step."""
        fresh = Trust.init(self.looking.first, self.dimension, 0.0)
        old, first = trust.noise, fresh.noise
        noise = first._replace(
            found=old.found, num_rounds=old.num_rounds, variance=old.variance, weight=old.weight
        )
        usual = fresh.usual._replace(num_outliers=trust.usual.num_outliers)
        return fresh._replace(noise=noise, num_undone=trust.num_undone, usual=usual)

    def taken_back(self, trust: Trust) -> Trust:
        """The state after a round that took a step back, with a radius for shorter steps."""
        least = self.looking.least(trust.origin, trust.model, trust.noise)
        short = jnp.maximum(trust.limit / math.sqrt(self.dimension), least)
        harm = trust.noise.found & (trust.noise.mean_multiple == 0)
        short = jnp.where(trust.noise.found, trust.radius / jnp.where(harm, SHORTER, 1), short)
        return trust.without_step()._replace(
            radius=jnp.minimum(trust.radius, short),
            num_undone=optax.safe_increment(trust.num_undone),
            returned=jnp.ones_like(trust.returned),
        )

    def _limit(self, limit, length, change, promised, noise, failed) -> jax.Array:
        """The trust region's next radius, from the change that was had and that was promised."""
        # Where noise hides what was promised, the two are taken for equal.
        clear = promised < -noise
        ratio = jnp.where(clear, change / jnp.where(clear, promised, -1), 1)
        limit = jnp.where(ratio > 0.5, jnp.maximum(limit, 2 * length), limit)
        limit = jnp.where(ratio < 0.25, length / 2, limit)
        return jnp.where(failed, length / 4, limit)

    def _measured(self, trust: Trust, change, squared_length, noise) -> jax.Array:
        """|κ| of the last step, and half of c for as much of it as is hidden by errors.

        A step that is too short to show its curvature so halves c, and the next ones are longer.
        """
        measured = jnp.abs(2 * (change - trust.slope) / squared_length)
        error = 2 * (noise + trust.slope_error) / squared_length
        weight = 1 / (1 + jnp.square(error / jnp.maximum(trust.model, TINY)))
        weight = jnp.where(jnp.isfinite(measured) & jnp.isfinite(weight), weight, 0)
        return jnp.where(weight > 0, weight * measured, 0) + (1 - weight) * trust.model / 2

    def _with_first_curvature(self, trust: Trust, queries: Queries) -> Trust:
        """The state with a c from the trace, if it has none yet and this round shows curvature."""
        trace, error = trust.trace.estimate
        # Twice the standard error, if that is more; infinite where the error is not known.
        guess = jnp.maximum(jnp.abs(trace), 2 * error) / self.dimension
        visible = self.looking.is_visible(queries, trust.noise)
        first = (trust.weight == 0) & jnp.isfinite(guess) & (guess > 0) & visible
        gain = 1 - self.decay
        return trust._replace(
            curvature=jnp.where(first, gain * guess, trust.curvature),
            weight=jnp.where(first, gain, trust.weight),
        )

    def _slope_error(self, trust: Trust, queries: Queries, total: jax.Array) -> jax.Array:
        """The standard error of s·p; ``total`` is m |Σ_k s_k|."""
        if queries.stencil.paired:
            return jnp.zeros((), total.dtype)
        error = trust.trace.estimate.standard_error
        return total * queries.radius / 2 * jnp.where(jnp.isfinite(error), error, 0)


def _trace_of_round(known: jax.Array, samples: jax.Array, valid: jax.Array) -> jax.Array:
    """The trace of this round's objective: the known one, unless the samples are far away from it.

    A batch has a trace of its own, and where it is a thousand times the usual one, or the last one
    was, slopes with another baseline have a common error that leads away. So has the noise of f(θ)
    itself, where each query has its own. The nearer the samples' mean is to what is known, the less
    of it counts (a positive-part James-Stein estimate).
    """
    count = jnp.sum(valid).astype(samples.dtype)
    mean = jnp.sum(samples) / jnp.maximum(count, 1)
    squares = jnp.sum(jnp.where(valid, jnp.square(samples - mean), 0))
    error = jnp.sqrt(squares / jnp.maximum(count * (count - 1), 1))
    difference = mean - known
    doubt = SURE * (1 + 4 / jnp.maximum(count - 1, 1)) * error
    far = (count > 1) & (jnp.abs(difference) > doubt)
    share = 1 - jnp.square(doubt / jnp.where(far, difference, 1))
    return known + jnp.where(far, share * difference, 0)


__all__ = ["StepRules", "Trust"]
