"""Families of directions that draw, or that hold the caller's own."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._random import draw_once, fast_normal
from zovh_jax._tree import Structure, direction_dtype, scalar_dtype
from zovh_jax._types import Leaves, PyTree


class Directions:
    """A family of directions. All but ``explicit`` and ``scaled`` are hashable, without arrays."""

    law: ClassVar[str]
    """"gaussian", "sphere", "rademacher", "given" or "scaled": which Hessian estimators apply."""

    joint: ClassVar[bool] = False
    """Whether the directions of a round depend on each other, so that none is drawn alone."""

    def draw(
        self, key: jax.Array, structure: Structure, num_directions: int, indices: jax.Array
    ) -> Leaves:
        """Directions ``indices`` of a round: arrays [len(indices), *leaf], None where frozen."""
        raise NotImplementedError  # pragma: no cover - abstract

    def round_key(
        self, key: jax.Array, count: jax.Array, structure: Structure, num_directions: int
    ) -> jax.Array:
        """The key of an optimiser's round number ``count``; ``key`` is the same in all rounds."""
        del structure, num_directions
        return jax.random.fold_in(key, count)

    def shrinkage(self, n: Any, structure: Structure) -> jax.Array:
        """The best multiple of a gradient estimate: a = ‖g‖² / E‖ĝ‖², between 0 and 1.

        ĝ = Σ_k (g·u_k) u_k / n, from exact slopes along the n directions of one round. As E ĝ = g,
        a step −a ĝ/τ has E[f] − f0 = (−a ‖g‖² + a² E‖ĝ‖²/2)/τ where the Hessian is τI, and this a
        makes it least. Gaussian: n/(n + d + 1); independent with ‖u‖² = d: n/(n + d − 1).

        Raises:
          ValueError: for ``explicit`` and ``scaled``, whose moments are unknown here.
        """
        d, n = self.dimension(structure), jnp.asarray(n, scalar_dtype())
        if self.law == "gaussian":
            return n / (n + d + 1)
        if self.law in ("sphere", "rademacher"):
            return n / jnp.maximum(n + d - 1, 1)
        raise ValueError(
            f"no shrinkage is known for directions of law {self.law!r}: use a family that draws "
            "E[u uᵀ] = I, such as zo.directions.gaussian()."
        )

    def dimension(self, structure: Structure) -> int:
        """Number of parameters that are perturbed."""
        return structure.size

    def active(self, structure: Structure) -> tuple[bool, ...]:
        """Which leaves are perturbed."""
        return (True,) * structure.num_leaves

    def check_rounds(self, structure: Structure, num_directions: int) -> None:
        """Raises where this family cannot give ``num_directions`` directions."""


def without_replacement(n: Any, d: int, period: int) -> jax.Array:
    """`Directions.shrinkage` of n directions drawn without replacement from Σ u uᵀ = period·I.

    Whole periods give the gradient exactly, and the r directions that are left over are as good
    as r of ``period``, drawn at random: E‖ĝ‖² = ‖g‖² (1 + r (period − r)(d − 1)/(period − 1)/n²).
    """
    n = jnp.asarray(n, scalar_dtype())
    r = n % period
    excess = r * (period - r) * ((d - 1) / max(period - 1, 1))
    return jnp.square(n) / jnp.maximum(jnp.square(n) + excess, 1)


def _draw_leaves(
    draw_leaf: Callable, key: jax.Array, structure: Structure, indices: jax.Array
) -> Leaves:
    """Independent leaves: ``draw_leaf(key, shape, dtype)`` of every direction and leaf.

    One leaf after the other, so that a generator's temporary arrays have the size of a leaf.
    """
    # Only threefry draws under vmap what it draws alone; for the other generators (rbg) a replay
    # in blocks of another size would otherwise see other directions.
    vmaps = str(jax.random.key_impl(key)) == "threefry2x32"
    each = jax.vmap if vmaps else lambda f: functools.partial(jax.lax.map, f)
    keys = each(lambda index: jax.random.fold_in(key, index))(indices)
    leaves = []
    for i, (shape, dtype) in enumerate(zip(structure.shapes, structure.dtypes, strict=True)):

        def one(k, i=i, shape=shape, dtype=dtype):
            return draw_leaf(jax.random.fold_in(k, i), shape, direction_dtype(dtype))

        leaves.append(draw_once(functools.partial(each(one), keys), key))
    return leaves


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Gaussian(Directions):
    """Standard normal directions.

    Args:
      fast: draw from a fused threefry2x32-13 counter generator instead of ``jax.random.normal``:
        faster and with smaller temporary arrays; 23-bit uniforms in every dtype.
        13 rounds is what its authors (Salmon et al. 2011) found enough to pass BigCrush; JAX runs
        20. Moments and the Kolmogorov–Smirnov distance are tested.
    """

    fast: bool = False
    law: ClassVar[str] = "gaussian"

    def draw(self, key, structure, num_directions, indices):
        normal = fast_normal if self.fast else jax.random.normal
        return _draw_leaves(normal, key, structure, indices)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sphere(Directions):
    """Uniform on the sphere ‖u‖² = d over the whole tree: Gaussian directions, rescaled."""

    fast: bool = False
    law: ClassVar[str] = "sphere"

    def draw(self, key, structure, num_directions, indices):
        leaves = Gaussian(self.fast).draw(key, structure, num_directions, indices)
        squares = jnp.zeros(indices.shape, scalar_dtype())
        for leaf in leaves:
            rows = leaf.reshape(leaf.shape[0], -1)
            squares = squares + jnp.sum(jnp.square(rows.astype(squares.dtype)), -1)
        factors = jnp.sqrt(structure.size / squares)
        return [
            leaf * factors.reshape(-1, *(1,) * (leaf.ndim - 1)).astype(leaf.dtype)
            for leaf in leaves
        ]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rademacher(Directions):
    """Random signs, one random bit an element. For gradients only.

    u_i² = 1 always, so u uᵀ − I has a zero diagonal whatever the values: no estimate built on it
    can see the Hessian's diagonal. `hessian` and `newton_direction` raise for this family.
    """

    law: ClassVar[str] = "rademacher"

    def draw(self, key, structure, num_directions, indices):
        return _draw_leaves(random_signs, key, structure, indices)


def random_signs(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """±1, from one random bit each."""
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 32), 1), jnp.uint32)
    shifts = jnp.arange(32, dtype=jnp.uint32)[None, :]
    bits = jnp.broadcast_to(words, (words.shape[0], 32)) >> shifts & np.uint32(1)
    return (2 * bits.reshape(-1)[:size].astype(dtype) - 1).reshape(shape)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Orthogonal(Directions):
    """Pairwise orthogonal directions with ‖u‖² = d, uniform (Haar) in orientation.

    Exact for num_directions ≤ d. Above d no more than d directions can be orthogonal: the round
    is then made of independent blocks of d (the last may be smaller), orthogonal inside a block.

    The directions of a round are made together, so a replay costs num_directions copies of the
    parameters in memory whatever the evaluator's block size.
    """

    fast: bool = False
    law: ClassVar[str] = "sphere"
    joint: ClassVar[bool] = True

    def draw(self, key, structure, num_directions, indices):
        everything = jnp.arange(num_directions)
        rows = Gaussian(self.fast).draw(key, structure, num_directions, everything)
        blocks = []
        for start in range(0, num_directions, max(structure.size, 1)):
            block = [leaf[start : start + structure.size] for leaf in rows]
            blocks.append(_orthogonalise(block, structure.size))
        if indices.shape[0] == num_directions:  # joint families are always drawn whole
            return [jnp.concatenate(parts) for parts in zip(*blocks, strict=True)]
        return [jnp.concatenate(parts)[indices] for parts in zip(*blocks, strict=True)]

    def shrinkage(self, n, structure):
        return without_replacement(n, structure.size, max(structure.size, 1))


def _orthogonalise(rows: Leaves, size: int) -> Leaves:
    """Gram–Schmidt on rows spread over leaves, by shifted Cholesky QR repeated to full precision.

    Only the k×k Gram matrix couples the leaves. Two passes are shifted so that they cannot break
    down on nearly dependent rows; the next two bring orthogonality to rounding. All factors are
    triangular with positive diagonal, so the product is the Gram–Schmidt basis: Haar distributed.
    """
    k = rows[0].shape[0]
    for attempt in range(4):
        gram = jnp.zeros((k, k), scalar_dtype())
        for leaf in rows:
            terms = jnp.einsum("i...,j...->ij", leaf, leaf, precision="highest")
            gram = gram + terms.astype(gram.dtype)
        eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in rows)
        shift = 10 * eps * jnp.trace(gram) if attempt < 2 else 0.0
        factor = jnp.linalg.cholesky(gram + shift * jnp.eye(k, dtype=gram.dtype))
        inverse = jax.scipy.linalg.solve_triangular(
            factor, jnp.eye(k, dtype=gram.dtype), lower=True
        )
        rows = [
            jnp.einsum("ij,j...->i...", inverse.astype(leaf.dtype), leaf, precision="highest")
            for leaf in rows
        ]
    return [leaf * jnp.asarray(math.sqrt(size), leaf.dtype) for leaf in rows]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Explicit(Directions):
    """Directions of your own, used as given; nothing is drawn and any second moment is yours.

    Args:
      tree: a tree like params whose leaves have a leading axis of length num_directions.
    """

    tree: PyTree
    law: ClassVar[str] = "given"

    def draw(self, key, structure, num_directions, indices):
        del key, num_directions
        return [leaf[indices] for leaf in self.leaves(structure)]

    def leaves(self, structure: Structure) -> Leaves:
        return [
            jnp.asarray(leaf, direction_dtype(dtype))
            for leaf, dtype in zip(jax.tree.leaves(self.tree), structure.dtypes, strict=True)
        ]

    def check_rounds(self, structure, num_directions):
        got, treedef = jax.tree.flatten(self.tree)
        want = [(num_directions, *shape) for shape in structure.shapes]
        if treedef != structure.treedef or [jnp.shape(leaf) for leaf in got] != want:
            raise ValueError(
                "explicit(tree) needs a tree like params with a leading axis of length "
                f"num_directions={num_directions}: {structure.treedef} with shapes {want}; got "
                f"{treedef} with shapes {[jnp.shape(leaf) for leaf in got]}."
            )


__all__ = ["Directions", "Explicit", "Gaussian", "Orthogonal", "Rademacher", "Sphere"]
