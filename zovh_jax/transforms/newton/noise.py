"""Noise: how it is found, how large it is, and how long a step is under it.

On an exact objective the rules of `trust` compare f(θ) of two rounds. On a minibatch's loss, or on
a simulator, those are values of two functions: what they differ by is not what the step did.

Noise is found where it does harm, and costs nothing before. After a step was taken back, f(θ) is
asked where it was asked before: two values that differ by more than rounding are of a noisy
objective. Then the walk begins anew: what it took for curvature was noise, and it has looked nearer
and nearer. From then on a round, and later every other one, asks two values more, f(θ + rp) and
f(θ − rp).

Mostly p is the way of the last n rounds. They give the slope and the curvature along p of *this*
round's objective. The slopes that chose p were other rounds', so that nothing here is chosen by its
own noise. n is a quarter of the noisy rounds so far. Along a single step the slope is nearly all
noise where batches are small; along n steps what they have in common is n times as large, and the
noise √n times. r is 1, or more where p is shorter than a round looks.

Of eight rounds that ask, two have the last step for p:

- one has an r so small that f(θ + rp) − 2f(θ) + f(θ − rp) is nothing but the noise within a round,
  which is zero where all queries share a batch. (f(θ) itself is not asked again: a simulator whose
  noise is a function of its inputs would give the same value.)
- another one compares f(θ − p) with the f(θ) of the round before. Where they are equal twice in a
  row, the objective is exact again.

A step is −m g, g = Σ_k s_k u_k, and the way of n rounds is p = −m G, where the trail G is the sum
of g over them. With the slope −αm‖G‖² at its start, and the curvature κm²‖G‖² along it, f changes
by −αm‖G‖² + ½κm²‖G‖², and the best m is α/κ: had it been taken in these n rounds, f would be least
now. Both are averages over past rounds, weighed by ‖G‖², so that noise averages out before anything
is divided by it. α is what is left of the `shrinkage` of the directions, which it never exceeds.
Steps that are too long cost more than steps that are too short: α is its estimate less two standard
errors. Where the estimate is all error, α may be as large as in the first rounds: no step at all
would never be seen to be too short. m changes by a factor of 1.5 a round at most, and grows
only where the next round asks. Where κ is less than two standard errors it grows no farther than to
twice its average along the way: α/κ may be anything then, and where f is bounded no harm would show
how far that led. A gradient of more than twice the usual length is cut to that.

Averages are slow where f bends the more the farther steps lead. So a way that did harm is taken
back: where f(θ) is above f(θ − rp) by several times what f(θ) usually changes by from round to
round, which is mostly noise, the next θ is θ − p, m is a quarter, and what was known of other ways
is forgotten. A round whose f(θ) has risen by as much looks back at once, whether or not it is its
turn: p is the last step, if that is longer than the way.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import scalar_dtype
from zovh_jax.estimators.trace import TraceEstimate
from zovh_jax.transforms.newton.ways import Ways

DENSE, EVERY = 24, 2
"""In the first so many noisy rounds each asks two values more, and then one of so many."""
PERIOD = 8 * EVERY
"""Of so many noisy rounds one looks near, and another one compares with the last round."""
FIRST_NEAR = 3
"""Of the first noisy rounds so many look near."""
NEWEST = 0.2
"""What the last measurement of the noise counts for; a level that was told counts for half."""
NEAR = 1 / 8
"""r of a round that looks near."""
HORIZON = 1 / 4
"""n, the rounds whose way is judged, over all noisy ones; averages along it remember 2n ways."""
ERRORS = 2
"""How many standard errors of α are taken off its estimate; κ is unsure below as many of its."""
FIRST, FIRST_ROUNDS = 0.01, 5
"""α of the first rounds, in units of the shrinkage, and how fast that is forgotten."""
LEAST = 0.001
"""The least α, in units of the shrinkage."""
CHANGE = 1.5
"""The largest change of the multiple in a round."""
GROWN, LONGEST = 2, 2
"""The largest multiple over its average along the way, where that has shown no sure curvature; and
the largest average over the last multiple."""
WILD = 2
"""The longest gradient that is believed, over the usual one."""
USUAL = 0.9
"""The decay of the usual length, in one round."""
ALARM = 6
"""The least harm, over the usual change of f(θ) from round to round."""
UNLIKE = 2
"""A rise along p counts if it is so many times what f(θ − p) is above the last round's f(θ)."""
CALM = 16
"""So many changes of f(θ) are seen before any is taken for harm."""
HARM = 0.01
"""The least noise that is told from rounding, over the rise for which a step was taken back."""
SHORTER = 4
"""A multiple that led to harm over the next one."""


class Asked(NamedTuple):
    """Where two values more are asked, θ ± rp.

    Attributes:
      last: whether p is the last step; otherwise it is the way of many.
      reach: r.
      alarm: whether f(θ) has risen so much that this round looks back.
      square: ‖p‖².
    """

    last: jax.Array
    reach: jax.Array
    alarm: jax.Array
    square: jax.Array


class Noise(NamedTuple):
    """What is known about the noise of the objective's values, and about steps under it.

    Attributes:
      found: whether the objective is taken for noisy.
      num_rounds: noisy rounds since then.
      num_quiet: how many comparisons in a row showed no noise.
      num_changes: how many times f(θ) was another than in the round before.
      variance, weight: Σ w e² and Σ w over rounds that looked near.
      multiple: m.
      mean_multiple: the average of m over the trail.
      usual: the average of ‖g‖².
      swing: the average size of the changes of f(θ).
      trail: ‖G‖².
      ways: α and κ along past ways.
    """

    found: jax.Array
    num_rounds: jax.Array
    num_quiet: jax.Array
    num_changes: jax.Array
    variance: jax.Array
    weight: jax.Array
    multiple: jax.Array
    mean_multiple: jax.Array
    usual: jax.Array
    swing: jax.Array
    trail: jax.Array
    ways: Ways

    @classmethod
    def init(cls, level: Any) -> "Noise":
        """Before the first round; noisy from the start where a level is told."""
        # Each array is a buffer of its own, so that the state can be donated.
        told = [jnp.array(level, scalar_dtype(), copy=True) for _ in range(3)]
        zeros = [jnp.zeros((), scalar_dtype()) for _ in range(5)]
        counts = [jnp.zeros((), jnp.int32) for _ in range(3)]
        weight = jnp.where(told[2] > 0, NEWEST / 2, 0.0).astype(scalar_dtype())
        known: list[Any] = [*counts, weight * jnp.square(told[1]), weight, *zeros, Ways.init()]
        return cls(told[0] > 0, *known)

    @property
    def curvature(self) -> jax.Array:
        """κ along past ways; 0 where none is known."""
        return self.ways.means[..., 1]

    @property
    def level(self) -> jax.Array:
        """The standard deviation of a value's own noise, within a round; 0 where none is found."""
        level = jnp.sqrt(self.variance / jnp.where(self.weight > 0, self.weight, 1))
        return jnp.where(self.found, level, 0)

    @property
    def looks_near(self) -> jax.Array:
        """Whether this noisy round shows the noise within it."""
        return (self.num_rounds % PERIOD == 0) | (self.num_rounds < FIRST_NEAR)

    @property
    def compares(self) -> jax.Array:
        """Whether this noisy round asks f(θ − p), to be compared with the last round's f(θ)."""
        return self.num_rounds % PERIOD == PERIOD // 2

    @property
    def asks(self) -> jax.Array:
        """Whether this round asks two values more: later on, every other noisy round."""
        return self.found & ((self.num_rounds < DENSE) | (self.num_rounds % EVERY == 0))

    def is_harm(self, rise: jax.Array) -> jax.Array:
        """Whether a rise of f is far more than noise; False for NaN."""
        return self.is_swing_known & jnp.isfinite(rise) & (rise > ALARM * self.swing)

    @property
    def is_swing_known(self) -> jax.Array:
        """Whether enough changes of f(θ) were seen."""
        return self.found & (self.num_changes >= CALM) & (self.swing > 0)

    def passed(self, change: jax.Array) -> "Noise":
        """After a round, noisy or not; f(θ) has changed so much since the last one, or by NaN."""
        known = self.found & jnp.isfinite(change) & (change != 0)
        gain = jnp.maximum(1 - USUAL, 1 / (1 + self.num_changes.astype(change.dtype)))
        # Harm is no noise; where noise has grown, this grows by half a round.
        most = jnp.where(self.is_swing_known, ALARM * self.swing, jnp.inf)
        size = jnp.minimum(jnp.abs(change), most)
        more = jnp.where(known, gain * (size - self.swing), 0)
        return self._replace(
            num_rounds=self.num_rounds + self.found.astype(self.num_rounds.dtype),
            num_changes=self.num_changes + known.astype(self.num_changes.dtype),
            swing=self.swing + more,
        )

    def forgotten(self) -> "Noise":
        """Without what is known along past ways."""
        return self._replace(ways=Ways.init())

    def taken_back(self) -> "Noise":
        """After a way, or a step, was taken back: a new way of shorter steps."""
        zero = jnp.zeros_like(self.trail)
        return self._replace(multiple=self.multiple / SHORTER, mean_multiple=zero, trail=zero)

    @property
    def horizon(self) -> jax.Array:
        """n."""
        return jnp.maximum(HORIZON * self.num_rounds.astype(self.trail.dtype), 1)

    @property
    def fading(self) -> jax.Array:
        """What is left of the trail after one more round; nothing where noise is new."""
        return 1 - 1 / self.horizon

    @property
    def squared_way(self) -> jax.Array:
        """The squared length of the way of the last n rounds."""
        return jnp.square(self.mean_multiple) * self.trail

    def ask(self, alarm: jax.Array, step: jax.Array, far: jax.Array) -> Asked:
        """What a noisy round asks.

        Args:
          alarm: whether f(θ) has risen so much that this round looks back.
          step: ‖p‖² of the last step.
          far: how far the round looks.
        """
        way = self.squared_way
        last = jnp.where(alarm, step > way, self.looks_near | self.compares)
        square = jnp.where(last, step, way)
        length = jnp.sqrt(jnp.where(square > 0, square, jnp.inf))
        turns = [alarm, self.looks_near, self.compares]
        reach = jnp.select(turns, [1.0, NEAR, 1.0], jnp.maximum(1, far / length))
        return Asked(last, reach, alarm, square)


@dataclasses.dataclass(frozen=True)
class NoiseRules:
    """How noise is measured, and the multiple of a step under it.

    Attributes:
      share: α without noise.
      rounding: the relative rounding error of a value.
    """

    share: Any
    rounding: float

    def heard(
        self,
        noise: Noise,
        values: jax.Array,
        origin: jax.Array,
        before: jax.Array,
        asked: Asked,
    ) -> tuple[Noise, jax.Array]:
        """After a noisy round; and whether p did harm.

        Args:
          noise: as it was.
          values: f(θ + rp) and f(θ − rp), [2].
          origin: f(θ).
          before: f(θ) of the round before, NaN where there was no step.
          asked: what was asked.
        """
        slope = (values[0] - values[1]) / (2 * asked.reach)
        second = values[0] + values[1] - 2 * origin
        bend = second / asked.reach**2
        near = self._measured(noise, jnp.square(second) / 6, jnp.isfinite(before))
        same = self._compared(noise, values[1], before)
        # A batch that is unlike the others has much higher values at both points.
        rise, unlike = origin - values[1], values[1] - before
        along_way = (asked.alarm | ~asked.last) & (asked.square > 0)
        harm = noise.is_harm(rise) & ~(rise < UNLIKE * unlike) & along_way
        known = _where(harm, noise.forgotten(), noise)
        along = self._probed(known, asked, slope - bend, bend)
        # A round that asks because its f(θ) is high is no fair sample.
        turns = [harm, asked.alarm, noise.looks_near, noise.compares]
        options = along.taken_back(), noise, near, same
        noise = jax.tree.map(lambda x, *xs: jnp.select(turns, xs, x), along, *options)
        # What was learnt is forgotten once the objective is exact.
        fresh = Noise.init(0.0)._replace(multiple=noise.multiple, usual=noise.usual)
        return _where(noise.found, noise, fresh), harm

    def _measured(self, noise: Noise, square: jax.Array, known: jax.Array) -> Noise:
        """With e² of one more round."""
        gain = jnp.where(jnp.isfinite(square) & known, NEWEST, 0)
        square = jnp.where(gain > 0, square, 0)
        return noise._replace(
            variance=noise.variance + gain * (square - noise.variance),
            weight=noise.weight + gain * (1 - noise.weight),
        )

    def _compared(self, noise: Noise, now: jax.Array, before: jax.Array) -> Noise:
        """With two values at one point, of two rounds."""
        size = jnp.maximum(jnp.abs(now), jnp.abs(before))
        quiet = jnp.abs(now - before) <= 3 * self.rounding * size
        num_quiet = jnp.where(quiet, noise.num_quiet + 1, 0)
        return noise._replace(num_quiet=num_quiet, found=num_quiet < 2)

    def _probed(self, noise: Noise, asked: Asked, slope: jax.Array, bend: jax.Array) -> Noise:
        """With the slope where the way began, and the curvature, both along p = −m G."""
        known = (asked.square > 0) & jnp.isfinite(slope) & jnp.isfinite(bend)
        m = jnp.where(asked.last, noise.multiple, noise.mean_multiple)
        m, usual = (jnp.where(known, x, 1) for x in (m, noise.usual))
        weight = asked.square / (m**2 * usual)
        products = jnp.stack([-slope / (m * usual), bend / (m**2 * usual)])
        decay = jnp.exp(-1 / jnp.maximum(4, 2 * noise.horizon))
        ways = noise.ways.add(weight, products, decay)
        return noise._replace(ways=_where(known, ways, noise.ways))

    def multiple(self, noise: Noise, trace: TraceEstimate, first: jax.Array) -> jax.Array:
        """m of the next step.

        Args:
          noise: what is known.
          trace: of the Hessian, over d: half of it is the least κ that is believed, if it is sure.
          first: the largest m of a step that has no other before it.
        """
        known = noise.ways.is_known
        (estimate, bend), (error, doubt) = noise.ways.means, noise.ways.errors
        start = FIRST * self.share
        least = jnp.minimum(estimate + error, start)
        early = jnp.exp(-noise.num_rounds.astype(error.dtype) / FIRST_ROUNDS)
        alpha = early * start + (1 - early) * jnp.maximum(estimate - ERRORS * error, least)
        alpha = jnp.clip(alpha, LEAST * self.share, self.share)
        trace_now, trace_error = jnp.abs(trace.trace), 2 * trace.standard_error
        # Values that are close together show little of the trace: what is unsure is no bound.
        least_bend = jnp.where(trace_now > trace_error, trace_now, 0) / 2
        kappa = jnp.maximum(bend, least_bend)
        kappa = jnp.where(known, kappa, trace_now + trace_error)
        m = noise.multiple
        # Without curvature that is sure the step grows as long as it surely leads downhill, but not
        # far beyond the way along which none was seen: noise may have hidden it there.
        farther = jnp.minimum(CHANGE * m, jnp.maximum(m, GROWN * noise.mean_multiple))
        flat = jnp.where(alpha > start, farther, m)
        best = jnp.where(kappa > 0, alpha / jnp.where(kappa > 0, kappa, 1), flat)
        unsure = known & (m > 0) & (kappa <= ERRORS * doubt)
        best = jnp.where(unsure, jnp.minimum(best, farther), best)
        # The multiple of exact steps is no lower bound: it may be far too large. A larger one is
        # judged at once: it waits for the round before one that asks.
        lowest = jnp.where(known, m / CHANGE, 0)
        highest = jnp.where(noise.asks, CHANGE * m, m)
        return jnp.where(m > 0, jnp.clip(best, lowest, highest), jnp.minimum(best, first))

    def cut(self, noise: Noise, square: jax.Array) -> jax.Array:
        """The share that is taken of a gradient with this ‖g‖²."""
        longest = WILD * jnp.sqrt(noise.usual / jnp.where(square > 0, square, 1))
        return jnp.where((noise.usual > 0) & (square > 0), jnp.minimum(1, longest), 1)

    def stepped(self, noise: Noise, multiple: jax.Array, square: jax.Array) -> Noise:
        """With a step of this m before it was cut; an m of 0 is no step."""
        new = jnp.where(noise.usual > 0, jnp.minimum(square, 10 * noise.usual), square)
        gain = jnp.where(noise.usual > 0, 1 - USUAL, 1)
        gain = jnp.where(jnp.isfinite(square), gain, 0)
        m, mean = multiple, noise.mean_multiple
        mean = jnp.where(mean > 0, noise.fading * mean + (1 - noise.fading) * m, m)
        # Where m falls fast, the way would seem the longer the less is walked.
        mean = jnp.minimum(mean, LONGEST * m)
        return noise._replace(
            multiple=jnp.where(m > 0, m, noise.multiple),
            mean_multiple=jnp.where(m > 0, mean, noise.mean_multiple),
            usual=noise.usual + gain * (jnp.where(gain > 0, new, 0) - noise.usual),
        )


def _where(condition: jax.Array, tree: Any, other: Any) -> Any:
    return jax.tree.map(lambda x, y: jnp.where(condition, x, y), tree, other)


def looked_for(noise: Any) -> bool:
    """Whether noise is looked for: unless the objective is said to be exact."""
    return not (isinstance(noise, (int, float)) and noise == 0)


__all__ = ["HARM", "SHORTER", "Asked", "Noise", "NoiseRules", "looked_for"]
