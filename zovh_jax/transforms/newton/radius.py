"""How far a round looks.

On exact values μ is the length of a step in each parameter, but large enough that the curvature is
above rounding. Under noise it is the length of the way of many rounds, as a single step is far
shorter. The first noisy steps are short because little is known yet, and tell nothing about how far
to look: for so long a round looks at least as far as the first one, if slopes (or noise within the
round) are most of what it sees.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout, direction_dtype
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import ROUNDING, Queries
from zovh_jax.transforms._rounds import Rounds
from zovh_jax.transforms.newton.noise import Noise

TINY = 1e-30
"""The least curvature."""
LARGEST = 1e3
"""The radius at which μ stops growing, where no query has shown any curvature."""
HELD = 72
"""In the first so many noisy rounds μ is not below that of the first round, if slopes are steep."""
STEEP = 2
"""They are, if the mean difference is less than so many times what slopes change values by."""


@dataclasses.dataclass(frozen=True)
class RadiusRules:
    """How far to look, and which differences mean something.

    Attributes:
      dimension: d, the number of parameters that are perturbed.
      first: μ of the first round.
      epsilon: the relative rounding error of a value.
    """

    dimension: int
    first: float
    epsilon: float

    @classmethod
    def of(cls, layout: Layout, rounds: Rounds) -> "RadiusRules":
        """The rules for parameters of this layout."""
        # The rounding of the parameters, or of float32 if that is finer.
        epsilons = [float(jnp.finfo(direction_dtype(dtype)).eps) for dtype in layout.dtypes]
        return cls(layout.size, rounds.radius, max(epsilons, default=0.0))  # type: ignore[arg-type]

    def following(
        self, queries: Queries, squared_length: jax.Array, model: jax.Array, noise: Noise
    ) -> jax.Array:
        """μ of the next round: the length of the way in each parameter, or the least that will do.

        It changes by a factor of 2 at most. Without a step: half, where all queries left the domain
        of f; twice, where all differences were below rounding.

        Args:
          queries: of this round.
          squared_length: ‖p‖² of its step.
          model: c.
          noise: what is known of it.
        """
        assert queries.origin is not None
        radius, finite = queries.radius, jnp.isfinite(queries.origin)
        visible = self.is_visible(queries, noise)
        # What is seen need not be seen from farther: c may be small because values are in steps.
        least = self.least(queries.origin, model, noise)
        least = jnp.where(visible, jnp.minimum(least, radius), least)
        least = jnp.where(noise.found, self._least_noisy(queries, noise), least)
        wanted = jnp.sqrt(jnp.maximum(squared_length, noise.squared_way) / self.dimension)
        wanted = jnp.clip(jnp.maximum(wanted, least), radius / 2, 2 * radius)
        some = jnp.any(curvatures(queries)[1])
        below = some & ~visible & (radius < LARGEST)
        factor = jnp.where(finite & ~some, 0.5, jnp.where(below, 2.0, 1.0)).astype(radius.dtype)
        return jnp.where(squared_length > 0, wanted, radius * factor)

    def is_visible(self, queries: Queries, noise: Noise) -> jax.Array:
        """Whether the largest difference of this round's values is above noise and rounding."""
        bends, _ = curvatures(queries)
        largest = jnp.max(jnp.abs(bends)) * jnp.square(queries.radius) / 2
        return largest > self.error(queries.origin, queries.origin, noise)

    def least(self, origin: jax.Array, model: jax.Array, noise: Noise) -> jax.Array:
        """The μ at which ½μ²·c·d is five times the rounding error, on exact values."""
        return self.shown(model, self.error(origin, origin, noise))

    def error(self, origin: Any, other: Any, noise: Noise) -> jax.Array:
        """The least difference of two values that means something."""
        largest = jnp.maximum(jnp.abs(origin), jnp.where(jnp.isfinite(other), jnp.abs(other), 0))
        return 3 * noise.level + self.rounding(largest)

    def _least_noisy(self, queries: Queries, noise: Noise) -> jax.Array:
        """Twice as far where noise hides this round's differences; no nearer where it nearly does.

        Rounding must not hide the curvature either. But where f is flat far away, that would lead
        farther and farther: to look as far as in the first round is enough. In the first noisy
        rounds no nearer than there, if slopes are steep and no query left the domain of f.
        """
        bends, valid = curvatures(queries)
        count = jnp.maximum(jnp.sum(valid), 1).astype(bends.dtype)
        rises = jnp.where(valid, bends, 0) * jnp.square(queries.radius) / 2
        mean, square = jnp.sum(rises) / count, jnp.sum(jnp.square(rises)) / count
        differences, slopes = jnp.sqrt(square), square - jnp.square(mean)
        if queries.stencil.paired:  # whose rises have no slopes in them
            slopes = jnp.sum(jnp.where(valid, jnp.square(queries.odd), 0)) / count
        error = self.error(queries.origin, queries.origin, noise)
        farther = jnp.where(differences < error, 2.0, jnp.where(differences < 4 * error, 1.0, 0.0))
        farther = jnp.where(queries.radius < LARGEST, farther, 0) * queries.radius
        near = self.shown(jnp.abs(noise.curvature), self.rounding(queries.origin))
        steep = jnp.all(valid) & (jnp.square(mean) < STEEP**2 * slopes)
        held = jnp.where(steep & (noise.num_rounds < HELD), self.first, 0)
        return jnp.maximum(jnp.maximum(farther, held), jnp.minimum(near, self.first))

    def shown(self, curvature: jax.Array, error: jax.Array) -> jax.Array:
        """The μ at which ½μ²·curvature·d is five times the error of a value."""
        return jnp.sqrt(10 * error / (jnp.maximum(curvature, TINY) * self.dimension))

    def rounding(self, value: Any) -> jax.Array:
        """The rounding error of a value."""
        return ROUNDING * self.epsilon * jnp.abs(value)


__all__ = ["TINY", "RadiusRules"]
