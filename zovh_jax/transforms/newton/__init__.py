"""Newton's method without a learning rate: scalar, diagonal, low-rank, quasi-Newton; ours."""

from zovh_jax.transforms.newton.diagonal_newton import diagonal_newton
from zovh_jax.transforms.newton.low_rank_newton import low_rank_newton
from zovh_jax.transforms.newton.quasi_newton import quasi_newton
from zovh_jax.transforms.newton.scalar_newton import scalar_newton

__all__ = ["diagonal_newton", "low_rank_newton", "quasi_newton", "scalar_newton"]
