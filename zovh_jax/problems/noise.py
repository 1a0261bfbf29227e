"""Noisy objectives: f(x, key), with fresh noise for every point."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._random import mixed
from zovh_jax._types import ValueFn

KINDS = ("additive", "multiplicative", "discontinuous")


@dataclasses.dataclass(frozen=True)
class Noisy:
    """A noisy objective of (x, key); made by `noisy`."""

    problem: ValueFn
    kind: str
    level: Any

    def __call__(self, x: jax.Array, key: jax.Array) -> jax.Array:
        value = self.problem(x)
        level = jnp.asarray(self.level, value.dtype)
        if self.kind == "discontinuous":
            step = jnp.where(level > 0, level, 1)
            return jnp.where(level > 0, step * jnp.round(value / step), value)
        key = jax.random.fold_in(_checks.key(key), hash_of(x))
        z = level * jax.random.normal(key, (), value.dtype)
        return value + z if self.kind == "additive" else value * (1 + z)


def noisy(problem: ValueFn, kind: str, level: Any) -> Noisy:
    """A noisy version of an objective.

    The queries of a round bring no keys of their own, so the bits of the point are hashed into the
    key. Different points have independent noise; the same point with the same key has the same
    noise. Give every step a new key.

    Args:
      problem: a function of a vector, such as a `Problem`.
      kind: "additive": f(x) + level·z, z standard normal; "multiplicative": f(x)·(1 + level·z);
        "discontinuous": f(x) rounded to multiples of level (the key is ignored).
      level: 0 (no noise) or more, in units of f, or relative to f if "multiplicative". An array []
        allows for sweeps inside one compilation.

    Returns:
      A function of (x, key); hashable if ``level`` is a number and ``problem`` is hashable.

    Raises:
      ValueError: for an unknown kind or a negative level.

    Example:
      >>> import functools, jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = zo.problems.noisy(zo.problems.quadratic(), "additive", 0.5)
      >>> key, x = jax.random.key(0), jnp.ones(3)
      >>> values = jax.vmap(f, (0, None))(jnp.stack([x, x, 2 * x]), key)
      >>> bool(values[0] == values[1]), bool(abs(values[2] - values[0] - 4.5) > 1e-3)
      (True, True)
      >>> value_fn = functools.partial(f, key=jax.random.fold_in(key, 7))  # of step 7
      >>> value_fn(x).shape
      ()
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {list(KINDS)}; got {kind!r}.")
    _checks.nonnegative("level", level)
    return Noisy(problem, kind, level)


def hash_of(x: jax.Array) -> jax.Array:
    """32 bits that depend on every bit of x and on its place, []."""
    width = {2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[x.dtype.itemsize]
    bits = jax.lax.bitcast_convert_type(x, width).astype(jnp.uint32).reshape(-1)
    # Each word is tied to its place and mixed; a sum joins them.
    bits = bits ^ (jax.lax.iota(jnp.uint32, bits.size) * np.uint32(0x9E3779B9))
    return jnp.sum(mixed(bits), dtype=jnp.uint32)


__all__ = ["noisy"]
