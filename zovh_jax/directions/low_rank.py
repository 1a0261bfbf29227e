"""Low-rank directions: matrices along sums of outer products, the rest along full Gaussians."""

import dataclasses
import math
from typing import ClassVar

import jax
import jax.numpy as jnp

from zovh_jax import _checks, _random
from zovh_jax._factors import Factors
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.directions._drawing import draw_independent
from zovh_jax.directions.families import Directions
from zovh_jax.directions.splits import FULL, Split, extent, sides


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, init=False)
class LowRank(Directions):
    """Matrices along Σ_i a_i b_iᵀ/√rank with standard normal a_i and b_i, all else as `gaussian`.

    A matrix of m inputs and n outputs takes rank·(m + n) random numbers in place of mn. Queries do
    not form the perturbed matrix: its products with other arrays are the shared product with θ and
    two thin ones. Operations that have no rule for it form it, so values are right in any program;
    `zo.explain` says which, and what to pass as ``split``.

    E[u uᵀ] = I. A gradient estimate from k directions has the mean square ‖g‖² (1 + (d + e − 1)/k).
    For full Gaussians e is 2. For an m×n matrix it is (2(m + n) + 2 + 2·rank)/rank: at 384 × 384
    and rank 1 that is 1 % of d.

    Averages for Hessians do not hold for this law; interpolation does. Directions of large norm
    are likelier than Gaussian ones: ‖a‖²‖b‖² of a small matrix varies much.

    Args:
      rank: how many outer products.
      split: which axes of a parameter are inputs, outputs or stacks of matrices: a tree like
        params, or a prefix of it, of words with a letter for each axis, such as "io" or "sio", or
        "full" for full directions. By default leading axes are inputs and the others outputs, cut
        where the two sizes are closest, and parameters without two such sides are full.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> x = {"kernel": jnp.ones((4, 3)), "bias": jnp.zeros(3)}
      >>> f = lambda x: jnp.sum((jnp.ones((2, 4)) @ x["kernel"] + x["bias"]) ** 2)
      >>> q = zo.query(f, x, jax.random.key(0), num_directions=8, radius=1e-2,
      ...              directions=zo.directions.low_rank())
      >>> int(jnp.linalg.matrix_rank(q.plan.draw(x)["kernel"][0]))
      1
    """

    rank: int
    split: Split
    isotropic: ClassVar[bool] = True
    sees_diagonal: ClassVar[bool] = True
    factored: ClassVar[bool] = True

    @property
    def largest(self) -> float:  # type: ignore[override]
        return 36 * math.sqrt(self.rank)  # of a product of two numbers below 6

    def __init__(self, rank: int = 1, split: PyTree | None = None):
        object.__setattr__(self, "rank", _checks.positive_int("rank", rank))
        object.__setattr__(self, "split", Split.of(split))

    def draw(self, key, layout, num_directions, indices):
        words = self.split.of_leaves(layout)
        parts = [
            [shape] if word == FULL else [(self.rank, *side) for side in sides(shape, word)]
            for shape, word in zip(layout.shapes, words, strict=True)
        ]
        dtypes = [t for t, leaf in zip(layout.dtypes, parts, strict=True) for _ in leaf]
        like = layout.with_leaves([shape for leaf in parts for shape in leaf], dtypes)
        drawn = iter(draw_independent(_random.fast_normal, key, like, indices, layout.size))
        scale = 1 / math.sqrt(self.rank)
        return [
            next(drawn) if word == FULL else Factors(next(drawn) * scale, next(drawn))
            for word in words
        ]

    def shrinkage(self, n, layout):
        """Of a gradient whose squares are spread evenly over the parameters."""
        d, n = layout.size, jnp.asarray(n, scalar_dtype())
        excess = 0.0
        for shape, word in zip(layout.shapes, self.split.of_leaves(layout), strict=True):
            own = 2.0
            if word != FULL:
                both = extent(shape, word, "i") + extent(shape, word, "o")
                own = (2 * both + 2 + 2 * self.rank) / self.rank
            excess += math.prod(shape) / d * own
        return n / (n + d + excess - 1)

    def check_rounds(self, layout, num_directions):
        self.split.of_leaves(layout)


__all__ = ["LowRank"]
