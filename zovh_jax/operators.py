"""Hessian estimates as operators: scale·I plus a sum of rank-one terms, never a d×d array."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout, direction_dtype, scalar_dtype
from zovh_jax._types import Leaves, PyTree
from zovh_jax.plan import Plan


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRankPlusScaled:
    """The symmetric operator scale·I + Σ_k weights_k u_k u_kᵀ on trees like params.

    I is the identity on the leaves that are perturbed: frozen leaves (``directions.masked``) are
    in the operator's null space. It holds the plan of its directions, not the directions.

    Attributes:
      plan: where the n directions come from.
      weights: [n].
      scale: [].
      layout: the static layout of the parameters.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = lambda x: jnp.sum(x ** 2)
      >>> queries = zo.query(f, jnp.ones(3), jax.random.key(0), num_directions=4, radius=0.1)
      >>> H = zo.estimators.hessian(queries, jnp.ones(3))
      >>> H.mv(jnp.ones(3)).shape, H.as_matrix().shape
      ((3,), (3, 3))
    """

    plan: Plan
    weights: jax.Array
    scale: jax.Array
    layout: Layout = dataclasses.field(metadata={"static": True})

    def mv(self, vector: PyTree) -> PyTree:
        """The product with a tree like params. Two passes over the directions."""
        leaves = self.layout.leaves(vector, "vector")
        dots, _ = self.plan.inner(leaves, self.layout)
        sums = self.plan.combine(self.weights * jnp.sum(dots, -1), self.layout)
        return self._finish(
            [
                s + self.scale.astype(s.dtype) * v.astype(s.dtype)
                for s, v in zip(sums, leaves, strict=True)
            ]
        )

    def diagonal(self) -> PyTree:
        """The diagonal, as a tree like params. One pass."""
        sums = self.plan.combine_squares(self.weights, self.layout)
        return self._finish([s + self.scale.astype(s.dtype) for s in sums])

    def trace(self) -> jax.Array:
        """The trace, a scalar."""
        norms = self.plan.squared_norms(self.layout)
        return self.scale * self.layout.size + jnp.sum(self.weights * norms)

    def as_matrix(self) -> jax.Array:
        """The d×d array, in ``jax.flatten_util.ravel_pytree`` order. For small d."""
        dtype, n = scalar_dtype(), self.plan.size
        drawn = [u.astype(dtype).reshape(n, -1) for u in self.plan.materialise(self.layout)]

        def zeros(shape, _):
            return jnp.zeros((n, math.prod(shape)), dtype)

        rows = jnp.concatenate(jax.tree.leaves(self.layout.full(drawn, zeros)), -1)
        ones = self.layout.full(
            [jnp.ones(math.prod(shape), dtype) for shape in self.layout.shapes],
            lambda shape, _: jnp.zeros(math.prod(shape), dtype),
        )
        low_rank = jnp.einsum("k,ki,kj->ij", self.weights, rows, rows, precision="highest")
        return low_rank + self.scale * jnp.diag(jnp.concatenate(jax.tree.leaves(ones)))

    def _finish(self, leaves: Leaves) -> PyTree:
        def zeros(shape, dtype):
            floating = jnp.issubdtype(dtype, jnp.floating)
            return jnp.zeros(shape, direction_dtype(dtype) if floating else dtype)

        return self.layout.full(leaves, zeros)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum:
    """The sum of operators on trees like params; each verb is the sum of theirs.

    Attributes:
      terms: the operators.
    """

    terms: tuple[Any, ...]

    def mv(self, vector: PyTree) -> PyTree:
        """The product with a tree like params."""
        return self._add([term.mv(vector) for term in self.terms])

    def diagonal(self) -> PyTree:
        """The diagonal, as a tree like params."""
        return self._add([term.diagonal() for term in self.terms])

    def trace(self) -> jax.Array:
        """The trace, a scalar."""
        return sum((term.trace() for term in self.terms), jnp.zeros((), scalar_dtype()))

    def as_matrix(self) -> jax.Array:
        """The d×d array, in ``jax.flatten_util.ravel_pytree`` order. For small d."""
        return self._add([term.as_matrix() for term in self.terms])

    @staticmethod
    def _add(trees: list[PyTree]) -> PyTree:
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *trees)


__all__ = ["LowRankPlusScaled", "Sum"]
