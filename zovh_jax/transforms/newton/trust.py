"""How long a step is without a learning rate: what the Newton optimisers of one curvature share.

The model of a step p = −m Σ s_k u_k, from slopes s_k along directions u_k, is s·p + ½ c ‖p‖². The
next round's f(θ) tells what the step did, and so, slopes being known, the curvature along it:
κ = 2 (Δf − s·p)/‖p‖². c is an exponential average of |κ|; before there is one, of the trace over d.
Where what happened is not what the model said, steps are bounded by a trust region; a step that
made things worse than the model had promised them better, or not finite, is taken back.

Slopes of forward queries are (F_k − b_k)/μ with b_k = f(θ) + ½μ² τ‖u_k‖², τ the trace over d from
*past* rounds: independent of u_k, so unbiased, and on an isotropic quadratic without any noise.
Those of pairs need no τ. Lengths are in the metric in which directions have E‖u‖² = d.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype
from zovh_jax.baselines import past
from zovh_jax.directions import Directions
from zovh_jax.estimators.trace import TraceAverage
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries
from zovh_jax.stencils import Stencil

ROUNDING = 10
"""Rounding errors of a value, in units of its last digit."""
TINY = 1e-30
"""The least curvature."""
LARGEST = 1e3
"""Up to where μ grows as long as nothing is seen."""


class Trust(NamedTuple):
    """What an optimiser knows about the length of its next step.

    Attributes:
      radius: μ of the next round.
      limit: the longest step to be trusted.
      trace: the average of the trace.
      curvature, weight: Σ w |κ| and Σ w of the average of the curvature along steps.
      origin: f(θ) where the last step started.
      slope: s·p of the last step, 0 or below.
      squared_length: ‖p‖² of it; 0 where there is none to be judged.
      slope_error: the standard error of its slope that comes from τ.
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


@dataclasses.dataclass(frozen=True)
class Steps:
    """The rules; d and the share of a slope that a step may take are fixed by the directions.

    Attributes:
      dimension: d, of what is perturbed.
      share: what the sum of slopes times directions is multiplied by where c = 1.
      decay: of the averages, a round.
      noise: standard deviation of a value, beyond rounding.
      epsilon: the relative rounding error of a value, at best: that of the parameters, or float32.
    """

    dimension: int
    share: jax.Array | float
    decay: jax.Array | float
    noise: jax.Array | float
    epsilon: float

    @classmethod
    def of(
        cls, layout: Layout, directions: Directions, num_directions: int, *, memory: Any, noise: Any
    ) -> "Steps":
        """The rules for rounds of such directions, a memory in slopes, and values' noise."""
        epsilons = [float(jnp.finfo(direction_dtype(dtype)).eps) for dtype in layout.dtypes]
        return cls(
            layout.size,
            directions.shrinkage(num_directions, layout) / num_directions,
            jnp.exp(-num_directions / memory),
            noise,
            max(epsilons, default=0.0),
        )

    def judge(self, trust: Trust, origin: jax.Array) -> tuple[Trust, jax.Array]:
        """What the last step says, now that f(θ) is known; and whether it must be taken back."""
        pending, finite = trust.squared_length > 0, jnp.isfinite(origin)
        squared_length = jnp.where(pending, trust.squared_length, 1)
        length = jnp.sqrt(squared_length)
        change = jnp.where(pending & finite, origin - trust.origin, 0)
        noise = self._noise(trust.origin, origin)
        model = _average(trust)
        promised = trust.slope + model * squared_length / 2
        failed = pending & (~finite | (change > jnp.abs(promised) + noise))
        # Where rounding hides what was promised, nothing is learned.
        clear = promised < -noise
        ratio = jnp.where(clear, change / jnp.where(clear, promised, -1), 1)
        limit = jnp.where(ratio > 0.5, jnp.maximum(trust.limit, 2 * length), trust.limit)
        limit = jnp.where(ratio < 0.25, length / 2, limit)
        limit = jnp.where(failed, length / 4, limit)

        measured = jnp.abs(2 * (change - trust.slope) / squared_length)
        error = 2 * (noise + trust.slope_error) / squared_length
        weight = 1 / (1 + jnp.square(error / jnp.maximum(model, TINY)))
        weight = jnp.where(jnp.isfinite(measured) & jnp.isfinite(weight), weight, 0)
        # Where a step is too short to show curvature, half of what was believed: steps get longer.
        measured = jnp.where(weight > 0, weight * measured, 0) + (1 - weight) * model / 2
        gain = jnp.where(pending & finite, 1 - self.decay, 0)
        trust = trust._replace(
            limit=jnp.where(pending, limit, trust.limit),
            curvature=trust.curvature + gain * (measured - trust.curvature),
            weight=trust.weight + gain * (1 - trust.weight),
        )
        return trust, failed

    def anchored(self, queries: Queries) -> Queries:
        """With the mean of the finite values for an f(θ) that is not, so as to get away from it."""
        assert queries.origin is not None
        valid, n = queries.valid, jnp.sum(queries.valid)
        mean = jnp.sum(jnp.where(valid, queries.even, 0)) / jnp.maximum(n, 1).astype(
            queries.even.dtype
        )
        origin = jnp.where(jnp.isfinite(queries.origin) | (n == 0), queries.origin, mean)
        return dataclasses.replace(queries, origin=origin)

    def slopes(self, trust: Trust, queries: Queries, norms: jax.Array) -> tuple[jax.Array, Trust]:
        """s_k, [K], zero where a query was dropped; and the trace with this round in it.

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
            # The first round is its own past.
            old, new = (average.estimate.trace for average in (trust.trace, trace))
            baseline = past(jnp.where(trust.trace.weight > 0, old, new))
            rise = jnp.where(valid, baseline.rise(queries.radii, norms, d), 0)
            slopes = queries.radii / 2 * bends - rise / queries.radii
        return slopes, trust._replace(trace=trace)

    def decide(
        self, trust: Trust, queries: Queries, slopes: jax.Array, length: jax.Array
    ) -> tuple[jax.Array, Trust]:
        """m, for the step −m Σ s_k u_k; and what there will be to judge.

        Args:
          queries: of this round.
          slopes: s_k, [K].
          length: ‖Σ s_k u_k‖ in the metric.
        """
        assert queries.origin is not None
        error = trust.trace.estimate.standard_error
        guess = self._guess(trust)
        bends, valid = curvatures(queries)
        rise = jnp.max(jnp.abs(bends)) * jnp.square(queries.radius) / 2
        visible = rise > self._noise(queries.origin, queries.origin)
        start = (trust.weight == 0) & jnp.isfinite(guess) & (guess > 0) & visible
        gain = 1 - self.decay
        trust = trust._replace(
            curvature=jnp.where(start, gain * guess, trust.curvature),
            weight=jnp.where(start, gain, trust.weight),
        )
        curvature = jnp.maximum(_average(trust), TINY)
        known = (trust.weight > 0) & jnp.isfinite(queries.origin)
        some = jnp.where(length > 0, length, 1)
        multiple = jnp.minimum(self.share / curvature, trust.limit / some)
        moves = (length > 0) & jnp.isfinite(length)
        multiple = jnp.where(known & moves, multiple, 0)
        squared_length = jnp.square(multiple * some)
        radius, error_of_slope = queries.radius, jnp.zeros((), curvature.dtype)
        if not queries.stencil.paired:
            spread = jnp.where(jnp.isfinite(error), error, 0)
            error_of_slope = multiple * jnp.abs(jnp.sum(slopes)) * radius / 2 * spread
        wanted = jnp.sqrt(squared_length / self.dimension)
        wanted = jnp.maximum(wanted, self._least_radius(trust, queries.origin))
        wanted = jnp.clip(wanted, radius / 2, 2 * radius)
        # Nothing to be seen at this distance: below rounding, or all of it outside the domain.
        outside = jnp.isfinite(queries.origin) & ~jnp.any(valid)
        below = jnp.any(valid) & ~visible & (radius < LARGEST)
        other = jnp.where(outside, 0.5, jnp.where(below, 2.0, 1.0)).astype(radius.dtype)
        return multiple, trust._replace(
            radius=jnp.where(squared_length > 0, wanted, radius * other),
            origin=jnp.where(jnp.isfinite(queries.origin), queries.origin, trust.origin),
            slope=-multiple * jnp.sum(jnp.square(slopes)),
            squared_length=squared_length,
            slope_error=error_of_slope,
        )

    def taken_back(self, trust: Trust) -> Trust:
        """As there is no step to be judged, and the next will be short."""
        least = self._least_radius(trust, trust.origin)
        short = jnp.maximum(trust.limit / math.sqrt(self.dimension), least)
        radius = jnp.minimum(trust.radius, short)
        return trust._replace(radius=radius, squared_length=jnp.zeros_like(radius))

    def _least_radius(self, trust: Trust, origin: jax.Array) -> jax.Array:
        """μ with ½μ²·c·d five times what noise may be."""
        curvature = jnp.maximum(_average(trust), TINY)
        return jnp.sqrt(10 * self._noise(origin, origin) / (curvature * self.dimension))

    def _guess(self, trust: Trust) -> jax.Array:
        """The curvature according to the trace, or what it may be at most; infinite if unknown."""
        trace, error = trust.trace.estimate
        return jnp.maximum(jnp.abs(trace), 2 * error) / self.dimension

    def _noise(self, origin: jax.Array, other: jax.Array) -> jax.Array:
        """The least difference of two values that means something."""
        largest = jnp.maximum(jnp.abs(origin), jnp.where(jnp.isfinite(other), jnp.abs(other), 0))
        return 3 * self.noise + ROUNDING * self.epsilon * largest


def start(radius: float, dimension: int) -> Trust:
    """Before the first round: steps no longer than the distance that it looks at."""
    mu = jnp.array(radius, scalar_dtype(), copy=True)
    # Each an array of its own, so that the state can be donated.
    zeros = [jnp.zeros((), mu.dtype) for _ in range(6)]
    return Trust(mu, mu * math.sqrt(dimension), TraceAverage.init(), *zeros)


def _average(trust: Trust) -> jax.Array:
    return trust.curvature / jnp.where(trust.weight > 0, trust.weight, 1)


def check(radius: float, noise: float, memory: float, stencil: Stencil) -> None:
    """Raises for settings that are none; also for a stencil without f(θ)."""
    _checks.positive("radius", radius)
    _checks.positive("memory", memory)
    _checks.nonnegative("noise", noise)
    if stencil.paired and not stencil.needs_origin:
        raise ValueError(
            f"stencil={stencil!r} does not ask for f(θ), by which steps are judged: use "
            "zo.stencils.forward() or three_point()."
        )


__all__ = ["Steps", "Trust", "check", "start"]
