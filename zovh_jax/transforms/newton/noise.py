"""Noise: how it is found, how large it is, and how long a step is under it.

On an exact objective the rules of `trust` compare f(θ) of two rounds. On a minibatch's loss, or on a
simulator, those are values of two functions: what they differ by is not what the step did.

Noise is found where it does harm. After a step was taken back, f(θ) is asked where it was asked
before; two values that differ by more than rounding are of a noisy objective. From then on a round
asks two values more. p is the last step, from θ_old to θ:

- probes: f(θ ± r p). They give slope and curvature along p, of this round's objective. The slopes
  that chose p were of another round, so that nothing here is chosen by its own noise.
- In one round of eight r is so small that f(θ + rp) − 2f(θ) + f(θ − rp) is nothing but the noise
  within a round, which is zero where all queries share a batch. (f(θ) itself is not asked again: a
  simulator whose noise is a function of its inputs would give the same value.)
- In another one r is 1, and f(θ − p) is compared with the f(θ_old) of the last round. Where they
  are equal twice in a row, the objective is exact again.

The step is −m g, g = Σ_k s_k u_k, and p = −m' g'. With the true slope −αm'‖g'‖² and the curvature
κ m'²‖g'‖² along p, the best multiple of g' was α/κ. α and κ are ratios of sums over past rounds, so
that noise averages out before anything is divided by it. α is never above what it is without noise,
the `shrinkage` of the directions, and the multiple changes by a factor of 1.5 a round at most.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import scalar_dtype

PERIOD = 8
"""Of so many noisy rounds one looks near, and another one compares with the last round."""
NEAR = 1 / 32
"""r of a round that looks near."""
MEMORY = 8
"""How many times as long the averages along steps are as those of curvature."""
import os
LOW = float(os.environ.get("LOW", 1e-3))
ERRORS = float(os.environ.get("ERRORS", 1))
LEAST = float(os.environ.get("LEAST", 0.05))
"""The least α, as a part of what it is without noise."""
CHANGE = 1.5
"""The largest change of the multiple in a round."""
HARM = 0.01
"""The least noise that is told from rounding, over the rise for which a step was taken back."""


class Noise(NamedTuple):
    """What is known about the noise of the objective's values, and about steps under it.

    Attributes:
      found: whether the objective is taken for noisy.
      num_rounds: noisy rounds so far.
      num_quiet: how many repeats in a row showed none.
      variance, weight: Σ w e² and Σ w over rounds that looked near.
      multiple, square: m' and ‖g'‖² of the last step.
      aligned, multiples: Σ w αm' and Σ w m'.
      bent, squares: Σ w κm'² and Σ w m'².
    """

    found: jax.Array
    num_rounds: jax.Array
    num_quiet: jax.Array
    variance: jax.Array
    weight: jax.Array
    multiple: jax.Array
    square: jax.Array
    aligned: jax.Array
    multiples: jax.Array
    bent: jax.Array
    squares: jax.Array
    usual: jax.Array
    aligned_squares: jax.Array
    mixed: jax.Array
    squares_2: jax.Array

    @classmethod
    def init(cls, level: Any) -> "Noise":
        """Before the first round; noisy where a level is given."""
        level = jnp.asarray(level, scalar_dtype())
        zeros = [jnp.zeros((), level.dtype) for _ in range(10)]
        counts = [jnp.zeros((), jnp.int32) for _ in range(2)]
        return cls(level > 0, *counts, jnp.square(level), (level > 0).astype(level.dtype), *zeros)

    @property
    def level(self) -> jax.Array:
        """The standard deviation of a value's own noise, within a round."""
        return jnp.sqrt(self.variance / jnp.where(self.weight > 0, self.weight, 1))

    @property
    def small(self) -> jax.Array:
        """Whether this noisy round looks near, to see the noise within it."""
        return self.num_rounds % PERIOD == 0

    @property
    def compares(self) -> jax.Array:
        """Whether this noisy round asks θ_old again."""
        return self.num_rounds % PERIOD == PERIOD // 2


@dataclasses.dataclass(frozen=True)
class NoiseRules:
    """How noise is told, and the multiple of a step under it.

    Attributes:
      share: α without noise.
      decay: of the averages along steps, in one round.
      rounding: the relative rounding error of a value.
    """

    share: Any
    decay: Any
    rounding: float

    def compared(self, noise: Noise, here, before) -> Noise:
        """After a round that asked θ_old again; NaN for what is not known."""
        size = jnp.maximum(jnp.abs(here), jnp.abs(before))
        quiet = jnp.abs(here - before) <= 3 * self.rounding * size
        num_quiet = jnp.where(quiet, noise.num_quiet + 1, 0)
        return noise._replace(num_quiet=num_quiet, found=num_quiet < 2)

    def measured(self, noise: Noise, plus, minus, origin) -> Noise:
        """After a round that looked near."""
        sample = jnp.square(plus + minus - 2 * origin) / 6
        known = jnp.isfinite(sample)
        gain = jnp.where(known, 0.3, 0)
        return noise._replace(
            variance=noise.variance + gain * (jnp.where(known, sample, 0) - noise.variance),
            weight=noise.weight + gain * (1 - noise.weight),
        )

    def probed(self, noise: Noise, plus, minus, origin, reach) -> Noise:
        """After f(θ ± r p) and f(θ)."""
        slope, bend = (plus - minus) / (2 * reach), (plus + minus - 2 * origin) / reach**2
        some = (noise.square > 0) & (noise.multiple > 0)
        unit = jnp.where(some, noise.usual, 1)
        aligned, bent = (bend - slope) / unit, bend / unit
        usable = some & jnp.isfinite(aligned) & jnp.isfinite(bent)
        m, part = noise.multiple, noise.square / unit

        def add(total, x, decay=self.decay):
            return jnp.where(usable, decay * total + (1 - self.decay) * jnp.where(usable, x, 0), total)

        twice = self.decay**2

        return noise._replace(
            aligned=add(noise.aligned, aligned),
            multiples=add(noise.multiples, m * part),
            bent=add(noise.bent, bent),
            squares=add(noise.squares, m * m * part),
            aligned_squares=add(noise.aligned_squares, aligned**2, twice),
            mixed=add(noise.mixed, aligned * m * part, twice),
            squares_2=add(noise.squares_2, (m * part) ** 2, twice),
        )

    def best_multiple(self, noise: Noise, curvature, first) -> jax.Array:
        """m of the next step; ``curvature`` is |tr H|/d, and ``first`` the multiple without any past."""
        known = noise.squares > 0
        alpha = noise.aligned / jnp.where(known, noise.multiples, 1)
        rest = noise.aligned_squares - 2 * alpha * noise.mixed + alpha**2 * noise.squares_2
        error = jnp.sqrt(jnp.maximum(rest, 0) * (1 - self.decay)) / jnp.where(known, noise.multiples, 1)
        least = jnp.maximum(jnp.minimum(LEAST * self.share, alpha + ERRORS*error), LOW * self.share)
        alpha = jnp.clip(jnp.where(known, alpha, self.share), least, self.share)
        kappa = noise.bent / jnp.where(known, noise.squares, 1)
        kappa = jnp.maximum(jnp.where(known, kappa, curvature), curvature / 2)
        m = noise.multiple
        wanted = jnp.where(kappa > 0, alpha / jnp.where(kappa > 0, kappa, 1), 2 * m)
        return jnp.where(m > 0, jnp.clip(wanted, m / CHANGE, m * CHANGE), first)


__all__ = ["Noise", "NoiseRules"]
