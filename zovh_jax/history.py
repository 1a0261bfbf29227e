"""A ring buffer of past rounds, for the query reuse of ZoVH (E11) and ZoAR (E15).

It holds keys and scalars: its size does not depend on d, unless the directions themselves are
stored or explicit. An empty slot is a round of radius zero. Such rounds are dropped everywhere, so
a history that is still filling needs no special case.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._mesh import on_mesh_of
from zovh_jax._tree import Layout, layout_of, scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.directions import Directions, Explicit, gaussian
from zovh_jax.directions.families import as_family
from zovh_jax.plan import Plan
from zovh_jax.queries import Queries
from zovh_jax.stencils import Stencil, forward

LARGEST = 2**30
"""About here the count of pushed rounds is reduced, before it overflows."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class History:
    """The last ``size`` rounds, as `Queries` stacked along a leading axis.

    Attributes:
      rounds: stacked `Queries`; slots that were never filled have radius 0.
      num_pushed: rounds pushed so far, reduced by a multiple of ``size`` before it overflows.
      centers: None, or the θ that each round was made around: a tree like params with a leading
        axis [size], None where frozen.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> x, f = jnp.ones(3), lambda x: jnp.sum(x ** 2)
      >>> history = zo.History.init(x, size=2, num_directions=4)
      >>> for i in range(3):
      ...     key = jax.random.fold_in(jax.random.key(0), i)
      ...     history = history.push(zo.query(f, x, key, num_directions=4, radius=0.1))
      >>> history.queries().values.shape
      (2, 4)
    """

    rounds: Queries
    num_pushed: jax.Array
    centers: PyTree | None = None

    @property
    def compares_rounds(self) -> bool:
        """Whether it is known where each round was asked."""
        return self.centers is not None

    @classmethod
    def init(
        cls,
        params_like: PyTree,
        *,
        size: int,
        num_directions: int,
        directions: Directions = gaussian(),
        stencil: Stencil = forward(),
        origin: bool = False,
        store_directions: bool = False,
        key: jax.Array | None = None,
        block_size: int = 1,
        centers: bool = False,
        ranked: bool = False,
    ) -> "History":
        """An empty history.

        Args:
          params_like: params, or ``jax.ShapeDtypeStruct`` leaves; only shapes are read.
          size: N, how many rounds to keep.
          num_directions: K of every round.
          directions: the family; ``explicit`` keeps each round's own arrays.
          stencil: the stencil of every round.
          origin: whether rounds come with f(θ); three_point ones always do.
          store_directions: keep N·K copies of the parameters instead of replaying directions.
          key: any key of the PRNG implementation in use, if not the default one.
          block_size: how many directions a replay holds in memory at once.
          centers: keep each round's θ (N copies of the parameters), for `recentered`.
          ranked: whether rounds come with ranks in place of values (`zo.shaping.ranks`).

        Raises:
          ValueError: for sizes out of range, or directions that hold arrays, such as scaled ones.
        """
        size = _checks.positive_int("size", size)
        num_directions = _checks.positive_int("num_directions", num_directions)
        as_family(directions)
        if not isinstance(directions, Explicit) and jax.tree.leaves(directions):
            raise ValueError(
                f"directions={directions!r} hold arrays that change from round to round, such as "
                "the scale of scaled directions, and cannot be replayed: a history of them has no "
                "meaning. Use their base family."
            )
        layout = layout_of(params_like, directions.active)
        dtype = scalar_dtype()
        keys, stored = None, None
        if isinstance(directions, Explicit):
            directions = Explicit(
                jax.tree.map(
                    lambda u: jnp.zeros((size * len(u), *jnp.shape(u)[1:]), u.dtype),
                    directions.tree,
                )
            )
        else:
            keys = jax.random.split(jax.random.key(0) if key is None else _checks.key(key), size)
            if store_directions:
                stored = layout.tree(_unfilled(directions, layout, keys[:1], num_directions, size))
        plan = Plan(
            keys,
            directions,
            stored,
            num_directions=num_directions,
            num_rounds=size,
            block_size=block_size,
        )
        shape = (size, num_directions, 2) if stencil.paired else (size, num_directions)
        known = origin or stencil.needs_origin
        rounds = Queries(
            plan,
            jnp.zeros(shape, dtype),
            jnp.zeros(size, dtype),
            jnp.zeros(size, dtype) if known else None,
            stencil,
            ranked=ranked,
        )
        kept = layout.tree(layout.filled(rows=(size,))) if centers else None
        return cls(rounds, jnp.zeros((), jnp.int32), kept)

    @property
    def size(self) -> int:
        """N."""
        assert self.rounds.plan.num_rounds is not None
        return self.rounds.plan.num_rounds

    @property
    def ages(self) -> jax.Array:
        """How many rounds ago each slot was filled, [N]; 0 is the last one."""
        return jnp.mod(self.num_pushed - 1 - jnp.arange(self.size), self.size)

    def push(self, queries: Queries, params: PyTree | None = None) -> "History":
        """The history with this round in the place of the oldest.

        Args:
          queries: the round.
          params: the θ it was made around; needed if the history keeps ``centers``.

        Raises:
          ValueError: if the round does not have the shapes the history was made for.
          TypeError: if ``params`` is missing.
        """
        if self.centers is not None and params is None:
            raise TypeError("this history keeps centers: call push(queries, params).")
        ring, ring_def = jax.tree.flatten(_rows(self.rounds))
        new, new_def = jax.tree.flatten(_rows(queries, stack=True))
        fits = [
            r.shape == (self.size * x.shape[0], *x.shape[1:])
            for r, x in zip(ring, new, strict=False)
        ]
        same = queries.ranked == self.rounds.ranked
        if ring_def != new_def or not same or not all(fits):  # type: ignore[operator]
            raise ValueError(
                "this round does not fit the history: num_directions, stencil, directions, key, "
                "store_directions, origin and ranked must be those given to History.init (there "
                f"num_directions={self.rounds.plan.num_directions}, stencil="
                f"{self.rounds.stencil!r}, origin={self.rounds.origin is not None}, ranked="
                f"{self.rounds.ranked}; here num_directions={queries.plan.num_directions}, stencil="
                f"{queries.stencil!r}, origin={queries.origin is not None}, ranked="
                f"{queries.ranked})."
            )
        slot = self.num_pushed % self.size
        written = [
            jax.lax.dynamic_update_slice_in_dim(
                r,
                on_mesh_of(x if x.dtype == r.dtype else x.astype(r.dtype), r),
                slot * x.shape[0],
                0,
            )
            for r, x in zip(ring, new, strict=True)
        ]
        key, values, radius, origin, directions, stored = jax.tree.unflatten(ring_def, written)
        plan = dataclasses.replace(self.rounds.plan, key=key, directions=directions, stored=stored)
        rounds = dataclasses.replace(
            self.rounds, plan=plan, values=values, radius=radius, origin=origin
        )
        centers = self.centers
        if centers is not None:
            layout = plan.layout(params)
            here, old = layout.leaves(params, "params"), jax.tree.leaves(centers)
            centers = layout.tree(
                [c.at[slot].set(x.astype(c.dtype)) for c, x in zip(old, here, strict=True)]
            )
        # Less a multiple of size: the slots stay the same, and the count stays at least size.
        excess = (LARGEST // self.size - 1) * self.size
        pushed = self.num_pushed - jnp.where(self.num_pushed < LARGEST, 0, excess) + 1
        return History(rounds, pushed, centers)

    def queries(self) -> Queries:
        """All rounds as one `Queries`, in slot order, for any estimator."""
        return self.rounds

    def recentered(self, params: PyTree) -> Queries:
        """All rounds as seen from ``params``: the same points and values, along other directions.

        A round made around θ_j has directions u + (θ_j − θ)/μ_j. They are no longer standard
        normal: weigh them by importance (`zo.reuse.importance`).

        Raises:
          ValueError: if the history was made without ``centers=True``, or the stencil is paired,
            as the two points of a pair then lie along different directions.
        """
        if self.centers is None or self.rounds.stencil.paired:
            raise ValueError(
                "recentered needs History.init(…, centers=True) and a forward stencil; got "
                f"centers={self.centers is not None} and stencil={self.rounds.stencil!r}."
            )
        here = self.rounds.plan.layout(params).leaves(params, "params")
        radii = jnp.where(self.rounds.radius > 0, self.rounds.radius, 1)

        def displacement(center, x):
            moved = center - x.astype(center.dtype)[None]
            return moved / radii.astype(center.dtype).reshape(-1, *[1] * x.ndim)

        centers = jax.tree.leaves(self.centers)
        shift = [displacement(c, x) for c, x in zip(centers, here, strict=True)]
        plan = dataclasses.replace(self.rounds.plan, shift=shift)
        return dataclasses.replace(self.rounds, plan=plan)


def _unfilled(
    directions: Directions, layout: Layout, keys: jax.Array, num_directions: int, size: int
) -> list[Any]:
    """Zeros in place of directions, as arrays or as factors like those that a family draws."""
    if not directions.factored:
        return layout.filled(rows=(size * num_directions,))

    def rows(keys):
        return directions.draw(keys[0], layout, num_directions, jnp.arange(num_directions))

    return jax.tree.map(
        lambda s: jnp.zeros((size * s.shape[0], *s.shape[1:]), s.dtype), jax.eval_shape(rows, keys)
    )


def _rows(queries: Queries, stack: bool = False) -> tuple[Any, ...]:
    """The arrays of some rounds, with one row or num_directions rows a round."""
    plan = queries.plan
    scalars = (plan.key, queries.values, queries.radius, queries.origin)
    if stack:
        scalars = jax.tree.map(lambda x: x[None], scalars)
    return *scalars, plan.directions, plan.stored


__all__ = ["History"]
