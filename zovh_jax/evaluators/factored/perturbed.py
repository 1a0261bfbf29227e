"""A perturbed parameter whose perturbation is kept apart as factors."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._factors import Factors


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Perturbed:
    """x + Σ_i left[i] · right[i], of one query.

    Attributes:
      base: x, an array that all queries share.
      left, right: [rank, *x.shape], but of length 1 along the axes that they do not depend on; in
        the precision of directions.
      names: numbers of the parameters that it comes from.
      part: whether it is part of an activation: entries that were looked up, a sum over entries, or
        one with other rows. To form it is no more than to compute that activation.
    """

    base: jax.Array
    left: jax.Array
    right: jax.Array
    names: tuple[int, ...] = dataclasses.field(default=(), metadata={"static": True})
    part: bool = dataclasses.field(default=False, metadata={"static": True})

    @classmethod
    def of(cls, x: jax.Array, step: jax.Array, u: Factors, name: int) -> "Perturbed":
        """x + step·u, for one direction u."""
        return cls(x, step.astype(u.dtype) * u.left, u.right, (name,))

    @property
    def shape(self) -> tuple[int, ...]:
        """Of x."""
        return self.base.shape

    @property
    def ndim(self) -> int:
        """Of x."""
        return self.base.ndim

    def dense(self) -> jax.Array:
        """As an array, computed in the factors' precision and rounded once."""
        # Term by term, which XLA fuses: for a sum over an axis it would write all terms to memory.
        delta = sum(left * right for left, right in zip(self.left, self.right, strict=True))
        return rounded_sum(self.base, delta)

    def map(self, base: Any, factor: Callable[[jax.Array], jax.Array]) -> "Perturbed":
        """Another base, and a function of one row [*shape] of each factor."""
        left, right = jax.vmap(factor)(self.left), jax.vmap(factor)(self.right)
        return dataclasses.replace(self, base=base, left=left, right=right)

    def plus(self, base: Any, other: "Perturbed") -> "Perturbed":
        """A base with both perturbations, those of this value and of another one."""

        def rows(a, b):
            shape = np.maximum(a.shape[1:], b.shape[1:])
            return jnp.concatenate([jnp.broadcast_to(x, (len(x), *shape)) for x in (a, b)])

        turned = other.swapped()
        if _joined_size(self, turned) < _joined_size(self, other):
            other = turned
        left, right = rows(self.left, other.left), rows(self.right, other.right)
        names, part = self.names + other.names, self.part or other.part
        return Perturbed(base, left, right, names, part)

    def swapped(self) -> "Perturbed":
        """The same, with left and right exchanged."""
        return dataclasses.replace(self, left=self.right, right=self.left)


def rounded_sum(base: jax.Array, delta: jax.Array) -> jax.Array:
    """Their sum, in the wider precision of the two and rounded once."""
    wide = jnp.promote_types(base.dtype, delta.dtype)
    return (base.astype(wide) + delta.astype(wide)).astype(base.dtype)


def _joined_size(a: Perturbed, b: Perturbed) -> int:
    """Numbers of an outer product that both have room in."""
    pairs = ((a.left, b.left), (a.right, b.right))
    return sum(math.prod(np.maximum(x.shape[1:], y.shape[1:])) for x, y in pairs)


def dense(x: Any) -> Any:
    """A value as an array."""
    return x.dense() if isinstance(x, Perturbed) else x


__all__ = ["Perturbed", "dense", "rounded_sum"]
