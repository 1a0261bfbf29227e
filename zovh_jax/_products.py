"""Products of arrays in the full precision of their numbers.

Accelerators multiply float32 matrices in less unless they are told (TF32, bfloat16): too coarse for
differences of values and for systems that are solved. All products of the package's own are these;
those of a user's function are as the user has them.
"""

import functools

import jax
import jax.numpy as jnp

einsum = functools.partial(jnp.einsum, precision="highest")
matmul = functools.partial(jnp.matmul, precision="highest")
tensordot = functools.partial(jnp.tensordot, precision="highest")


def mv(matrix: jax.Array, vector: jax.Array) -> jax.Array:
    """A matrix times a vector; on a CPU it compiles sooner as a product of two matrices."""
    return matmul(matrix, vector[:, None])[:, 0]


__all__ = ["einsum", "matmul", "mv", "tensordot"]
