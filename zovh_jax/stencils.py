"""Where to query along a direction, and what the values say about slope and curvature.

| stencil | points | queries a round | values |
|---|---|---|---|
| ``forward()`` | θ + μu | K | [K] |
| ``central()`` | θ ± μu | 2K | [K, 2] |
| ``three_point()`` | θ ± μu, and θ once | 2K + 1 | [K, 2], and origin |
"""

import dataclasses
from typing import ClassVar

import jax


class Stencil:
    """Points along a direction, as multiples of the radius."""

    offsets: ClassVar[tuple[float, ...]]
    needs_origin: ClassVar[bool] = False

    @property
    def paired(self) -> bool:
        """Whether a direction has two points, plus and minus."""
        return len(self.offsets) == 2

    def even(self, values: jax.Array) -> jax.Array:
        """The part of the values that sees curvature: F, or (F⁺ + F⁻)/2."""
        return (values[..., 0] + values[..., 1]) / 2 if self.paired else values

    def odd(self, values: jax.Array) -> jax.Array:
        """The part that sees slope: F, or (F⁺ − F⁻)/2."""
        return (values[..., 0] - values[..., 1]) / 2 if self.paired else values


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Forward(Stencil):
    """θ + μu: one query a direction. Slope and curvature share the values."""

    offsets: ClassVar[tuple[float, ...]] = (1.0,)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Central(Stencil):
    """θ + μu and θ − μu: two queries a direction; the gradient's bias falls to O(μ²)."""

    offsets: ClassVar[tuple[float, ...]] = (1.0, -1.0)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ThreePoint(Stencil):
    """θ + μu and θ − μu for every direction, and f(θ) once a round (nothing if it is known)."""

    offsets: ClassVar[tuple[float, ...]] = (1.0, -1.0)
    needs_origin: ClassVar[bool] = True


forward = Forward
central = Central
three_point = ThreePoint

__all__ = ["Stencil", "central", "forward", "three_point"]
