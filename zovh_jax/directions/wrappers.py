"""Families made from other families: on some leaves only, or with a scale for each parameter."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._factors import Factors
from zovh_jax._tree import Layout, leaves_of_prefix
from zovh_jax._types import PyTree
from zovh_jax.directions.families import Directions, Explicit, as_family


class Wrapper(Directions):
    """A family made from another one, `directions`: by default it draws the same.

    It claims none of the other's moments, as it may change the law: a subclass says which it has.
    """

    directions: Directions

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return self.directions.joint

    @property
    def factored(self) -> bool:  # type: ignore[override]
        return self.directions.factored

    def draw(self, key, layout, num_directions, indices):
        return self.directions.draw(key, layout, num_directions, indices)

    def round_key(self, key, count, layout, num_directions):
        return self.directions.round_key(key, count, layout, num_directions)

    def active(self, treedef):
        return as_family(self.directions).active(treedef)

    def check_rounds(self, layout, num_directions):
        self.directions.check_rounds(layout, num_directions)


def _inherited(capability: str) -> Any:
    return property(lambda self: getattr(self.directions, capability))


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, init=False)
class Masked(Wrapper):
    """A family on some leaves only: the others are frozen, get no direction and cost nothing.

    E[u uᵀ] is the identity on the leaves that are left, and d is their number of parameters.
    Frozen leaves may have any dtype. Freeze parameters so, not with ``optax.masked``, which hides
    the leaves that it masks from ``value_fn``. Parts of optax that come after an estimate see all
    leaves: weight decay moves frozen ones, unless ``optax.masked`` hides these from it.

    Args:
      directions: the family to draw from (not ``explicit``: put zeros in its tree instead).
      mask: a tree of bools like params, or a prefix of it; True leaves are perturbed.
    """

    directions: Directions
    mask: tuple[bool, ...]
    mask_treedef: jax.tree_util.PyTreeDef

    isotropic = _inherited("isotropic")
    constant_norm = _inherited("constant_norm")
    rotation_invariant = _inherited("rotation_invariant")
    gaussian_moments = _inherited("gaussian_moments")
    standard_normal = _inherited("standard_normal")
    sees_diagonal = _inherited("sees_diagonal")
    largest = _inherited("largest")

    def __init__(self, directions: Directions, mask: PyTree):
        as_family(directions)
        if isinstance(directions, Explicit):
            raise ValueError(
                "masked(explicit(tree), mask) is not supported: put zeros in the frozen leaves "
                "of tree instead."
            )
        if isinstance(directions, Scaled):
            raise ValueError(
                "masked(scaled(directions, scale), mask) is not supported: write "
                "scaled(masked(directions, mask), scale)."
            )
        leaves, treedef = jax.tree.flatten(mask)
        if not all(isinstance(leaf, (bool, np.bool_)) for leaf in leaves):
            raise ValueError(
                f"mask must be a tree of Python bools, got {mask!r}. To make it by a function: "
                "jax.tree_util.tree_map_with_path(lambda path, x: …, params)."
            )
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "mask", tuple(bool(leaf) for leaf in leaves))
        object.__setattr__(self, "mask_treedef", treedef)

    @property
    def mask_tree(self) -> PyTree:
        """The mask, as it was given."""
        return jax.tree.unflatten(self.mask_treedef, self.mask)

    def active(self, treedef):
        if not treedef.num_leaves:
            return ()
        full = leaves_of_prefix(self.mask_tree, treedef, "mask")
        inner = self.directions.active(treedef)
        return tuple(on and below for on, below in zip(full, inner, strict=True))

    def shrinkage(self, n, layout):
        return self.directions.shrinkage(n, layout)

    def check_rounds(self, layout, num_directions):
        if layout.active and not any(layout.active):
            raise ValueError("mask freezes every leaf: at least one must be True.")
        self.directions.check_rounds(layout, num_directions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Scaled(Wrapper):
    """u = s∘z: directions z of another family, times a number for each parameter.

    E[u uᵀ] = diag(s²), not I. A gradient estimated along them has mean s²∘∇F, with F the objective
    smoothed over θ + μ s∘z: the gradient preconditioned by s². Divide it by s² for the gradient.
    `zo.estimators.hessian` and what builds on it do not apply. The scale can change at every step
    without a new compilation; a `History` keeps no scales, and cannot replay these rounds.

    Factored directions stay factored on leaves whose scale depends on inputs alone or on outputs
    alone, as one number for a leaf does; elsewhere they become arrays.

    Args:
      directions: the family of z (not ``explicit``: multiply its tree instead), perhaps masked.
      scale: s, a tree like params or a prefix of it, of arrays that broadcast to their leaves; its
        values on frozen leaves do not matter. A zero freezes its parameter.
    """

    directions: Directions
    scale: PyTree
    sees_diagonal = _inherited("sees_diagonal")

    def draw(self, key, layout: Layout, num_directions, indices):
        drawn = self.directions.draw(key, layout, num_directions, indices)

        def times(z, s):
            s = s.astype(z.dtype)
            return z.times(s) if isinstance(z, Factors) else z * s[None]

        return list(map(times, drawn, self._scales(layout)))

    def check_rounds(self, layout, num_directions):
        if isinstance(self.directions, (Explicit, Scaled)):
            raise ValueError(
                f"scaled({type(self.directions).__name__.lower()}(…), scale) is not supported: "
                "multiply its arrays by the scale instead."
            )
        self._scales(layout)
        self.directions.check_rounds(layout, num_directions)

    def _scales(self, layout: Layout) -> list[jax.Array]:
        """The scale of each perturbed leaf, with as many axes as it."""
        scales = leaves_of_prefix(self.scale, layout.treedef, "scale")
        scales = [s for s, on in zip(scales, layout.active, strict=True) if on]

        def like(s, shape):
            if s is None or not _broadcasts(np.shape(s), shape):
                raise ValueError(
                    "scale must be a tree of arrays that broadcast to those of params; got shape "
                    f"{np.shape(s)} for one of {shape}."
                )
            s = jnp.asarray(s)
            return s.reshape((1,) * (len(shape) - s.ndim) + s.shape)

        return list(map(like, scales, layout.shapes))


def _broadcasts(shape: tuple[int, ...], to: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, to) == to
    except ValueError:
        return False


__all__ = ["Masked", "Scaled", "Wrapper"]
