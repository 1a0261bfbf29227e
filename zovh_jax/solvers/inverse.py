"""``solve`` and ``inverse``: (H + λI)⁻¹ with any solver."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype, widen
from zovh_jax._types import Matvec, PyTree
from zovh_jax.operators import LowRankPlusScaled
from zovh_jax.solvers.solver import Solver
from zovh_jax.solvers.woodbury import woodbury


def solve(
    operator: LowRankPlusScaled | Matvec,
    v: PyTree,
    *,
    damping: Any,
    solver: Solver = woodbury(),
    key: jax.Array | None = None,
    return_info: bool = False,
) -> Any:
    """(H + λI)⁻¹ v.

    Args:
      operator: H, a `LowRankPlusScaled`; or any symmetric matvec, with ``cg`` and ``neumann``.
      v: a tree like params.
      damping: λ > 0.
      solver: ``woodbury()`` (exact), ``gram_diagonal()``, ``neumann(num_terms=…)`` or ``cg()``.
      key: for solvers that draw random numbers (``neumann(truncation="random")``).
      return_info: also return a `SolveInfo`.

    Returns:
      A tree like v, in float32 or wider; or (tree, info). NaN where the solver diverged. No query
      is spent.

    Raises:
      ValueError: if v is not like params, or damping is not positive.
      TypeError: if a direct solver is given a bare matvec.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1)
      >>> H = zo.estimators.hessian(queries, x)
      >>> zo.solve(H, x, damping=1.0).shape
      (3,)
    """
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")
    damping = jnp.asarray(_checks.positive("damping", damping), scalar_dtype())
    v = widen(v)
    x, info = solver.solve(operator, v, damping, key)
    return (x, info) if return_info else x


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InverseOperator:
    """(H + λI)⁻¹ as an operator; made by `inverse`."""

    operator: Any
    damping: Any
    solver: Solver = dataclasses.field(metadata={"static": True})

    def mv(self, vector: PyTree) -> PyTree:
        """The product with a tree like params."""
        return solve(self.operator, vector, damping=self.damping, solver=self.solver)

    def as_matrix(self) -> jax.Array:
        """The d×d array, in ``ravel_pytree`` order. For small d."""
        if not isinstance(self.operator, LowRankPlusScaled):
            raise TypeError("as_matrix needs a LowRankPlusScaled: a bare matvec has no known size.")
        layout = self.operator.layout
        like = layout.full(layout.zeros(), lambda shape, dtype: jnp.zeros(shape))
        flat, unravel = ravel_pytree(like)

        def column(basis_vector):
            return ravel_pytree(self.mv(unravel(basis_vector)))[0]

        return jax.vmap(column, out_axes=1)(jnp.eye(flat.shape[0], dtype=flat.dtype))


def inverse(
    operator: LowRankPlusScaled | Matvec, *, damping: Any, solver: Solver = woodbury()
) -> InverseOperator:
    """(H + λI)⁻¹ as an operator with ``.mv`` and ``.as_matrix``; arguments as in `solve`.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1)
      >>> H = zo.estimators.hessian(queries, x)
      >>> product = zo.inverse(H, damping=1.0).as_matrix() @ (H.as_matrix() + jnp.eye(3))
      >>> bool(jnp.allclose(product, jnp.eye(3), atol=1e-4))
      True
    """
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")
    if getattr(solver, "truncation", "fixed") == "random":
        raise ValueError(
            f"solver={solver!r} needs a key at every product: use zo.solve(..., key=key)."
        )
    return InverseOperator(operator, _checks.positive("damping", damping), solver)


__all__ = ["InverseOperator", "inverse", "solve"]
