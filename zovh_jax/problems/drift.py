"""Drifting objectives: f(x, time), a problem that moves as a whole."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax.problems.curvature import Curvature
from zovh_jax.problems.problem import Problem, Seed, seed_of, unit_directions

PATHS = ("line", "circle")


@dataclasses.dataclass(frozen=True)
class Drifting:
    """A moving problem of (x, time); made by `drifting`."""

    problem: Problem
    velocity: Any
    path: str
    radius: float
    seed: Seed

    def __call__(self, x: jax.Array, time: Any) -> jax.Array:
        return self.problem(x - self._offset(x, time))

    def gradient(self, x: jax.Array, time: Any) -> jax.Array:
        """The exact gradient at that time, [d]."""
        return self.problem.gradient(x - self._offset(x, time))

    def hessian(self, x: jax.Array, time: Any) -> Curvature:
        """The exact Hessian at that time."""
        return self.problem.hessian(x - self._offset(x, time))

    def minimizer(self, d: int, time: Any) -> jax.Array:
        """Where the minimum is at that time, [d]."""
        return self.problem.minimizer(d) + self.offset(d, time)

    def minimum(self, d: int) -> float:
        """The least value, at any time."""
        return self.problem.minimum(d)

    def start(self, d: int, key: jax.Array | None = None) -> jax.Array:
        """The problem's own starting point, [d]."""
        return self.problem.start(d, key)

    def offset(self, d: int, time: Any) -> jax.Array:
        """How far the problem has moved since time 0, [d]."""
        count = 1 if self.path == "line" else 2
        if d < count:
            raise ValueError(f"a circle needs a plane: x must have at least 2 numbers, got {d}.")
        e = jnp.asarray(unit_directions(self.seed, d, count), float)
        distance = jnp.asarray(self.velocity * time, float)
        if self.path == "line":
            return distance * e[0]
        angle = distance / self.radius
        # 1 − cos a is written 2 sin²(a/2), which keeps its digits at small angles.
        return self.radius * (jnp.sin(angle) * e[0] + 2 * jnp.sin(angle / 2) ** 2 * e[1])

    def _offset(self, x: jax.Array, time: Any) -> jax.Array:
        return self.offset(x.shape[-1], time).astype(jnp.promote_types(x.dtype, jnp.float32))


def drifting(
    problem: Problem,
    velocity: Any,
    *,
    key: jax.Array,
    path: str = "line",
    radius: float = 1.0,
) -> Drifting:
    """A problem whose minimiser moves at constant speed: f(x − offset(time)).

    Args:
      problem: what moves, such as ``quadratic()`` for a moving bowl.
      velocity: distance moved in a unit of time, such as a step; a number, or an array [].
      key: draws the directions that the path lies along.
      path: "line": along a random unit vector. "circle": along a circle in a random plane, which
        passes through the minimiser of ``problem`` at time 0.
      radius: of the circle.

    Returns:
      A function of (x, time) with ``gradient`` and ``hessian`` of (x, time), ``minimizer`` and
      ``offset`` of (d, time), ``minimum`` and ``start``.

    Raises:
      ValueError: for an unknown path or a radius that is not positive.

    Example:
      >>> import functools, jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = zo.problems.drifting(zo.problems.quadratic(), 0.1, key=jax.random.key(0))
      >>> x = f.minimizer(5, time=20)
      >>> round(float(jnp.linalg.norm(x)), 5), round(float(f(x, 20)), 5), round(float(f(x, 0)), 5)
      (2.0, 0.0, 2.0)
      >>> value_fn = functools.partial(f, time=20)
    """
    if path not in PATHS:
        raise ValueError(f"path must be one of {list(PATHS)}; got {path!r}.")
    _checks.instance("problem", problem, Problem, "zo.problems.quadratic() and its siblings")
    _checks.positive("radius", radius)
    return Drifting(problem, velocity, path, radius, seed_of(key))


__all__ = ["drifting"]
