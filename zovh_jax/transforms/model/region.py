"""Where to ask next: minimisers of the model within balls, and how balls and metric change."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._products import matmul, mv
from zovh_jax.transforms.model.regression import Model

REACHES = 1.0, 0.5, 2.0, 4.0
"""Radii of the balls whose minimisers are asked for, in units of the region's."""
SPREAD = 1.5
"""Distance of the other points from the minimiser, in units of its length."""
ITERATIONS = 4
"""Newton steps to a minimiser of the model with its cubic form."""
STRETCH = 10.0
"""How far the region follows the eigenvalues of the model, either way."""


class Region(NamedTuple):
    """Points are at θ + σ A z with |z| about 1.

    Attributes:
      metric: A, [d, d], of determinant 1.
      radius: σ.
    """

    metric: jax.Array
    radius: jax.Array

    @classmethod
    def init(cls, size: int, radius: jax.Array) -> "Region":
        """A ball."""
        return cls(jnp.eye(size, dtype=radius.dtype), radius)

    def inside(self, displacements: jax.Array) -> jax.Array:
        """Rows in the coordinates z."""
        return jnp.linalg.solve(self.metric, displacements.T).T / self.radius

    def outside(self, points: jax.Array) -> jax.Array:
        """Rows z as displacements from θ."""
        return self.radius * matmul(points, self.metric.T)


class Sizes(NamedTuple):
    """A Hessian's eigenvalues, and their sizes.

    Attributes:
      eigenvalues: [d].
      basis: the eigenvectors, columns of [d, d].
      logs: of the sizes over their typical one.
    """

    eigenvalues: jax.Array
    basis: jax.Array
    logs: jax.Array

    @classmethod
    def of(cls, hessian: jax.Array, curvature: jax.Array) -> "Sizes":
        """Those of hI + E."""
        eigenvalues, basis = jnp.linalg.eigh(hessian)
        sizes, tiny = jnp.abs(eigenvalues), jnp.finfo(hessian.dtype).tiny
        typical = jnp.maximum(jnp.maximum(jnp.abs(curvature), jnp.median(sizes)), tiny)
        return cls(eigenvalues, basis, jnp.log(jnp.maximum(sizes / typical, tiny)))

    def factors(self, exponent: float, limit: float) -> jax.Array:
        """The sizes, held within a factor of ``limit``, to a power; their product is 1."""
        logs = jnp.clip(self.logs, -jnp.log(limit), jnp.log(limit))
        return jnp.exp(exponent * (logs - jnp.mean(logs)))

    def power(self, exponent: float, limit: float) -> jax.Array:
        """The matrix of these factors."""
        return matmul(self.basis * self.factors(exponent, limit)[None], self.basis.T)


def minimiser(eigenvalues: jax.Array, slopes: jax.Array, radii: jax.Array) -> jax.Array:
    """Minimisers of g·z + ½ Σ λ z² within |z| ≤ radius, a row a radius."""
    lowest = jnp.min(eigenvalues)
    least = jnp.maximum(-lowest, 0)
    smallest = jnp.finfo(slopes.dtype).tiny

    def at(shift):
        return -slopes / jnp.maximum(eigenvalues + shift, smallest)

    def one(radius):
        def halve(_, ends):
            low, high = ends
            middle = (low + high) / 2
            far = jnp.linalg.norm(at(middle)) > radius
            return jnp.where(far, middle, low), jnp.where(far, high, middle)

        high = least + jnp.linalg.norm(slopes) / radius
        _, shift = jax.lax.fori_loop(0, 60, halve, (least, high))
        newton = (lowest > 0) & (jnp.linalg.norm(at(0.0)) <= radius)
        step = at(jnp.where(newton, 0, shift))
        length = jnp.linalg.norm(step)
        return step * jnp.minimum(1, radius / jnp.maximum(length, smallest))

    return jax.vmap(one)(radii)


class Asked(NamedTuple):
    """Points of a round, in coordinates z.

    Attributes:
      points: [K, d]: the model's minimiser first.
      lengths: theirs in the region's shape, [K].
    """

    points: jax.Array
    lengths: jax.Array


def ask(model: Model, sizes: Sizes, others: jax.Array, num_steps: int, trust: jax.Array) -> Asked:
    """Minimisers of the model within balls, and points around the first of them.

    All balls are balls in the coordinates of the region's shape: along the Hessian's eigenvectors,
    and longer where its eigenvalues are small, by up to `STRETCH`.

    Args:
      model: what is minimised.
      sizes: of its Hessian.
      others: orthonormal rows, K of them.
      num_steps: how many of `REACHES` are used.
      trust: how many times as far the minimisers are sought.
    """
    factors = sizes.factors(-0.5, STRETCH)
    eigenvalues = sizes.eigenvalues * factors**2
    shape = sizes.basis * factors[None]
    tilted = mv(shape.T, model.slopes)
    first = minimiser(eigenvalues, tilted, trust[None])[0]
    length = jnp.linalg.norm(first)
    inside = length < 0.999 * trust
    reaches = jnp.asarray(REACHES[:num_steps], tilted.dtype)
    # Within the region the minimiser is the same for all larger balls; half the way is another.
    radii = reaches * jnp.where(inside & (reaches < 1), length, trust)
    steps = minimiser(eigenvalues, tilted, radii)
    steps = jax.vmap(lambda step, radius: _bent(model, shape, step, radius))(steps, radii)
    spread = SPREAD * jnp.clip(length, 1e-3, 1)
    around = steps[:1] + spread * others
    same = inside & (reaches > 1)
    steps = jnp.where(same[:, None], around[:num_steps], steps)
    rows = jnp.concatenate([steps, around[num_steps:]])
    return Asked(matmul(rows, shape.T), jnp.linalg.norm(rows, axis=1))


def _bent(model: Model, shape: jax.Array, step: jax.Array, radius: jax.Array) -> jax.Array:
    """A minimiser of the quadratic part, moved to where the whole model is lower, in the ball."""

    def again(_, carry):
        step, best, most = carry
        slopes, hessian = model.touching(mv(shape, step))
        eigenvalues, basis = jnp.linalg.eigh(matmul(shape.T, matmul(hessian, shape)))
        tilted = mv(basis.T, mv(shape.T, slopes))
        step = mv(basis, minimiser(eigenvalues, tilted, radius[None])[0])
        fall = model.foretold(mv(shape, step))
        better = fall > most
        return step, jnp.where(better, step, best), jnp.where(better, fall, most)

    start = step, step, model.foretold(mv(shape, step))
    return jax.lax.fori_loop(0, ITERATIONS, again, start)[1]


def orthonormal(key: jax.Array, num: int, size: int, dtype: jnp.dtype) -> jax.Array:
    """Random rows, orthonormal in blocks of at most ``size``, [num, size]."""
    blocks = -(-num // size)
    normal = jax.random.normal(key, (blocks, size, size), dtype)
    return jnp.linalg.qr(normal)[0].reshape(-1, size)[:num]


def changed(
    radius: jax.Array,
    moved: jax.Array,
    length: jax.Array,
    gain: jax.Array,
    certain: jax.Array,
    pace: float,
) -> jax.Array:
    """The next radius.

    Args:
      radius: σ.
      moved: length of the move to the best point, in units of σ; 0 if none was better.
      length: that of the model's minimiser.
      gain: how far the minimiser's value fell, over what the model foretold.
      certain: whether the model fits its values well. A bad fit is not mended by a smaller region.
      pace: K/d.
    """
    onward = jnp.where(gain > 0.25, jnp.clip(1.5 * moved, 0.3, 2), jnp.clip(moved, 0.3, 1))
    retreat = jnp.where(certain, jnp.clip(length, 0.2, 1) / 2, jnp.exp(-0.12 * pace))
    return radius * jnp.where(moved > 0, onward, retreat)


__all__ = ["REACHES", "Asked", "Region", "Sizes", "ask", "changed", "minimiser", "orthonormal"]
