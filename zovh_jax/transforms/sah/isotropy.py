"""Whether curvature is the same everywhere, so that measuring it in every group is a waste."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import scalar_dtype
from zovh_jax.transforms.sah.groups import Ask


class Moments(NamedTuple):
    """Σ1, Σ|λ| and Σλ² over the eigenvalues that were measured, older ones with less weight."""

    weight: jax.Array
    total: jax.Array
    squares: jax.Array

    @property
    def mean(self) -> jax.Array:
        """Mean of |λ|; 0 before any value."""
        return self.total / jnp.maximum(self.weight, 1)

    @property
    def spread(self) -> jax.Array:
        """Standard deviation over mean: 0 for an isotropic Hessian, infinite before any value."""
        weight = jnp.maximum(self.weight, 1)
        variance = self.squares / weight - jnp.square(self.mean)
        spread = jnp.sqrt(jnp.maximum(variance, 0)) / self.mean
        return jnp.where(self.total > 0, spread, jnp.inf)

    def halved(self) -> "Moments":
        """The moments with half their weight."""
        return Moments(self.weight / 2, self.total / 2, self.squares / 2)

    def add(self, hessians: jax.Array, usable: jax.Array) -> "Moments":
        """The moments with the eigenvalues of the Hessians [J, q, q] that are ``usable`` [J]."""
        values = jnp.where(usable[:, None], jnp.abs(jnp.linalg.eigvalsh(hessians)), 0)
        count = jnp.sum(usable) * hessians.shape[1]
        return Moments(
            self.weight + count.astype(self.weight.dtype),
            self.total + jnp.sum(values),
            self.squares + jnp.sum(jnp.square(values)),
        )


def no_moments() -> Moments:
    """The moments of nothing."""
    return Moments(*(jnp.zeros((), scalar_dtype()) for _ in range(3)))


class Isotropy(NamedTuple):
    """What is known of the spread of curvature.

    Attributes:
      moments: of the curvatures measured so far.
      holds: whether curvature counts as isotropic, so that the present groups need no fits.
    """

    moments: Moments
    holds: jax.Array


class Measured(NamedTuple):
    """Slopes [J, p] at curvature points, NaN where they were not asked for, and the queries' cost.

    Attributes:
      isotropy: `Isotropy`, or an empty tuple without the test.
    """

    slopes: jax.Array
    isotropy: Any
    spent: jax.Array
    nonfinite: jax.Array


def measure_unless_isotropic(
    ask: Ask,
    add: Callable[[Moments, jax.Array, slice], Moments],
    isotropy: Isotropy,
    tolerance: jax.Array,
    num_groups: int,
    num_probes: int,
) -> Measured:
    """Asks for ``num_probes`` groups, and for the rest unless the spread is within tolerance.

    Earlier measurements count half; where there are none, all groups are asked for.
    ``add(moments, slopes, which)`` gives the moments with those that the new slopes show.
    """
    first, rest = slice(None, num_probes), slice(num_probes, None)
    slopes, spent, bad = ask(first)
    moments = add(isotropy.moments.halved(), slopes, first)
    holds = (isotropy.moments.weight > 0) & (moments.spread <= tolerance)
    if num_probes >= num_groups:
        return Measured(slopes, Isotropy(moments, holds), spent, bad)
    shape = (num_groups - num_probes, slopes.shape[1])
    others, more_spent, more_bad = jax.lax.cond(
        holds,
        lambda: (
            jnp.full(shape, jnp.nan, slopes.dtype),
            jnp.zeros_like(spent),
            jnp.zeros_like(bad),
        ),
        lambda: ask(rest),
    )
    return Measured(
        jnp.concatenate([slopes, others]),
        Isotropy(add(moments, others, rest), holds),
        spent + more_spent,
        bad + more_bad,
    )
