"""Pytrees as lists of the leaves that are perturbed: static layout, dtype rules, dot products.

Parameters are never raveled into one vector in a path that must scale. A tree is taken apart once,
where it comes in: the leaves that are perturbed become a list of arrays, the frozen ones stay
behind. All else works on such lists, and what goes out is put together again.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax._mesh import constant, explicit_sharding
from zovh_jax._program import FEW
from zovh_jax._types import Leaves, PyTree


def scalar_dtype() -> jnp.dtype:
    """dtype of values, coefficients and dot products: the widest float that is enabled."""
    return jnp.result_type(float)


def direction_dtype(dtype: Any) -> jnp.dtype:
    """dtype in which a leaf's directions are drawn and summed: float32 or the leaf's, if wider."""
    return jnp.dtype(dtype) if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Layout:
    """What is static about a parameter tree; hashable, so it can be a compile-time constant.

    Attributes:
      treedef: of the whole tree.
      active: which of its leaves are perturbed.
      shapes, dtypes: of the leaves that are perturbed.
      shardings: how these are laid out over an Explicit mesh; None for each that is not.
      frozen: shape and dtype of the other leaves.
    """

    treedef: Any
    active: tuple[bool, ...]
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]
    shardings: tuple[Any, ...]
    frozen: tuple[tuple[tuple[int, ...], Any], ...]

    @property
    def num_leaves(self) -> int:
        """The number of leaves that are perturbed."""
        return len(self.shapes)

    @property
    def size(self) -> int:
        """d, the number of parameters that are perturbed."""
        return sum(math.prod(shape) for shape in self.shapes)

    def leaves(self, tree: PyTree, name: str) -> Leaves:
        """The perturbed leaves of a tree like params, as arrays.

        Raises:
          ValueError: if the tree has another structure, or a perturbed leaf another shape.
        """
        try:
            leaves = self.treedef.flatten_up_to(tree)
        except ValueError:
            leaves = None
        if leaves is not None:
            leaves = [leaf for leaf, on in zip(leaves, self.active, strict=True) if on]
        if leaves is None or tuple(map(np.shape, leaves)) != self.shapes:
            got = jax.tree.map(np.shape, tree)
            raise ValueError(
                f"{name} must be a tree like params, {self.treedef} with shapes "
                f"{list(self.shapes)}; got {jax.tree.structure(tree)} with shapes {got}."
            )
        return [jnp.asarray(leaf) for leaf in leaves]

    def tree(self, leaves: Sequence[Any]) -> PyTree:
        """The tree of perturbed leaves; None where frozen."""
        rest = iter(leaves)
        return self.treedef.unflatten([next(rest) if on else None for on in self.active])

    def full(self, leaves: Sequence[Any], fill: Callable[[tuple[int, ...], Any], Any]) -> PyTree:
        """The tree of perturbed leaves, with ``fill(shape, dtype)`` where frozen."""
        rest, others = iter(leaves), iter(self.frozen)
        return self.treedef.unflatten(
            [next(rest) if on else fill(*next(others)) for on in self.active]
        )

    def merge(self, leaves: Sequence[Any], tree: PyTree, change: Callable[[Any], Any]) -> PyTree:
        """The tree of perturbed leaves, with ``change`` of another tree's leaves where frozen."""
        rest, others = iter(leaves), self.treedef.flatten_up_to(tree)
        return self.treedef.unflatten(
            [next(rest) if on else change(x) for x, on in zip(others, self.active, strict=True)]
        )

    def updates(self, leaves: Sequence[Any]) -> PyTree:
        """The tree in the parameters' own dtypes, zero where frozen.

        Leaves to which nothing can be added, such as PRNG keys, get a scalar zero.
        """
        cast = [leaf.astype(dtype) for leaf, dtype in zip(leaves, self.dtypes, strict=True)]

        def zero(shape, dtype):
            addable = not jnp.issubdtype(dtype, jax.dtypes.extended)
            return jnp.zeros(shape, dtype) if addable else jnp.zeros(())

        return self.full(cast, zero)

    def wide(self) -> list[tuple[tuple[int, ...], Any, Any]]:
        """Shape, dtype of directions and sharding of each perturbed leaf."""
        dtypes = map(direction_dtype, self.dtypes)
        return list(zip(self.shapes, dtypes, self.shardings, strict=True))

    def filled(self, value: float = 0.0, rows: tuple[int, ...] = ()) -> Leaves:
        """Constant arrays in the dtype of directions, perhaps with leading axes."""
        return [constant((*rows, *shape), value, dtype, s) for shape, dtype, s in self.wide()]

    def with_leaves(self, shapes: Sequence[tuple[int, ...]], dtypes: Sequence[Any]) -> "Layout":
        """A layout of other leaves, which are split over no mesh; not of a tree."""
        return dataclasses.replace(
            self, shapes=tuple(shapes), dtypes=tuple(dtypes), shardings=(None,) * len(shapes)
        )

    def zeros(self) -> Leaves:
        """Zeros in the dtype of directions, to accumulate into."""
        return self.filled()


def layout_of(
    params: PyTree, active: Callable[[Any], tuple[bool, ...]] | None = None, name: str = "params"
) -> Layout:
    """The layout of a tree of arrays (or ``jax.ShapeDtypeStruct``).

    Args:
      params: the tree. Its perturbed leaves must be floats, the others may have any dtype.
      active: which leaves are perturbed, from the tree's structure; None for all.
      name: of the tree, for errors.

    Raises:
      TypeError: for ``optax.MaskedNode`` leaves, and for a perturbed leaf that is not a float
        array; the message names the leaf's path.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=lambda node: isinstance(node, optax.MaskedNode)
    )
    on = active(treedef) if active else (True,) * len(paths)
    shapes, dtypes, shardings, frozen = [], [], [], []
    for (path, leaf), perturbed in zip(paths, on, strict=True):
        where = f"{name}{jax.tree_util.keystr(path)}"
        if isinstance(leaf, optax.MaskedNode):
            raise TypeError(
                f"{where} is an optax.MaskedNode: optax.masked and optax.partition hide leaves "
                "that value_fn needs. Give the transformation the whole tree and freeze leaves "
                "with directions=zo.directions.masked(directions, mask)."
            )
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        # float64 numpy arrays become what JAX makes of them.
        dtype = dtype if jnp.issubdtype(dtype, jax.dtypes.extended) else _canonical(dtype)
        if not perturbed:
            frozen.append((tuple(np.shape(leaf)), dtype))
            continue
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{where} has dtype {dtype}; only real floating-point leaves can be perturbed. "
                "Convert it, freeze it with directions=zo.directions.masked(directions, mask), or "
                "keep it out of params by closing value_fn over it."
            )
        shapes.append(tuple(np.shape(leaf)))
        dtypes.append(dtype)
        shardings.append(explicit_sharding(leaf))
    return Layout(treedef, tuple(on), tuple(shapes), tuple(dtypes), tuple(shardings), tuple(frozen))


def leaves_of_prefix(tree: PyTree, treedef: Any, name: str) -> list[Any]:
    """A leaf for each of a tree of this structure, from a tree like it or a prefix of it.

    Raises:
      ValueError: if it is neither.
    """
    like = jax.tree.unflatten(treedef, range(treedef.num_leaves))
    none = lambda x: x is None  # noqa: E731
    try:
        return jax.tree.leaves(jax.tree.broadcast(tree, like, is_leaf=none), is_leaf=none)
    except ValueError as error:
        raise ValueError(
            f"{name} must have the structure of params, {treedef}, or be a prefix of it; got "
            f"{jax.tree.structure(tree)}."
        ) from error


def _canonical(dtype: Any) -> jnp.dtype:
    return jnp.dtype(jax.dtypes.canonicalize_dtype(dtype))


def widen(tree: PyTree) -> PyTree:
    """The tree with its floats in the precision of directions; other leaves as they are."""

    def widened(x):
        dtype = jnp.result_type(x)
        floating = jnp.issubdtype(dtype, jnp.floating)
        return jnp.asarray(x, direction_dtype(_canonical(dtype))) if floating else x

    return jax.tree.map(widened, tree)


def cast_like(tree: PyTree, like: PyTree) -> PyTree:
    """The tree in the dtypes of another; what stands in for PRNG keys stays as it is."""

    def cast(x, y):
        return x if jnp.issubdtype(y.dtype, jax.dtypes.extended) else x.astype(y.dtype)

    return jax.tree.map(cast, tree, like)


def vdot(x: PyTree, y: PyTree) -> jax.Array:
    """Inner product over the whole tree, accumulated in the scalar dtype."""
    dtype = scalar_dtype()
    terms = jax.tree.map(lambda a, b: jnp.sum((a * b).astype(dtype)), x, y)
    return total(jax.tree.leaves(terms))


def total(terms: Sequence[jax.Array]) -> jax.Array:
    """The sum of scalars, or of other arrays of one shape, one of each leaf.

    Many are stacked: in a chain of additions each would be fused with all before it.
    """
    if len(terms) > FEW:
        return jnp.sum(jnp.stack(terms), 0)
    return sum(terms, jnp.zeros((), scalar_dtype()))


def norm(x: PyTree) -> jax.Array:
    """Euclidean norm over the whole tree."""
    return jnp.sqrt(vdot(x, x))


def scale(factor: jax.Array, x: PyTree) -> PyTree:
    """``factor * x`` in each leaf's own dtype."""
    return jax.tree.map(lambda a: factor.astype(a.dtype) * a, x)


def add_scaled(x: PyTree, factor: jax.Array, y: PyTree) -> PyTree:
    """``x + factor * y`` in the dtype of each leaf of x."""
    return jax.tree.map(lambda a, b: a + factor.astype(a.dtype) * b.astype(a.dtype), x, y)
