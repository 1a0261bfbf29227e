"""What past ways have shown: the slope and the curvature along them, with their standard errors."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import scalar_dtype

LEAST = 0.01
"""The least number of ways beyond the first, by their weights, that a variance is divided by."""


class Ways(NamedTuple):
    """Averages of α and κ along past ways, weighed by ways' squared lengths, which fade.

    Attributes:
      total, totals_2: Σ w and Σ w².
      sums, mixed, squares: Σ w x, Σ w² x and Σ w² x², [2], for x = α and x = κ.
    """

    total: jax.Array
    totals_2: jax.Array
    sums: jax.Array
    mixed: jax.Array
    squares: jax.Array

    @classmethod
    def init(cls) -> "Ways":
        """No way yet."""
        # Each array is a buffer of its own, so that the state can be donated.
        one, two = ((), ()), ((2,), (2,), (2,))
        return cls(*(jnp.zeros(shape, scalar_dtype()) for shape in (*one, *two)))

    @property
    def is_known(self) -> jax.Array:
        """Whether there was any."""
        return self.total > 0

    @property
    def means(self) -> jax.Array:
        """α and κ, [2]; 0 where none is known."""
        return self.sums / self._divisor

    @property
    def errors(self) -> jax.Array:
        """The standard errors of α and κ, [2].

        They are nearly 0 for a single way, which is believed: it is the first one after harm, too,
        and where it leads uphill that must count.
        """
        totals_2 = self.totals_2[..., None]
        rest = self.squares - 2 * self.means * self.mixed + self.means**2 * totals_2
        number = self.total[..., None] ** 2 / jnp.where(totals_2 > 0, totals_2, 1)
        spread = jnp.maximum(rest, 0) * number / jnp.maximum(number - 1, LEAST)
        return jnp.sqrt(spread) / self._divisor

    @property
    def _divisor(self) -> jax.Array:
        return jnp.where(self.is_known, self.total, 1)[..., None]

    def add(self, weight: jax.Array, products: jax.Array, decay: jax.Array) -> "Ways":
        """With one more way.

        Args:
          weight: w.
          products: w α and w κ, [2].
          decay: what is left of older ways.
        """

        def faded(total, new, power):
            """With a weight or, for sums of its squares, with its square."""
            return decay**power * total + (1 - decay) ** power * new

        return Ways(
            faded(self.total, weight, 1),
            faded(self.totals_2, weight**2, 2),
            faded(self.sums, products, 1),
            faded(self.mixed, weight * products, 2),
            faded(self.squares, products**2, 2),
        )


__all__ = ["Ways"]
