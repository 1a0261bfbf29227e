"""Sines and cosines of angles in turns of 2π.

XLA's own sine and cosine take ten times as long on a CPU, as they first reduce arguments in radians
and do not vectorise. In turns the reduction is exact and cheap.
"""

import jax
import jax.numpy as jnp
import numpy as np

_SINE = (6.2831855, -41.341682, 81.60248, -76.58128, 39.760723)
"""sin(2πt)/t in powers of t², a Chebyshev fit on |t| ≤ ¼."""


def sine_of_quarter(t: jax.Array) -> jax.Array:
    """sin 2πt for float32 |t| ≤ ¼, to 2e-7."""
    square = t * t
    series = jnp.full_like(square, np.float32(_SINE[-1]))
    for coefficient in _SINE[-2::-1]:
        series = series * square + np.float32(coefficient)
    return series * t


def cosine_of_turns(t: jax.Array) -> jax.Array:
    """cos 2πt, to 2e-7 in float32; in other precisions ``jnp.cos``."""
    if t.dtype != jnp.float32:
        return jnp.cos(2 * jnp.pi * t)
    return sine_of_quarter(0.25 - jnp.abs(t - jnp.round(t)))
