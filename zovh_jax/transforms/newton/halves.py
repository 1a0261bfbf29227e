"""Halves of the parameters and their opposites, and a choice between two families by an array.

For optimisers that learn a Hessian's diagonal; not among ``zo.directions``.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp

from zovh_jax.directions.families import Directions, Rademacher
from zovh_jax.directions.hadamard import Hadamard


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Halves(Directions):
    """Couples of complementary halves with random signs: rows z, −z, z', −z' of

        z = (1 + w)/√2 ∘ s,   z' = (1 − w)/√2 ∘ s,

    w a row of a Hadamard matrix, without replacement, and s random signs, new for each couple. So
    z_i² = 1 + w_i is 2 or 0, and z'_i² = 1 − w_i: for a diagonal Hessian diag(h)

        zᵀHz − z'ᵀHz' = 2 wᵀh,   zᵀHz + z'ᵀHz' = 2 Σ_i h_i.

    The D values wᵀh of an epoch are h itself, as Σ w wᵀ = D·I (`Hadamard`). What is beside the
    diagonal is in both, alike in size, and random.
    """

    def draw(self, key, layout, num_directions, indices):
        couples, row = jnp.divmod(indices, 4)
        n = num_directions // 4
        halves = Hadamard().draw(key, layout, n, couples)
        signs = Rademacher().draw(jax.random.fold_in(key, 1), layout, n, couples)
        leaves = []
        for w, s in zip(halves, signs, strict=True):
            side, turn = (
                (1 - 2 * bit).astype(w.dtype).reshape(-1, *(1,) * (w.ndim - 1))
                for bit in (row // 2, row % 2)
            )
            leaves.append(math.sqrt(0.5) * turn * (1 + side * w) * s)
        return leaves

    def round_key(self, key, count, layout, num_directions):
        return Hadamard().round_key(key, count, layout, num_directions // 4)

    def shrinkage(self, n, layout):
        # Of n/2 directions, each of them twice.
        return n / (n + 2 * layout.size - 2) if n > 1 or layout.size > 1 else 1.0

    def check_rounds(self, layout, num_directions):
        Hadamard().check_rounds(layout, num_directions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Either(Directions):
    """One of two families on the same leaves, as an array says.

    Args:
      first, second: the families.
      flag: True for the first.
      count: of the rounds that the first has had: its `round_key` has no other count.
    """

    first: Directions
    second: Directions
    flag: jax.Array
    count: jax.Array

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return self.second.joint

    def active(self, treedef):
        return self.second.active(treedef)

    def draw(self, key, layout, num_directions, indices):
        return jax.lax.cond(
            self.flag,
            lambda: self.first.draw(key, layout, num_directions, indices),
            lambda: self.second.draw(key, layout, num_directions, indices),
        )

    def round_key(self, key, count, layout, num_directions):
        keys = (
            family.round_key(jax.random.fold_in(key, i), c, layout, num_directions)
            for i, (family, c) in enumerate([(self.first, self.count), (self.second, count)])
        )
        one, two = (jax.random.key_data(k) for k in keys)
        return jax.random.wrap_key_data(
            jnp.where(self.flag, one, two), impl=jax.random.key_impl(key)
        )

    def shrinkage(self, n, layout):
        return jnp.where(
            self.flag, self.first.shrinkage(n, layout), self.second.shrinkage(n, layout)
        )

    def check_rounds(self, layout, num_directions):
        self.first.check_rounds(layout, num_directions)
        self.second.check_rounds(layout, num_directions)


__all__ = ["Either", "Halves"]
