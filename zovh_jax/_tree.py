"""Pytrees as lists of leaves: static structure, dtype rules and dot products.

The library never ravels parameters into one vector in a path that must scale. It flattens a
tree once at the door, works leaf by leaf, and unflattens on the way out.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from zovh_jax._types import Leaves, PyTree


def scalar_dtype() -> jnp.dtype:
    """dtype of values, coefficients and dot products: the widest float that is enabled."""
    return jnp.result_type(float)


def direction_dtype(dtype: Any) -> jnp.dtype:
    """dtype in which a leaf's directions are drawn and summed: float32 or the leaf's, if wider."""
    return jnp.dtype(dtype) if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


@dataclasses.dataclass(frozen=True)
class Structure:
    """What is static about a parameter tree; hashable, so it can be a compile-time constant."""

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]

    @property
    def num_leaves(self) -> int:
        return len(self.shapes)

    @property
    def size(self) -> int:
        """d, the number of parameters."""
        return sum(math.prod(shape) for shape in self.shapes)

    def unflatten(self, leaves: Sequence[Any]) -> PyTree:
        return jax.tree.unflatten(self.treedef, leaves)

    def select(self, active: Sequence[bool]) -> "Structure":
        """The structure of the active leaves alone, as a tuple."""
        shapes = tuple(s for s, on in zip(self.shapes, active, strict=True) if on)
        dtypes = tuple(t for t, on in zip(self.dtypes, active, strict=True) if on)
        return Structure(jax.tree.structure((0,) * len(shapes)), shapes, dtypes)

    def zeros(self) -> Leaves:
        """Zeros in the directions' dtype, to accumulate into."""
        return [
            jnp.zeros(s, direction_dtype(t)) for s, t in zip(self.shapes, self.dtypes, strict=True)
        ]


def structure_of(params: PyTree, name: str = "params") -> Structure:
    """The structure of a tree of float arrays (or ``jax.ShapeDtypeStruct``).

    Raises:
      TypeError: for ``optax.MaskedNode`` leaves, and for a leaf that is not a float array; the
        message names the leaf's path.
    """
    paths, treedef = jax.tree_util.tree_flatten_with_path(
        params, is_leaf=lambda node: isinstance(node, optax.MaskedNode)
    )
    shapes, dtypes = [], []
    for path, leaf in paths:
        where = f"{name}{jax.tree_util.keystr(path)}"
        if isinstance(leaf, optax.MaskedNode):
            raise TypeError(
                f"{where} is an optax.MaskedNode: optax.masked and optax.partition hide leaves "
                "that value_fn needs. Give the transformation the whole tree and freeze leaves "
                "with directions=zo.directions.masked(directions, mask)."
            )
        dtype = leaf.dtype if hasattr(leaf, "dtype") else jnp.result_type(leaf)
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"{where} has dtype {dtype}; only real floating-point leaves can be perturbed. "
                "Convert it, or keep it out of params by closing value_fn over it."
            )
        shapes.append(tuple(jnp.shape(leaf)))
        dtypes.append(jnp.dtype(dtype))
    return Structure(treedef, tuple(shapes), tuple(dtypes))


def flatten_like(tree: PyTree, structure: Structure, name: str) -> list[jax.Array]:
    """Leaves of ``tree``, which must have the given structure and shapes."""
    leaves, treedef = jax.tree.flatten(tree)
    shapes = tuple(jnp.shape(leaf) for leaf in leaves)
    if treedef != structure.treedef or shapes != structure.shapes:
        raise ValueError(
            f"{name} must be a tree like params, {structure.treedef} with shapes "
            f"{list(structure.shapes)}; got {treedef} with shapes {list(shapes)}."
        )
    return [jnp.asarray(leaf) for leaf in leaves]


def widen(tree: PyTree, name: str) -> PyTree:
    """A tree of float arrays, in the precision of directions."""
    structure_of(tree, name)
    return jax.tree.map(lambda x: jnp.asarray(x, direction_dtype(jnp.result_type(x))), tree)


def cast_leaves(leaves: Sequence[Any], structure: Structure) -> PyTree:
    """The tree with the parameters' own dtypes; frozen leaves become zeros."""
    return structure.unflatten(
        [
            jnp.zeros(s, t) if leaf is None else leaf.astype(t)
            for leaf, s, t in zip(leaves, structure.shapes, structure.dtypes, strict=True)
        ]
    )


def vdot(x: PyTree, y: PyTree) -> jax.Array:
    """Inner product over the whole tree, accumulated in the scalar dtype."""
    dtype = scalar_dtype()
    terms = jax.tree.map(lambda a, b: jnp.sum((a * b).astype(dtype)), x, y)
    return jax.tree.reduce(jnp.add, terms, jnp.zeros((), dtype))


def norm(x: PyTree) -> jax.Array:
    """Euclidean norm over the whole tree."""
    return jnp.sqrt(vdot(x, x))


def scale(factor: jax.Array, x: PyTree) -> PyTree:
    """``factor * x`` in each leaf's own dtype."""
    return jax.tree.map(lambda a: factor.astype(a.dtype) * a, x)


def add_scaled(x: PyTree, factor: jax.Array, y: PyTree) -> PyTree:
    """``x + factor * y`` in the dtype of each leaf of x."""
    return jax.tree.map(lambda a, b: a + factor.astype(a.dtype) * b.astype(a.dtype), x, y)
