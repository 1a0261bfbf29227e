"""Operators: every Hessian and every inverse as a linear map, never as a d×d array."""

import dataclasses
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._products import einsum, matmul
from zovh_jax._rows import gram_of, row_products
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype, vdot
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions import Explicit
from zovh_jax.plan import Plan


class Operator:
    """A symmetric linear map on trees like params: the base of all Hessians and inverses.

    ``op @ tree`` is ``op.mv(tree)``; operators can be added, subtracted, and multiplied by a number
    from either side. A subclass has to define `mv` and `layout`; the other methods then work, at
    the price of d products.

    Attributes:
      layout: the static layout of the trees; None where nothing but products is known, so that
        `diagonal`, `trace` and `as_matrix` raise a TypeError.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> H = zo.problems.quadratic(condition=4.0).hessian(jnp.ones(3))
      >>> isinstance(H, zo.Operator)
      True
      >>> bool(jnp.allclose((2 * H - H) @ jnp.ones(3), H.mv(jnp.ones(3))))
      True
    """

    layout: Any = None
    # NumPy's scalars and arrays leave the arithmetic to the operator.
    __array_ufunc__ = None

    def mv(self, vector: PyTree) -> PyTree:
        """The product with a tree like params."""
        raise NotImplementedError  # pragma: no cover - abstract

    def diagonal(self) -> PyTree:
        """The diagonal, as a tree like params. By default d products, one after the other."""
        layout = self._known_layout()

        def entry(i):
            basis = (jnp.arange(layout.size) == i).astype(scalar_dtype())
            return vdot(basis, self._flat_product(basis))

        return self._tree(_split(jax.lax.map(entry, jnp.arange(layout.size)), layout))

    def trace(self) -> jax.Array:
        """The trace, a scalar. By default the sum of `diagonal`."""
        leaves = self._known_layout().leaves(self.diagonal(), "the diagonal")
        return sum((jnp.sum(x.astype(scalar_dtype())) for x in leaves), jnp.zeros(()))

    def as_matrix(self) -> jax.Array:
        """The d×d array, in ``jax.flatten_util.ravel_pytree`` order. For small d."""
        layout = self._known_layout()
        basis = jnp.eye(layout.size, dtype=scalar_dtype())
        return embedded(jax.vmap(self._flat_product, out_axes=1)(basis), layout)

    def quadratic_forms(self, rows: Leaves, layout: Layout) -> jax.Array:
        """uᵀHu of n vectors u, [n]. By default n products, one after the other.

        Args:
          rows: arrays [n, *shape], one for each leaf that ``layout`` perturbs; the vectors are zero
            on the other leaves.
          layout: of the same params, perhaps with other frozen leaves.
        """

        def form(row):
            product = self.mv(layout.full(row, null))
            return vdot(row, layout.leaves(product, "the product"))

        return jax.lax.map(form, rows)

    def __matmul__(self, vector: PyTree) -> PyTree:
        return self.mv(vector)

    def __add__(self, other: Any) -> "Operator":
        if not isinstance(other, Operator):
            return NotImplemented
        if self.layout is not None and other.layout is not None:
            check_same_params(self.layout, other.layout)
        parts = [x.terms if isinstance(x, Sum) else (x,) for x in (self, other)]
        return Sum((*parts[0], *parts[1]))

    def __mul__(self, factor: Any) -> "Operator":
        return self._multiple(_number(factor)) if _is_number(factor) else NotImplemented

    def __rmul__(self, factor: Any) -> "Operator":
        return self * factor

    def __neg__(self) -> "Operator":
        return self * -1

    def __sub__(self, other: Any) -> "Operator":
        return self + -other if isinstance(other, Operator) else NotImplemented

    def _multiple(self, factor: jax.Array) -> "Operator":
        return Multiple(self, factor)

    def _known_layout(self) -> Layout:
        if self.layout is None:
            raise TypeError(
                f"{type(self).__name__} knows its products only, not the size of params: its "
                "diagonal, trace and matrix need an Operator with a layout, not a bare matvec."
            )
        return self.layout

    def _flat_product(self, vector: jax.Array) -> jax.Array:
        """The product with a vector [d] of all the perturbed parameters."""
        layout = self._known_layout()
        product = self.mv(self._tree(_split(vector, layout)))
        leaves = layout.leaves(product, "the product")
        return jnp.concatenate([jnp.ravel(x).astype(vector.dtype) for x in leaves])

    def _tree(self, leaves: Leaves) -> PyTree:
        return self._known_layout().full(leaves, null)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LowRankPlusScaled(Operator):
    """The symmetric operator scale·I + Σ_k weights_k u_k u_kᵀ on trees like params.

    I is the identity on the leaves that are perturbed: frozen leaves (``directions.masked``) are
    in the operator's null space. It holds the plan of its directions, not the directions.

    Attributes:
      plan: where the n directions come from.
      weights: [n].
      scale: [].
      layout: the static layout of the parameters, as the plan sees it: ``plan.layout(params)``.

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
        return self._tree(
            [
                s + self.scale.astype(s.dtype) * v.astype(s.dtype)
                for s, v in zip(sums, leaves, strict=True)
            ]
        )

    def diagonal(self) -> PyTree:
        """The diagonal, as a tree like params. One pass."""
        sums = self.plan.combine_squares(self.weights, self.layout)
        return self._tree([s + self.scale.astype(s.dtype) for s in sums])

    def trace(self) -> jax.Array:
        """The trace, a scalar."""
        norms = self.plan.squared_norms(self.layout)
        return self.scale * self.layout.size + jnp.sum(self.weights * norms)

    def as_matrix(self) -> jax.Array:
        """The d×d array, in ``jax.flatten_util.ravel_pytree`` order. For small d."""
        dtype, n = scalar_dtype(), self.plan.size
        drawn = [u.astype(dtype).reshape(n, -1) for u in self.plan.materialise(self.layout)]
        rows = jnp.concatenate(drawn, -1)
        low_rank = einsum("k,ki,kj->ij", self.weights, rows, rows)
        return embedded(low_rank + self.scale * jnp.eye(self.layout.size, dtype=dtype), self.layout)

    def quadratic_forms(self, rows, layout):
        """uᵀHu of n vectors u, [n], from one Gram matrix; holds its own directions in memory."""
        check_same_params(self.layout, layout)
        drawn, rest = iter(self.plan.materialise(self.layout)), iter(rows)
        n = rows[0].shape[0]
        gram, norms = jnp.zeros((n, self.plan.size), scalar_dtype()), jnp.zeros(n, scalar_dtype())
        for mine, theirs in zip(self.layout.active, layout.active, strict=True):
            own, row = next(drawn) if mine else None, next(rest) if theirs else None
            if own is not None and row is not None:
                gram, norms = gram + gram_of(row, own), norms + row_products(row, row)
        return self.scale * norms + matmul(jnp.square(gram), self.weights)

    def _multiple(self, factor):
        return dataclasses.replace(self, weights=factor * self.weights, scale=factor * self.scale)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Multiple(Operator):
    """A number times an operator.

    Attributes:
      operator: the operator.
      factor: the number, [].
    """

    operator: Operator
    factor: jax.Array

    @property
    def layout(self) -> Layout | None:  # type: ignore[override]
        return self.operator.layout

    def mv(self, vector):
        return self._scaled(self.operator.mv(vector))

    def diagonal(self):
        return self._scaled(self.operator.diagonal())

    def trace(self):
        return self.factor * self.operator.trace()

    def as_matrix(self):
        return self.factor * self.operator.as_matrix()

    def quadratic_forms(self, rows, layout):
        return self.factor * self.operator.quadratic_forms(rows, layout)

    def _multiple(self, factor):
        return Multiple(self.operator, factor * self.factor)

    def _scaled(self, tree: PyTree) -> PyTree:
        def scaled(x):
            floating = jnp.issubdtype(x.dtype, jnp.floating)
            return self.factor.astype(x.dtype) * x if floating else x

        return jax.tree.map(scaled, tree)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sum(Operator):
    """The sum of operators on trees like the same params; each method is the sum of theirs.

    Attributes:
      terms: the operators. They may have different frozen leaves: the sum's are frozen in all.
    """

    terms: tuple[Operator, ...]

    @property
    def layout(self) -> Layout | None:  # type: ignore[override]
        layouts = [term.layout for term in self.terms]
        return None if None in layouts else functools.reduce(_union, layouts)

    def mv(self, vector):
        return self._add([term.mv(vector) for term in self.terms])

    def diagonal(self):
        return self._add([term.diagonal() for term in self.terms])

    def trace(self):
        return sum((term.trace() for term in self.terms), jnp.zeros((), scalar_dtype()))

    def as_matrix(self):
        return self._add([term.as_matrix() for term in self.terms])

    def quadratic_forms(self, rows, layout):
        return self._add([term.quadratic_forms(rows, layout) for term in self.terms])

    @staticmethod
    def _add(trees: list[PyTree]) -> PyTree:
        return jax.tree.map(lambda *leaves: sum(leaves[1:], leaves[0]), *trees)


def as_low_rank(operator: Any) -> LowRankPlusScaled | None:
    """The same operator as one `LowRankPlusScaled`; None for what can't be written so.

    Multiples and sums of such operators can, if they have the same frozen leaves. A sum's
    directions are put side by side in memory: n copies of the parameters for n of them.
    """
    if isinstance(operator, LowRankPlusScaled):
        return operator
    if isinstance(operator, Multiple):
        inner = as_low_rank(operator.operator)
        return None if inner is None else inner._multiple(operator.factor)
    if not isinstance(operator, Sum):
        return None
    found = [as_low_rank(term) for term in operator.terms]
    terms = [term for term in found if term is not None]
    if len(terms) < len(found) or len({term.layout.active for term in terms}) != 1:
        return None
    rows = [term.plan.materialise(term.layout) for term in terms]
    weights = jnp.concatenate([term.weights for term in terms])
    # The plan is never asked for its own layout: a list of the perturbed leaves will do.
    side_by_side = Explicit([jnp.concatenate(leaf) for leaf in zip(*rows, strict=True)])
    plan = Plan(None, side_by_side, num_directions=weights.shape[0])
    scale = functools.reduce(jnp.add, [term.scale for term in terms])
    return LowRankPlusScaled(plan, weights, scale, terms[0].layout)


def null(shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """What an operator gives on a frozen leaf: zeros, or a scalar zero for PRNG keys."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.zeros(shape, direction_dtype(dtype))
    return jnp.zeros(()) if jnp.issubdtype(dtype, jax.dtypes.extended) else jnp.zeros(shape, dtype)


def embedded(block: jax.Array, layout: Layout) -> jax.Array:
    """A matrix on the perturbed parameters among all of them: rows and columns of zeros added."""
    perturbed = np.concatenate([np.full(size, on) for on, size in _sizes(layout)] or [np.zeros(0)])
    if np.all(perturbed):
        return block
    place = np.ix_(*[np.flatnonzero(perturbed)] * 2)
    return jnp.zeros((perturbed.size, perturbed.size), block.dtype).at[place].set(block)


def check_same_params(layout: Layout, other: Layout) -> None:
    """Raises if two layouts are of different trees; frozen leaves and dtypes may differ."""
    if (layout.treedef, _shapes(layout)) != (other.treedef, _shapes(other)):
        raise ValueError(
            "these operators belong to different params: "
            f"{layout.treedef} with shapes {_shapes(layout)}, and "
            f"{other.treedef} with shapes {_shapes(other)}."
        )


def _shapes(layout: Layout) -> list[tuple[int, ...]]:
    """Shapes of all leaves, the frozen ones in their places."""
    perturbed, frozen = iter(layout.shapes), iter(layout.frozen)
    return [next(perturbed) if on else next(frozen)[0] for on in layout.active]


def _sizes(layout: Layout) -> list[tuple[bool, int]]:
    """Whether a leaf is perturbed, and its size."""
    return list(zip(layout.active, map(math.prod, _shapes(layout)), strict=True))


def _union(first: Layout, second: Layout) -> Layout:
    """The layout that perturbs what either of two perturbs."""
    if first.active == second.active:
        return first
    fields: list[Any] = [[], [], [], []]
    perturbed = [iter(zip(x.shapes, x.dtypes, x.shardings, strict=True)) for x in (first, second)]
    frozen = [iter(x.frozen) for x in (first, second)]
    active = []
    for ons in zip(first.active, second.active, strict=True):
        seen = [next(perturbed[i]) if on else next(frozen[i]) for i, on in enumerate(ons)]
        active.append(any(ons))
        if any(ons):
            for field, value in zip(fields[:3], seen[ons.index(True)], strict=True):
                field.append(value)
        else:
            fields[3].append(seen[0])
    return Layout(first.treedef, tuple(active), *map(tuple, fields))


def _split(vector: jax.Array, layout: Layout) -> Leaves:
    """A vector [d] as one array a perturbed leaf, in the dtype of directions."""
    ends = np.cumsum([math.prod(shape) for shape in layout.shapes])
    parts = jnp.split(vector, ends[:-1]) if len(ends) else []
    return [
        part.reshape(shape).astype(direction_dtype(dtype))
        for part, shape, dtype in zip(parts, layout.shapes, layout.dtypes, strict=True)
    ]


def _is_number(x: Any) -> bool:
    if isinstance(x, (jax.Array, np.ndarray, np.generic, int, float)) and not isinstance(x, bool):
        return jnp.ndim(x) == 0
    return False


def _number(x: Any) -> jax.Array:
    return jnp.asarray(x, scalar_dtype())


__all__ = ["LowRankPlusScaled", "Multiple", "Operator", "Sum", "as_low_rank", "null"]
