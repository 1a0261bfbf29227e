"""What every test function offers, and the random constants that some are made of."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax.problems.curvature import Curvature

Seed = tuple[int, ...]
"""The words of a PRNG key, as a hashable tuple."""


class Problem:
    """A test function of x, [d] for any d; it is hashable, and can be a ``value_fn``.

    ``problem(x)`` is the value, a scalar float32 or wider, whatever x's dtype. Gradients and
    Hessians are closed forms, written out: nothing is differentiated.
    """

    min_dimension = 1

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._value(self._checked(x))

    def gradient(self, x: jax.Array) -> jax.Array:
        """The exact gradient at x, [d]."""
        return self._gradient(self._checked(x))

    def hessian(self, x: jax.Array) -> Curvature:
        """The exact Hessian at x, an operator: mv, diagonal, trace, squared_norm, as_matrix."""
        return self._hessian(self._checked(x))

    def minimizer(self, d: int) -> jax.Array:
        """A global minimiser, [d]."""
        raise NotImplementedError  # pragma: no cover - abstract

    def minimum(self, d: int) -> float:
        """The least value in dimension d."""
        del d
        return 0.0

    def start(self, d: int, key: jax.Array | None = None) -> jax.Array:
        """The papers' starting point: standard normal, [d]. The key is ``key(0)`` unless given."""
        return jax.random.normal(jax.random.key(0) if key is None else _checks.key(key), (d,))

    def _checked(self, x: Any) -> jax.Array:
        x = jnp.asarray(x)
        if x.ndim != 1 or x.size < self.min_dimension:
            raise ValueError(
                f"x must be a vector of at least {self.min_dimension} numbers; got shape "
                f"{list(x.shape)}. Use jnp.ravel, or jax.vmap over a batch."
            )
        return x.astype(jnp.promote_types(x.dtype, jnp.float32))

    def _value(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError  # pragma: no cover - abstract

    def _gradient(self, x: jax.Array) -> jax.Array:
        raise NotImplementedError  # pragma: no cover - abstract

    def _hessian(self, x: jax.Array) -> Curvature:
        raise NotImplementedError  # pragma: no cover - abstract


def seed_of(key: jax.Array) -> Seed:
    """The words of a key."""
    return tuple(int(word) for word in np.ravel(jax.random.key_data(_checks.key(key))))


@functools.lru_cache(maxsize=64)
def unit_directions(seed: Seed, d: int, count: int) -> np.ndarray:
    """Orthonormal random vectors, [count, d]: constants, drawn once."""
    drawn = np.random.default_rng(seed).standard_normal((d, count))
    return np.linalg.qr(drawn)[0].T


@functools.lru_cache(maxsize=64)
def signs_and_order(seed: Seed, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Random signs and a random permutation, [d] each: constants, drawn once."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1.0, 1.0], d), rng.permutation(d)


__all__ = ["Problem", "Seed", "seed_of", "signs_and_order", "unit_directions"]
