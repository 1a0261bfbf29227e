"""Families made from other families: on some leaves only, or with a scale for each parameter."""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._tree import flatten_like
from zovh_jax._types import PyTree
from zovh_jax.directions.families import Directions, Explicit


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, init=False)
class Masked(Directions):
    """A family on some leaves only: the others are frozen, get no direction and cost nothing.

    E[u uᵀ] is the identity on the leaves that are left, and d is their number of parameters.
    This is how to freeze parameters here: ``optax.masked`` would hide from ``value_fn`` the
    leaves that it masks.

    Args:
      directions: the family to draw from (not ``explicit``: put zeros in its tree instead).
      mask: a tree of bools like params, or a prefix of it; True leaves are perturbed.
    """

    directions: Directions
    mask: tuple[bool, ...]
    mask_treedef: jax.tree_util.PyTreeDef

    def __init__(self, directions: Directions, mask: PyTree):
        _checks.instance("directions", directions, Directions, "the families of zo.directions")
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
            raise ValueError(f"mask must be a tree of Python bools, got {mask!r}.")
        object.__setattr__(self, "directions", directions)
        object.__setattr__(self, "mask", tuple(bool(leaf) for leaf in leaves))
        object.__setattr__(self, "mask_treedef", treedef)

    @property
    def law(self) -> str:  # type: ignore[override]
        return self.directions.law

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return self.directions.joint

    def active(self, structure):
        if not structure.num_leaves:
            return ()
        mask = jax.tree.unflatten(self.mask_treedef, self.mask)
        like = structure.unflatten(range(structure.num_leaves))
        try:
            full = jax.tree.leaves(jax.tree.broadcast(mask, like))
        except ValueError as error:
            raise ValueError(
                f"mask must have the structure of params, {structure.treedef}, or be a prefix "
                f"of it; got {self.mask_treedef}."
            ) from error
        return tuple(full)

    def dimension(self, structure):
        return structure.select(self.active(structure)).size

    def draw(self, key, structure, num_directions, indices):
        active = self.active(structure)
        drawn = iter(self.directions.draw(key, structure.select(active), num_directions, indices))
        return [next(drawn) if on else None for on in active]

    def round_key(self, key, count, structure, num_directions):
        selected = structure.select(self.active(structure))
        return self.directions.round_key(key, count, selected, num_directions)

    def shrinkage(self, n, structure):
        return self.directions.shrinkage(n, structure.select(self.active(structure)))

    def check_rounds(self, structure, num_directions):
        if structure.num_leaves and not any(self.active(structure)):
            raise ValueError("mask freezes every leaf: at least one must be True.")
        selected = structure.select(self.active(structure))
        self.directions.check_rounds(selected, num_directions)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Scaled(Directions):
    """u = s∘z: directions z of another family, times a number for each parameter.

    E[u uᵀ] = diag(s²), not I. A gradient estimated along them has mean s²∘∇F, with F the objective
    smoothed over θ + μ s∘z: the gradient preconditioned by s². Divide it by s² for the gradient.
    `zo.estimators.hessian` and what builds on it do not apply. The scale is an array of the
    program, so that it can change at every step without compiling anew; a `History` keeps no
    scales and cannot replay these rounds.

    Args:
      directions: the family of z (not ``explicit``: multiply its tree instead), perhaps masked.
      scale: s, a tree of arrays like params, on the frozen leaves too; zero is frozen.
    """

    directions: Directions
    scale: PyTree
    law: ClassVar[str] = "scaled"

    @property
    def joint(self) -> bool:  # type: ignore[override]
        return self.directions.joint

    def active(self, structure):
        return self.directions.active(structure)

    def dimension(self, structure):
        return self.directions.dimension(structure)

    def draw(self, key, structure, num_directions, indices):
        drawn = self.directions.draw(key, structure, num_directions, indices)
        return [
            z if z is None else z * jnp.asarray(s, z.dtype)[None]
            for z, s in zip(drawn, jax.tree.leaves(self.scale), strict=True)
        ]

    def round_key(self, key, count, structure, num_directions):
        return self.directions.round_key(key, count, structure, num_directions)

    def check_rounds(self, structure, num_directions):
        _checks.instance("directions", self.directions, Directions, "the families of zo.directions")
        if isinstance(self.directions, (Explicit, Scaled)):
            raise ValueError(
                f"scaled({type(self.directions).__name__.lower()}(…), scale) is not supported: "
                "multiply its arrays by the scale instead."
            )
        flatten_like(self.scale, structure, "scale")
        self.directions.check_rounds(structure, num_directions)


__all__ = ["Masked", "Scaled"]
