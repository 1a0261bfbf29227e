"""Plan and Queries: where the objective was asked, and what it answered.

A `Plan` is a PRNG key and static sizes. Its directions exist only while something folds over
them: they are replayed from the key, a block at a time, so memory does not grow with their number.
`Queries` adds the values. The reductions below (weighted sums, inner products, Gram matrices) are
all that the estimators, operators and solvers ever do with directions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import (
    Structure,
    direction_dtype,
    scalar_dtype,
    structure_of,
)
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions import Directions, Explicit
from zovh_jax.stencils import Stencil, forward

# Compiled once for a structure, so that calls outside jit do not trace and compile anew.
_compiled = functools.partial(jax.jit, static_argnames="structure")

MAX_UNROLLED = 8
"""Histories of up to this many rounds are replayed by straight-line code."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plan:
    """Directions of one round, or of ``num_rounds`` stacked rounds.

    Attributes:
      key: the round's key, or [num_rounds] keys; None for explicit directions.
      directions: the family.
      stored: None, or the drawn directions: a tree like params with a leading axis [n], the
        rounds one after the other.
      num_directions: K, in each round.
      num_rounds: None for a single round.
      block_size: how many directions a replay holds in memory at once.
      shift: None, or a tree like params with a leading axis [num_rounds], added to each round's
        directions: how they look from another centre than the one they were drawn around.
    """

    key: jax.Array | None
    directions: Directions
    stored: PyTree | None = None
    num_directions: int = dataclasses.field(default=1, metadata={"static": True})
    num_rounds: int | None = dataclasses.field(default=None, metadata={"static": True})
    block_size: int = dataclasses.field(default=1, metadata={"static": True})
    shift: PyTree | None = None

    @property
    def size(self) -> int:
        """n, the number of directions over all rounds."""
        return self.num_directions * (self.num_rounds or 1)

    def draw(self, params: PyTree) -> PyTree:
        """All n directions: a tree like params with a leading axis [n]; zeros where frozen."""
        structure = structure_of(params)
        return structure.unflatten(
            [
                jnp.zeros((self.size, *shape), direction_dtype(dtype)) if leaf is None else leaf
                for leaf, shape, dtype in zip(
                    self.materialise(structure), structure.shapes, structure.dtypes, strict=True
                )
            ]
        )

    @_compiled
    def materialise(self, structure: Structure) -> Leaves:
        """All n directions as arrays [n, *leaf]: n copies of the parameters in memory."""
        leaves = self._stored_leaves(structure)
        if leaves is not None and self.shift is None:
            return leaves
        _, drawn = self.fold(structure, lambda carry, u, x: (carry, u), (), ())
        return drawn

    @_compiled
    def combine(self, coefficients: jax.Array, structure: Structure) -> Leaves:
        """Σ_k c_k u_k, for coefficients [n], or [n, num_leaves] to weigh the leaves apart."""
        return self._weighted_sum(coefficients, structure, lambda u: u)

    @_compiled
    def combine_squares(self, coefficients: jax.Array, structure: Structure) -> Leaves:
        """Σ_k c_k u_k², elementwise."""
        return self._weighted_sum(coefficients, structure, jnp.square)

    @_compiled
    def inner(self, vector: list[Any], structure: Structure) -> tuple[jax.Array, jax.Array]:
        """u_k · v and ‖u_k‖², each leaf on its own: two arrays [n, num_leaves]."""

        def step(carry, block, _):
            dots, squares = [], []
            for u, v in zip(block, vector, strict=True):
                if u is None:
                    continue
                rows = u.reshape(u.shape[0], -1)
                dots.append(_dot("kd,d->k", rows, v.reshape(-1).astype(u.dtype)))
                squares.append(_dot("kd,kd->k", rows, rows))
            return carry, (jnp.stack(dots, -1), jnp.stack(squares, -1))

        _, (dots, squares) = self.fold(structure, step, (), ())
        return self._spread(dots, structure), self._spread(squares, structure)

    @_compiled
    def inner_by_round(self, vectors: list[Any], structure: Structure) -> jax.Array:
        """u_k · v_r over the whole tree, [n]; r is u_k's round, v has leaves [num_rounds, …]."""

        def step(carry, block, rounds):
            terms = [
                _dot("kd,kd->k", u.reshape(u.shape[0], -1), v[rounds].reshape(u.shape[0], -1))
                for u, v in zip(block, vectors, strict=True)
                if u is not None
            ]
            return carry, sum(terms)

        return self.fold(structure, step, (), jnp.arange(self.size) // self.num_directions)[1]

    @_compiled
    def squared_norms(self, structure: Structure) -> jax.Array:
        """‖u_k‖² over the whole tree, [n]."""
        if self.directions.law in ("sphere", "rademacher") and self.shift is None:
            return jnp.full((self.size,), self.directions.dimension(structure), scalar_dtype())

        def step(carry, block, _):
            rows = [u.reshape(u.shape[0], -1) for u in block if u is not None]
            return carry, sum(_dot("kd,kd->k", u, u) for u in rows)

        return self.fold(structure, step, (), ())[1]

    @_compiled
    def gram(self, structure: Structure) -> jax.Array:
        """u_j · u_k for each leaf: [n, n, num_leaves]. Draws all n directions at once."""
        terms = [
            _dot("jd,kd->jk", u.reshape(self.size, -1), u.reshape(self.size, -1))
            for u in self.materialise(structure)
            if u is not None
        ]
        return self._spread(jnp.stack(terms, -1), structure)

    def fold(self, structure: Structure, step: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
        """``lax.scan`` over blocks of directions.

        ``step(carry, block, x) -> (carry, y)`` sees a block of b directions (a list of arrays
        [b, *leaf]) and the b rows of ``xs`` (a tree of arrays [n, …]) that belong to them, and
        returns b rows. Stored directions make one block; the others are replayed from keys.
        """
        block = self._stored_leaves(structure)
        if block is not None:
            return step(carry, self._shifted(block, structure, slice(None)), xs)
        if self.key is None:
            raise ValueError("this plan has no key to replay its directions from: give key=.")
        b = self.num_directions
        if not self.directions.joint:  # the largest block that divides the round evenly
            b = max(i for i in range(1, min(self.block_size, b) + 1) if b % i == 0)
        per_round = self.num_directions // b
        keys = self.key if self.num_rounds is not None else self.key[None]

        def draw_and_step(carry, inputs):
            i, x = inputs
            indices = (i % per_round) * b + jnp.arange(b)
            drawn = self.directions.draw(
                keys[i // per_round], structure, self.num_directions, indices
            )
            return step(carry, self._shifted(drawn, structure, i // per_round), x)

        num_blocks = self.size // b
        if num_blocks == 1:
            return draw_and_step(carry, (jnp.zeros((), int), xs))
        rows = jax.tree.map(lambda x: x.reshape(num_blocks, b, *x.shape[1:]), xs)
        # Whole rounds were in memory when they were queried: unrolled, they run about twice as
        # fast on a CPU, whose inner loops do not fuse. Smaller blocks are there to save memory.
        unroll = num_blocks if per_round == 1 and num_blocks <= MAX_UNROLLED else 1
        carry, ys = jax.lax.scan(
            draw_and_step, carry, (jnp.arange(num_blocks), rows), unroll=unroll
        )
        return carry, jax.tree.map(lambda y: y.reshape(self.size, *y.shape[2:]), ys)

    def _stored_leaves(self, structure: Structure) -> Leaves | None:
        if isinstance(self.directions, Explicit):
            leaves: Leaves = self.directions.leaves(structure)
        elif self.stored is not None:
            leaves = structure.treedef.flatten_up_to(self.stored)
        else:
            return None
        return leaves

    def _shifted(self, block: Leaves, structure: Structure, rounds: Any) -> Leaves:
        """Rows of one round, or of all of them, as seen from the centre that is asked about."""
        if self.shift is None:
            return block
        moved = []
        for u, shift in zip(block, structure.treedef.flatten_up_to(self.shift), strict=True):
            if u is not None:
                by_round = shift[rounds].reshape(-1, 1, *u.shape[1:])
                u = (u.reshape(len(by_round), -1, *u.shape[1:]) + by_round).reshape(u.shape)
            moved.append(u)
        return moved

    def _weighted_sum(self, coefficients, structure, transform) -> Leaves:
        active = self.directions.active(structure)
        zeros = [z if on else None for z, on in zip(structure.zeros(), active, strict=True)]

        def step(sums, block, c):
            columns = [c[:, i] for i in range(c.shape[1])] if c.ndim == 2 else [c] * len(block)
            new = [
                s if u is None else s + _row_sum(column, transform(u))
                for s, u, column in zip(sums, block, columns, strict=True)
            ]
            return new, ()

        return self.fold(structure, step, zeros, coefficients)[0]

    def _spread(self, columns: jax.Array, structure: Structure) -> jax.Array:
        """Puts columns of the active leaves among zeros for the frozen ones."""
        active = self.directions.active(structure)
        if all(active):
            return columns
        where = jnp.asarray([i for i, on in enumerate(active) if on])
        full = jnp.zeros((*columns.shape[:-1], len(active)), columns.dtype)
        return full.at[..., where].set(columns)


def _row_sum(coefficients: jax.Array, rows: jax.Array) -> jax.Array:
    """Σ_b c_b rows[b]; a matrix product, several times faster than a reduction over the rows."""
    flat = rows.reshape(rows.shape[0], -1)
    total = jnp.einsum("k,kd->d", coefficients.astype(rows.dtype), flat, precision="highest")
    return total.reshape(rows.shape[1:])


def _dot(subscripts: str, x: jax.Array, y: jax.Array) -> jax.Array:
    """A full-precision contraction of rows, as scalars."""
    return jnp.einsum(subscripts, x, y, precision="highest").astype(scalar_dtype())


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Queries:
    """Values of the objective along the directions of a plan.

    Attributes:
      plan: the directions.
      values: [num_directions], or [num_directions, 2] = (plus, minus) for paired stencils, with a
        leading axis [num_rounds] when rounds are stacked. NaN and ±Inf mark queries to be dropped.
      radius: μ, [] or [num_rounds].
      origin: f(θ), [] or [num_rounds]; None where unknown.
      stencil: the stencil.
      weights: [n], how much each direction counts in an estimate (self-normalised), or None for
        all alike; set by `zo.reuse`.
    """

    plan: Plan
    values: jax.Array
    radius: jax.Array
    origin: jax.Array | None
    stencil: Stencil
    weights: jax.Array | None = None

    @classmethod
    def from_values(
        cls,
        values: Any,
        *,
        key: jax.Array | None = None,
        directions: Directions,
        radius: Any,
        stencil: Stencil = forward(),
        origin: Any = None,
    ) -> "Queries":
        """The result of a round whose values were obtained elsewhere (ask/tell).

        Ask with ``Plan(key, directions, num_directions=K).draw(params)``; evaluate θ + radius·u
        (and θ − radius·u) however you like; tell by passing the values here.

        Args:
          values: [K], or [K, 2] = (plus, minus) for a paired stencil.
          key: the key the directions were drawn from; not needed for ``explicit``.
          directions: the family, ``zo.directions.explicit(tree)`` for directions of your own.
          radius: μ.
          stencil: the stencil.
          origin: f(θ), where known.

        Raises:
          ValueError: if the values' shape does not fit the stencil, or the key is missing.

        Example:
          >>> import jax.numpy as jnp, zovh_jax as zo
          >>> u = jnp.array([[1., 0.], [0., 1.]])
          >>> queries = zo.Queries.from_values(jnp.array([1.2, 0.9]), radius=0.1, origin=1.0,
          ...                                  directions=zo.directions.explicit(u))
          >>> g = zo.estimators.gradient(queries, jnp.zeros(2), baseline=zo.baselines.origin())
          >>> [round(float(x), 4) for x in g]
          [1.0, -0.5]
        """
        _checks.instance("directions", directions, Directions, "the families of zo.directions")
        _checks.instance("stencil", stencil, Stencil, "the stencils of zo.stencils")
        _checks.positive("radius", radius)
        values = jnp.asarray(values, scalar_dtype())
        want = "[K, 2] (plus, minus)" if stencil.paired else "[K]"
        if values.ndim != 1 + stencil.paired or values.shape[1:] not in ((), (2,)):
            raise ValueError(f"values must have shape {want}, got {list(values.shape)}.")
        if isinstance(directions, Explicit):
            key = None
        elif key is None:
            raise ValueError(
                f"directions={directions!r} are replayed from a key: pass the key= that they "
                "were drawn from."
            )
        else:
            key = _checks.key(key)
        origin = None if origin is None else scalar("origin", origin)
        k = values.shape[0]
        plan = Plan(key, directions, num_directions=k, block_size=k)
        return cls(
            plan,
            values,
            jnp.asarray(radius, scalar_dtype()),
            origin,
            stencil,
        )

    @property
    def even(self) -> jax.Array:
        """[n] values F, or (F⁺ + F⁻)/2."""
        return self.stencil.even(self._flat())

    @property
    def odd(self) -> jax.Array:
        """[n] values F, or (F⁺ − F⁻)/2."""
        return self.stencil.odd(self._flat())

    @property
    def valid(self) -> jax.Array:
        """[n] bools: directions all of whose values are finite, at a radius above zero."""
        finite = jnp.isfinite(self._flat())
        finite = jnp.all(finite, -1) if self.stencil.paired else finite
        return finite & (self._per_direction(self.radius) > 0)

    @property
    def radii(self) -> jax.Array:
        """μ of each direction, [n]; 1 in place of a radius that is not above zero."""
        radii = self._per_direction(self.radius)
        return jnp.where(radii > 0, radii, 1)

    @property
    def origins(self) -> jax.Array | None:
        """f(θ) of each direction's own round, [n]; None where unknown."""
        return None if self.origin is None else self._per_direction(self.origin)

    @property
    def num_nonfinite(self) -> jax.Array:
        """How many of the values, f(θ) among them, are NaN or ±Inf (empty history slots too)."""
        bad = jnp.sum(~jnp.isfinite(self.values), dtype=jnp.int32)
        if self.origin is not None:
            bad = bad + jnp.sum(~jnp.isfinite(self.origin), dtype=jnp.int32)
        return bad

    def _flat(self) -> jax.Array:
        stacked = self.values.ndim - self.stencil.paired == 2
        return self.values.reshape(-1, *self.values.shape[2:]) if stacked else self.values

    def _per_direction(self, x: jax.Array) -> jax.Array:
        rounds = (self.plan.num_rounds or 1, 1)
        return jnp.broadcast_to(x.reshape(rounds), (rounds[0], self.plan.num_directions)).reshape(
            -1
        )


def scalar(name: str, value: Any) -> jax.Array:
    """One number, in the dtype of values."""
    if jnp.ndim(value) != 0:
        raise ValueError(f"{name} must be a scalar, got shape {list(jnp.shape(value))}.")
    return jnp.asarray(value, scalar_dtype())


def check_params(queries: Queries, params: PyTree) -> Structure:
    """Structure of params, after checking that the plan's directions fit it."""
    _checks.instance("queries", queries, Queries, "the results of zo.query or History.queries()")
    structure = structure_of(params)
    if not isinstance(queries.plan.directions, Explicit) or queries.plan.num_rounds is None:
        queries.plan.directions.check_rounds(structure, queries.plan.num_directions)
    return structure


__all__ = ["Plan", "Queries", "check_params", "scalar"]
