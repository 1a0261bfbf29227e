"""Directions that learn a Hessian's diagonal, and a choice between two families by an array.

Only `diagonal_newton` uses them; they are not among ``zo.directions``.
"""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from zovh_jax._factors import dense
from zovh_jax.directions import Directions, Wrapper
from zovh_jax.directions.families import Rademacher
from zovh_jax.directions.hadamard import Hadamard


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Halves(Wrapper):
    """Complementary halves of the parameters, in couples of pairs.

    The rows of a couple are z, −z, z', −z', with

        z = (1 + w)/√2 ∘ s,   z' = (1 − w)/√2 ∘ s.

    w is a row of a Hadamard matrix of order D, drawn without replacement, and s are random signs,
    new for each couple. So z_i² = 1 + w_i is 2 or 0, and z'_i² = 1 − w_i. For a diagonal Hessian
    diag(h)

        zᵀHz − z'ᵀHz' = 2 wᵀh,   zᵀHz + z'ᵀHz' = 2 Σ_i h_i,

    and the D values wᵀh of an epoch give h, as Σ w wᵀ = D·I. Elements of H beside the diagonal add
    random numbers of the same size to both zᵀHz and z'ᵀHz'.
    """

    directions: ClassVar[Directions] = Hadamard()  # type: ignore[misc]

    def draw(self, key, layout, num_directions, indices):
        couples, row = jnp.divmod(indices, 4)
        n = num_directions // 4
        rows = self.directions.draw(key, layout, n, couples)
        signs = Rademacher().draw(jax.random.fold_in(key, 1), layout, n, couples)
        leaves = []
        for w, s in zip(rows, signs, strict=True):
            half, sign = (
                (1 - 2 * bit).astype(w.dtype).reshape(-1, *(1,) * (w.ndim - 1))
                for bit in (row // 2, row % 2)
            )
            leaves.append(math.sqrt(0.5) * sign * (1 + half * w) * s)
        return leaves

    def round_key(self, key, count, layout, num_directions):
        return self.directions.round_key(key, count, layout, num_directions // 4)

    def shrinkage(self, n, layout):
        # A round has n/2 lines, each of them in both senses: the factor n/(n + d − 1) of n/2.
        return n / (n + 2 * layout.size - 2) if n > 1 or layout.size > 1 else 1.0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Either(Wrapper):
    """One of two families on the same leaves, as an array says.

    Args:
      directions: the family where ``flag`` is False.
      other: the family where it is True.
      flag: a bool array.
      num_others: how many rounds the other family has had. Its keys count these alone, so that
        its epochs have no holes.
    """

    directions: Directions
    other: Directions
    flag: jax.Array
    num_others: jax.Array

    def draw(self, key, layout, num_directions, indices):
        return jax.lax.cond(
            self.flag,
            lambda: dense(self.other.draw(key, layout, num_directions, indices)),
            lambda: dense(self.directions.draw(key, layout, num_directions, indices)),
        )

    def round_key(self, key, count, layout, num_directions):
        keys = (
            family.round_key(jax.random.fold_in(key, i), rounds, layout, num_directions)
            for i, (family, rounds) in enumerate(
                [(self.other, self.num_others), (self.directions, count)]
            )
        )
        other, own = (jax.random.key_data(k) for k in keys)
        return jax.random.wrap_key_data(
            jnp.where(self.flag, other, own), impl=jax.random.key_impl(key)
        )

    def shrinkage(self, n, layout):
        return jnp.where(
            self.flag, self.other.shrinkage(n, layout), self.directions.shrinkage(n, layout)
        )

    def check_rounds(self, layout, num_directions):
        self.other.check_rounds(layout, num_directions)
        self.directions.check_rounds(layout, num_directions)


__all__ = ["Either", "Halves"]
