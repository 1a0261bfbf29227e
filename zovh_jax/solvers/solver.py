"""What a solver is, and what the direct and the iterative ones share."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _tree
from zovh_jax._tree import Layout
from zovh_jax._types import Leaves, Matvec, PyTree
from zovh_jax.operators import LowRankPlusScaled, Operator, as_low_rank, null


class SolveInfo(NamedTuple):
    """How a solve went.

    Attributes:
      residual: ‖v − (H + λI) x‖ / ‖v‖ of the answer; 0 for direct solvers, which do not check.
      diverged: whether the iteration broke down; its answer is then NaN.
      num_matvecs: products with H that were spent.
    """

    residual: jax.Array
    diverged: jax.Array
    num_matvecs: jax.Array


class Solver:
    """Computes (H + λI)⁻¹ v."""

    def solve(
        self,
        operator: Operator | Matvec,
        v: PyTree,
        damping: jax.Array,
        key: jax.Array | None = None,
    ) -> tuple[PyTree, SolveInfo]:
        """(H + λI)⁻¹ v, and how the solve went.

        Args:
          operator: H, an operator or a matvec on trees like v.
          v: the right-hand side.
          damping: λ.
          key: for solvers that draw random numbers.
        """
        raise NotImplementedError  # pragma: no cover - abstract


class IterativeSolver(Solver):
    """A solver that asks for nothing but products."""

    def iterate(self, matvec: Matvec, v: PyTree, key: jax.Array | None) -> tuple[PyTree, SolveInfo]:
        """A⁻¹ v for a matvec x ↦ A x on trees of float arrays like v."""
        raise NotImplementedError  # pragma: no cover - abstract

    def solve(self, operator, v, damping, key=None):
        layout = operator.layout if isinstance(operator, Operator) else None
        mv = operator.mv if isinstance(operator, Operator) else operator
        if not callable(mv):
            raise TypeError(f"operator must be a zo.Operator or a matvec; got {operator!r}.")
        if layout is None:
            return self.iterate(damped(mv, damping), v, key)

        def product(leaves):
            return layout.leaves(mv(layout.tree(leaves)), "the product")

        x, info = self.iterate(damped(product, damping), layout.leaves(v, "v"), key)
        return put_together(x, v, damping, layout), info


class DirectSolver(Solver):
    """A solver that writes the answer as v/β − Σ_k q_k u_k, with β = λ + scale.

    The subclasses differ in q, which is linear in the products u_k · v. They can also use one β and
    one set of q for each leaf, as if the leaves were independent problems: a trailing axis of
    groups, of length 1 or num_leaves.
    """

    needs_gram: ClassVar[bool] = False
    """Whether q_k depends on all directions at once. If not, it depends on those of u_k alone and
    is a multiple of u_k · v, so that `coefficients` may be called by blocks."""

    def regularise(self, base: jax.Array, damping: jax.Array) -> jax.Array:
        """β as v is divided by it, [groups]."""
        return base

    def coefficients(
        self,
        weights: jax.Array,
        base: jax.Array,
        damping: jax.Array,
        dots: jax.Array,
        squared_norms: jax.Array,
        gram: Callable[[], jax.Array],
    ) -> jax.Array:
        """q, [n, groups].

        Args:
          weights: w_k, [n].
          base: β, [groups].
          damping: λ, [].
          dots: u_k · v, [n, groups].
          squared_norms: ‖u_k‖², [n, groups].
          gram: makes u_j · u_k, [n, n, groups]; only called by those who need it.
        """
        raise NotImplementedError  # pragma: no cover - abstract

    def low_rank(self, operator: Any) -> LowRankPlusScaled:
        """The operator with the directions that this solver has to see.

        Raises:
          TypeError: for an operator that has none.
        """
        found = as_low_rank(operator)
        if found is None:
            raise TypeError(
                f"{self!r} needs a LowRankPlusScaled operator, or a sum or multiple of such with "
                f"the same frozen leaves, whose directions it can see; got "
                f"{type(operator).__name__}. For other operators, and for a bare matvec, use "
                "zo.solvers.cg() or neumann(...)."
            )
        return found

    def solve(self, operator, v, damping, key=None):
        del key
        operator = self.low_rank(operator)
        plan, layout = operator.plan, operator.layout
        leaves = layout.leaves(v, "v")
        dots, norms = plan.inner(leaves, layout)
        beta = (operator.scale + damping)[None]
        q = self.coefficients(
            operator.weights,
            beta,
            damping,
            jnp.sum(dots, -1, keepdims=True),
            jnp.sum(norms, -1, keepdims=True),
            lambda: jnp.sum(plan.gram(layout), -1, keepdims=True),
        )[:, 0]
        sums = plan.combine(-q, layout)
        inverse = 1 / self.regularise(beta, damping)[0]
        x = [_tree.add_scaled(s, inverse, leaf) for s, leaf in zip(sums, leaves, strict=True)]
        zero = jnp.zeros((), _tree.scalar_dtype())
        info = SolveInfo(zero, jnp.zeros((), bool), jnp.zeros((), jnp.int32))
        return put_together(x, v, damping, layout), info


def put_together(x: Leaves, v: PyTree, damping: jax.Array, layout: Layout) -> PyTree:
    """The solution on the perturbed leaves, with v/λ on the frozen ones, where H is zero."""

    def divided(leaf):
        if leaf is None:
            return None
        dtype = jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            return null(jnp.shape(leaf), dtype)
        return _tree.scale(1 / damping, leaf)

    return layout.merge(x, v, divided)


def damped(mv: Matvec, damping: jax.Array) -> Matvec:
    """x ↦ H x + λ x, in the dtypes of x."""

    def product(x):
        return jax.tree.map(lambda h, a: h.astype(a.dtype) + damping.astype(a.dtype) * a, mv(x), x)

    return product


def poison(x: PyTree, diverged: jax.Array) -> PyTree:
    """NaN everywhere if the solve diverged, so that no wrong answer is returned silently."""
    return jax.tree.map(lambda a: jnp.where(diverged, jnp.asarray(jnp.nan, a.dtype), a), x)
