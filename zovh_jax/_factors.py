"""Factors: rows that are sums of outer products, kept apart.

A direction of rank one of an m×n matrix has m + n numbers in place of mn. What a plan reduces
(weighted sums, inner products, squared norms) works on the factors; a row itself is made only
where somebody asks for its entries.
"""

import dataclasses
import functools
import math
import string
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._products import einsum

FEW_ROWS = 8
"""Up to so many rows are summed by an elementwise loop, which XLA compiles once for many leaves."""
SMALL = 2048
"""Leaves of up to so many entries are small."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Factors:
    """Rows u_b = Σ_i left[b, i] · right[b, i] in place of an array [b, *shape].

    Attributes:
      left, right: [b, rank, *shape], but of length 1 along the axes that they do not depend on. So
        an axis is an input if ``right`` has length 1 there, an output if ``left`` has, and counts
        matrices that are stacked if none has.
    """

    left: jax.Array
    right: jax.Array

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the rows, [b, *leaf]."""
        sides = zip(self.left.shape[2:], self.right.shape[2:], strict=True)
        return (self.left.shape[0], *(max(ends) for ends in sides))

    @property
    def ndim(self) -> int:
        """The number of axes of the rows."""
        return self.left.ndim - 1

    @property
    def dtype(self) -> Any:
        """Of both factors."""
        return self.left.dtype

    def __getitem__(self, indices: Any) -> "Factors":
        return Factors(self.left[indices], self.right[indices])

    def dense(self) -> jax.Array:
        """The rows as an array."""
        return jnp.sum(self.left * self.right, 1)

    def times(self, scale: jax.Array) -> "Factors | jax.Array":
        """Each row times an array, which may have axes of length 1; as factors if a side can."""
        for name in ("left", "right"):
            side = getattr(self, name)
            if all(n in (1, m) for n, m in zip(scale.shape, side.shape[2:], strict=True)):
                return dataclasses.replace(self, **{name: side * scale[None, None]})
        return self.dense() * scale[None]

    def row_sum(self, coefficients: jax.Array, briefly: bool = False) -> jax.Array:
        """Σ_b c_b u_b: one matrix product, over directions and rank.

        Few are summed elementwise, which XLA fuses with what reads the sum; see `_rows.row_sum`.
        """
        c = coefficients.astype(self.dtype)
        if self.left.shape[0] * self.left.shape[1] <= FEW_ROWS:
            scaled = c.reshape(-1, *(1,) * self.ndim) * self.left
            if briefly and math.prod(self.shape[1:]) <= SMALL:
                return jnp.sum(scaled * self.right, (0, 1))
            terms = [scaled[at] * self.right[at] for at in np.ndindex(scaled.shape[:2])]
            return functools.reduce(jnp.add, terms)
        (a, left), (b, right) = self._sides()
        kept = "".join(sorted({*left, *right}))
        return einsum(f"z,zy{left},zy{right}->{kept}", c, a, b).reshape(self.shape[1:])

    def inner(self, others: jax.Array) -> jax.Array:
        """u_b · others[b], [b]; one row of others serves all."""
        (a, left), (b, right) = self._sides()
        every = string.ascii_letters[: others.ndim - 1]
        row = "z" if len(others) > 1 else ""
        part = einsum(f"zy{left},{row}{every}->zy{right}", a, others if row else others[0])
        return einsum(f"zy{right},zy{right}->z", part, b)

    def gram(self, others: "Factors") -> jax.Array:
        """Inner products with other rows, split as these are: [b, others]."""
        (a, left), (b, right) = self._sides()
        (c, _), (d, _) = others._sides()
        stack = "".join(x for x in left if x in right)
        inputs = einsum(f"zy{left},xw{left}->zxyw{stack}", a, c)
        outputs = einsum(f"zy{right},xw{right}->zxyw{stack}", b, d)
        return jnp.sum(inputs * outputs, tuple(range(2, inputs.ndim)))

    def squared_norms(self) -> jax.Array:
        """‖u_b‖², [b]."""
        return jax.vmap(lambda row: row.gram(row)[0, 0])(
            Factors(self.left[:, None], self.right[:, None])
        )

    def _sides(self) -> tuple[tuple[jax.Array, str], tuple[jax.Array, str]]:
        """Each factor without axes of length 1, and the letters of the axes that it has."""

        def side(x):
            ones = tuple(i for i in range(2, x.ndim) if x.shape[i] == 1)
            axes = [i for i in range(2, x.ndim) if i not in ones]
            letters = "".join(string.ascii_letters[i - 2] for i in axes)
            return jax.lax.squeeze(x, ones), letters

        return side(self.left), side(self.right)


def dense(rows: list[Any]) -> list[jax.Array]:
    """Rows of each leaf as arrays."""
    return [u.dense() if isinstance(u, Factors) else u for u in rows]


def is_factors(x: Any) -> bool:
    """For ``is_leaf``: factors stand where an array would."""
    return isinstance(x, Factors)


__all__ = ["Factors", "dense", "is_factors"]
