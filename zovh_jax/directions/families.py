"""Families of directions that draw, or that hold the caller's own."""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _random
from zovh_jax._rows import gram_of, mixed
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype, total
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions._drawing import draw_independent


class Directions:
    """A family of directions. Its class attributes say what holds for it; nothing else is assumed.

    A family of your own is a subclass with a `draw`, and with those of the class attributes below
    that hold for it. An instance is a constant of compiled functions: make the class a frozen
    dataclass if equal settings should compare equal.

    Example:
      >>> import dataclasses, jax, jax.numpy as jnp, zovh_jax as zo
      >>> @dataclasses.dataclass(frozen=True)
      ... class Uniform(zo.directions.Directions):
      ...     isotropic = True
      ...     def draw(self, key, layout, num_directions, indices):
      ...         def one(index, shape, leaf):
      ...             k = jax.random.fold_in(jax.random.fold_in(key, index), leaf)
      ...             return 3**0.5 * jax.random.uniform(k, shape, minval=-1.0)
      ...         return [jax.vmap(lambda i: one(i, shape, leaf))(indices)
      ...                 for leaf, shape in enumerate(layout.shapes)]
      >>> f = lambda x: jnp.sum(x["a"] ** 2) + jnp.sum(x["b"] ** 2)
      >>> g = zo.grad(f, num_directions=8, radius=1e-2, directions=Uniform())
      >>> x = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
      >>> jax.jit(g)(x, key=jax.random.key(0))["b"].shape
      (2, 2)
    """

    isotropic: ClassVar[bool] = False
    """E[u uᵀ] = I: needed by `shrinkage`, and so by the optimisers without a learning rate."""
    constant_norm: ClassVar[bool] = False
    """‖u‖² = d, always."""
    rotation_invariant: ClassVar[bool] = False
    """No direction is likelier than another of the same length."""
    gaussian_moments: ClassVar[bool] = False
    """E[u_i u_j u_k u_l] is that of a standard normal u: what averaged Hessians need."""
    standard_normal: ClassVar[bool] = False
    """Independent standard normals: what importance weights need."""
    sees_diagonal: ClassVar[bool] = False
    """The u_i² differ from direction to direction, so that values tell a Hessian's diagonal."""

    largest: ClassVar[float | None] = None
    """No entry of a direction is larger than this, in absolute value; None where one may be."""
    joint: ClassVar[bool] = False
    """Whether the directions of a round depend on each other, so that none is drawn alone."""
    factored: ClassVar[bool] = False
    """Whether `draw` may give `Factors` in place of arrays."""
    given: ClassVar[bool] = False
    """Whether the directions are arrays that the family holds, so that no key is needed."""

    def draw(
        self, key: jax.Array, layout: Layout, num_directions: int, indices: jax.Array
    ) -> Leaves:
        """Directions ``indices`` of a round: arrays [len(indices), *shape], one a perturbed leaf.

        A ``factored`` family gives `Factors` of such arrays where it likes.

        Args:
          key: the round's key; the same key and index give the same direction.
          layout: shapes and dtypes of the perturbed leaves, in order.
          num_directions: K, of the whole round.
          indices: an array of ints below K.
        """
        raise NotImplementedError  # pragma: no cover - abstract

    def round_key(
        self, key: jax.Array, count: jax.Array, layout: Layout, num_directions: int
    ) -> jax.Array:
        """The key of an optimiser's round number ``count``; ``key`` is the same in all rounds."""
        del layout, num_directions
        return _random.fold_in(key, count)

    def shrinkage(self, n: Any, layout: Layout) -> jax.Array:
        """The best multiple of a gradient estimate: a = ‖g‖² / E‖ĝ‖², between 0 and 1.

        g is the gradient, and ĝ = Σ_k (g·u_k) u_k / n its estimate from exact slopes along the n
        directions of one round. E ĝ = g, so where the Hessian is τI, a step −a ĝ/τ changes f by
        (−a ‖g‖² + a² E‖ĝ‖²/2)/τ on average, and this a makes that least. It is n/(n + d + 1) for
        independent directions with a Gaussian's moments, and n/(n + d − 1) where ‖u‖² = d.

        Raises:
          ValueError: for a family that doesn't say which moments it has.
        """
        d, n = layout.size, jnp.asarray(n, scalar_dtype())
        if self.isotropic and self.gaussian_moments:
            return n / (n + d + 1)
        if self.isotropic and self.constant_norm:
            return n / jnp.maximum(n + d - 1, 1)
        raise ValueError(
            f"no shrinkage is known for directions={self!r}: use a family with E[u uᵀ] = I and a "
            "Gaussian's moments or a constant norm, such as zo.directions.hadamard(), or override "
            "shrinkage."
        )

    def active(self, treedef: Any) -> tuple[bool, ...]:
        """Which leaves of a tree of this structure are perturbed."""
        return (True,) * treedef.num_leaves

    def check_rounds(self, layout: Layout, num_directions: int) -> None:
        """Raises where this family cannot give ``num_directions`` directions."""


def as_family(directions: Any, name: str = "directions") -> Directions:
    """The family, registered with JAX so that it can be part of what is traced.

    Raises:
      TypeError: for what is no family.
    """
    if not isinstance(directions, Directions):
        hint = " (call it: it is a factory)" if isinstance(directions, type) else ""
        raise TypeError(
            f"{name} must be one of the families of zo.directions; got {directions!r}{hint}."
        )
    if jax.tree_util.all_leaves([directions]):  # a class that JAX doesn't know yet
        jax.tree_util.register_static(type(directions))
    return directions


def without_replacement(n: Any, d: int, period: int) -> jax.Array:
    """`Directions.shrinkage` of n directions where each ``period`` of them has Σ u uᵀ = period·I.

    Whole periods give the gradient exactly. The r directions left over are like r of a period
    drawn at random: E‖ĝ‖² = ‖g‖² (1 + r (period − r)(d − 1)/(period − 1)/n²).
    """
    n = jnp.asarray(n, scalar_dtype())
    r = n % period
    excess = r * (period - r) * ((d - 1) / max(period - 1, 1))
    return jnp.square(n) / jnp.maximum(jnp.square(n) + excess, 1)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Gaussian(Directions):
    """Standard normal directions.

    By default the bits are those of JAX's own generator: direction k of a parameter tree that is
    one array is ``jax.random.normal(jax.random.fold_in(key, k), shape)``.

    Args:
      fast: cheaper normals, from 13 rounds of threefry in place of 20 and Box and Muller's
        transform of 23-bit uniforms, in every dtype. According to threefry's authors (Salmon et
        al. 2011) 13 rounds are the fewest that pass BigCrush.
    """

    fast: bool = False
    isotropic: ClassVar[bool] = True
    rotation_invariant: ClassVar[bool] = True
    gaussian_moments: ClassVar[bool] = True
    standard_normal: ClassVar[bool] = True
    sees_diagonal: ClassVar[bool] = True
    largest: ClassVar[float] = 9.0  # in float64; in float32 5.9

    def draw(self, key, layout, num_directions, indices):
        element = _random.fast_normal if self.fast else _random.normal
        return draw_independent(element, key, layout, indices)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sphere(Directions):
    """Uniform on the sphere ‖u‖² = d over the whole tree: ``gaussian(fast)``, rescaled."""

    fast: bool = False
    isotropic: ClassVar[bool] = True
    constant_norm: ClassVar[bool] = True
    rotation_invariant: ClassVar[bool] = True
    sees_diagonal: ClassVar[bool] = True

    def draw(self, key, layout, num_directions, indices):
        leaves = Gaussian(self.fast).draw(key, layout, num_directions, indices)
        squares = jnp.zeros(indices.shape, scalar_dtype())
        for leaf in leaves:
            wide = leaf.astype(squares.dtype)
            squares = squares + jnp.sum(jnp.square(wide), axis=tuple(range(1, leaf.ndim)))
        factors = jnp.sqrt(layout.size / jnp.where(squares > 0, squares, 1))
        return [
            leaf * factors.reshape(-1, *(1,) * (leaf.ndim - 1)).astype(leaf.dtype)
            for leaf in leaves
        ]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Rademacher(Directions):
    """Random signs, one hashed bit for each. For gradients only.

    u_i² = 1 always, so u uᵀ − I has a zero diagonal whatever the values: no estimate built on it
    can see the Hessian's diagonal. `hessian` and `newton_direction` raise for this family.
    """

    isotropic: ClassVar[bool] = True
    constant_norm: ClassVar[bool] = True
    largest: ClassVar[float] = 1.0

    def draw(self, key, layout, num_directions, indices):
        return draw_independent(_random.sign, key, layout, indices)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Orthogonal(Directions):
    """Pairwise orthogonal directions with ‖u‖² = d, uniform (Haar) in orientation.

    At most d directions can be orthogonal: a larger round is made of independent blocks of d (the
    last may be smaller), each orthogonal in itself.

    The directions of a round are made together, from ``gaussian(fast)``, so a replay holds
    num_directions copies of the parameters in memory, whatever the evaluator's block size.

    On a CPU, LAPACK makes them. With jaxlib 0.10, two of its calls at once, each for many rounds
    (under ``vmap``), may wait for each other for ever where a machine has two cores. Two ways
    avoid it: to draw them once (``store_directions=True``), or ``jax.lax.map`` for ``vmap``.
    """

    fast: bool = False
    isotropic: ClassVar[bool] = True
    constant_norm: ClassVar[bool] = True
    rotation_invariant: ClassVar[bool] = True
    sees_diagonal: ClassVar[bool] = True
    joint: ClassVar[bool] = True

    def draw(self, key, layout, num_directions, indices):
        rows = Gaussian(self.fast).draw(key, layout, num_directions, jnp.arange(num_directions))
        size = max(layout.size, 1)
        if num_directions > size:
            # All blocks at once, the last one filled up with zeros.
            count = -(-num_directions // size)
            last = count * size - num_directions
            padded = [jnp.pad(x, [(0, last), *[(0, 0)] * (x.ndim - 1)]) for x in rows]
            blocks = [x.reshape(count, size, *x.shape[1:]) for x in padded]
            real = (jnp.arange(count * size) < num_directions).reshape(count, size)
            made = jax.vmap(lambda x, real: _orthogonalise(x, size, real))(blocks, real)
            rows = [x.reshape(count * size, *x.shape[2:])[:num_directions] for x in made]
        else:
            rows = _orthogonalise(rows, size)
        if indices.shape[0] == num_directions:  # joint families are always drawn whole
            return rows
        return [x[indices] for x in rows]

    def shrinkage(self, n, layout):
        return without_replacement(n, layout.size, max(layout.size, 1))


def _orthogonalise(rows: Leaves, size: int, real: Any = True) -> Leaves:
    """Gram–Schmidt on rows spread over leaves, by shifted Cholesky QR repeated to full precision.

    Only the k×k Gram matrix couples the leaves. Two passes are shifted so that they cannot break
    down on nearly dependent rows; the next two bring orthogonality to rounding. All factors are
    triangular with positive diagonal, so the product is the Gram–Schmidt basis: Haar distributed.

    Args:
      rows: arrays [k, *leaf].
      size: d.
      real: which rows are real, [k]; the others are zeros, and stay so.
    """
    k = rows[0].shape[0]
    for attempt in range(4):
        gram = total([gram_of(leaf, leaf) for leaf in rows])
        eps = max(float(jnp.finfo(leaf.dtype).eps) for leaf in rows)
        shift = 10 * eps * jnp.trace(gram) if attempt < 2 else 0.0
        diagonal = jnp.where(real, shift, jnp.ones(k, gram.dtype))
        factor = jnp.linalg.cholesky(gram + jnp.diag(diagonal))
        inverse = jax.scipy.linalg.solve_triangular(
            factor, jnp.eye(k, dtype=gram.dtype), lower=True
        )
        rows = [mixed(inverse, leaf) for leaf in rows]
    return [leaf * jnp.asarray(math.sqrt(size), leaf.dtype) for leaf in rows]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Explicit(Directions):
    """Directions of your own, used as given. Estimators rely on you for E[u uᵀ] = I.

    Args:
      tree: a tree like params whose leaves have a leading axis of length num_directions.
    """

    tree: PyTree
    sees_diagonal: ClassVar[bool] = True
    given: ClassVar[bool] = True

    def draw(self, key, layout, num_directions, indices):
        del key, num_directions
        return [leaf[indices] for leaf in self.leaves(layout)]

    def leaves(self, layout: Layout) -> Leaves:
        """The arrays in the dtype of directions."""
        return [
            jnp.asarray(leaf, direction_dtype(dtype))
            for leaf, dtype in zip(jax.tree.leaves(self.tree), layout.dtypes, strict=True)
        ]

    def check_rounds(self, layout, num_directions):
        got, treedef = jax.tree.flatten(self.tree)
        want = [(num_directions, *shape) for shape in layout.shapes]
        if treedef != layout.treedef or [np.shape(leaf) for leaf in got] != want:
            raise ValueError(
                "explicit(tree) needs a tree like params with a leading axis of length "
                f"num_directions={num_directions}: {layout.treedef} with shapes {want}; got "
                f"{treedef} with shapes {[np.shape(leaf) for leaf in got]}."
            )


__all__ = ["Directions", "Explicit", "Gaussian", "Orthogonal", "Rademacher", "Sphere", "as_family"]
