"""Plan: where the objective is asked.

A `Plan` is a PRNG key and static sizes. Its directions exist only while something folds over
them: they are replayed from the key, a block at a time, so memory does not grow with their number.
The reductions here (weighted sums, inner products, Gram matrices) are all that the estimators,
operators and solvers ever do with directions.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax._factors import dense, is_factors
from zovh_jax._mesh import varying_with
from zovh_jax._program import FEW, written
from zovh_jax._rows import gram_of, row_products, row_sum, squared_norms
from zovh_jax._tree import Layout, layout_of, scalar_dtype, total
from zovh_jax._types import Leaves, PyTree
from zovh_jax.directions import Directions, Explicit
from zovh_jax.directions.families import as_family

# Compiled once for a layout, so that calls outside jit do not trace and compile anew.
_compiled = functools.partial(jax.jit, static_argnames="layout")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Plan:
    """Directions of one round, or of ``num_rounds`` stacked rounds.

    Attributes:
      key: the round's key, or [num_rounds] keys; None for explicit directions.
      directions: the family.
      stored: None, or the drawn directions: a tree like params with a leading axis [n], None where
        frozen, the rounds one after the other.
      num_directions: K, in each round.
      num_rounds: None for a single round.
      block_size: how many directions a replay holds in memory at once.
      shift: None, or a list of arrays [num_rounds, *shape], added to each round's directions: how
        they look from another centre than the one they were drawn around.
      spread: None, or an evaluator with a method ``sum``, which adds up weighted directions where
        they are many: on several devices.
    """

    key: jax.Array | None
    directions: Directions
    stored: PyTree | None = None
    num_directions: int = dataclasses.field(default=1, metadata={"static": True})
    num_rounds: int | None = dataclasses.field(default=None, metadata={"static": True})
    block_size: int = dataclasses.field(default=1, metadata={"static": True})
    shift: Leaves | None = None
    spread: Any = dataclasses.field(default=None, metadata={"static": True})

    def __post_init__(self):
        if isinstance(self.directions, Directions):  # JAX puts placeholders here at times
            as_family(self.directions)

    @property
    def size(self) -> int:
        """n, the number of directions over all rounds."""
        return self.num_directions * (self.num_rounds or 1)

    def layout(self, params: PyTree) -> Layout:
        """The layout of params, with the leaves that these directions perturb."""
        return layout_of(params, self.directions.active)

    def draw(self, params: PyTree) -> PyTree:
        """All n directions: a tree like params with a leading axis [n]; zeros where frozen."""
        layout = self.layout(params)

        def zero(shape, dtype):
            return jnp.zeros((self.size, *shape), jnp.float32)

        return layout.full(self.materialise(layout), zero)

    @_compiled
    def materialise(self, layout: Layout) -> Leaves:
        """All n directions as arrays [n, *leaf]: n copies of the parameters in memory."""
        return dense(self.rows(layout))

    @_compiled
    def rows(self, layout: Layout) -> list[Any]:
        """All n directions, as arrays [n, *leaf] or as `Factors` of them, as the family draws."""
        leaves = self._in_memory(layout)
        if leaves is not None and self.shift is None:
            return leaves
        return self._fold(layout, lambda carry, u, x: (carry, u), (), ())[1]

    @_compiled
    def combine(self, coefficients: jax.Array, layout: Layout) -> Leaves:
        """Σ_k c_k u_k, for coefficients [n], or [n, num_leaves] to weigh the leaves apart."""
        replayed = self.stored is None and not self.directions.given and self.shift is None
        if self.spread is not None and replayed and not self.directions.joint:
            return self.spread.sum(self, coefficients, layout)
        return self._weighted_sum(coefficients, layout, lambda block: block)

    @_compiled
    def combine_squares(self, coefficients: jax.Array, layout: Layout) -> Leaves:
        """Σ_k c_k u_k², elementwise."""
        return self._weighted_sum(coefficients, layout, lambda u: [jnp.square(x) for x in dense(u)])

    def combine_along(
        self, vector: Leaves, coefficients: Callable, xs: Any, layout: Layout
    ) -> Leaves:
        """Σ_k c_k u_k with ``c = coefficients(u·v, ‖u‖², x)`` for a vector v: one pass.

        Args:
          vector: v, a list of arrays.
          coefficients: of a block's products and squared norms, [b, num_leaves] each, and its rows
            of ``xs``; gives [b] or [b, num_leaves].
          xs: a tree of arrays [n, …].
          layout: of the parameters.
        """

        def step(sums, block, x):
            c = coefficients(*self._products(block, vector), x)
            return _add_rows(sums, c, block), ()

        return self._fold(layout, step, layout.zeros(), xs)[0]

    @_compiled
    def inner(self, vector: Leaves, layout: Layout) -> tuple[jax.Array, jax.Array]:
        """u_k · v and ‖u_k‖², each leaf on its own: two arrays [n, num_leaves]."""

        def step(carry, block, _):
            return carry, self._products(block, vector)

        return self._fold(layout, step, (), ())[1]

    @_compiled
    def inner_by_round(self, vectors: Leaves, layout: Layout) -> jax.Array:
        """u_k · v_r over the whole tree, [n]; r is u_k's round, v has leaves [num_rounds, …]."""

        def step(carry, block, rounds):
            pairs = zip(block, vectors, strict=True)
            return carry, total([row_products(u, v[rounds]) for u, v in pairs])

        return self._fold(layout, step, (), jnp.arange(self.size) // self.num_directions)[1]

    @_compiled
    def squared_norms(self, layout: Layout) -> jax.Array:
        """‖u_k‖² over the whole tree, [n]."""
        if self.directions.constant_norm and self.shift is None:
            return jnp.full((self.size,), layout.size, scalar_dtype())

        def step(carry, block, _):
            return carry, total([squared_norms(u) for u in block])

        return self._fold(layout, step, (), ())[1]

    @_compiled
    def gram(self, layout: Layout) -> jax.Array:
        """u_j · u_k for each leaf: [n, n, num_leaves]. Draws all n directions at once."""
        return jnp.stack([gram_of(u, u) for u in self.rows(layout)], -1)

    def fold(self, layout: Layout, step: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
        """``lax.scan`` over blocks of directions.

        ``step(carry, block, x) -> (carry, y)`` sees a block of b directions (a list of arrays
        [b, *leaf]) and the b rows of ``xs`` (a tree of arrays [n, …]) that belong to them, and
        returns b rows. Directions in memory make one block; the others are replayed from keys.
        """
        return self._fold(layout, lambda carry, u, x: step(carry, dense(u), x), carry, xs)

    def _fold(self, layout: Layout, step: Callable, carry: Any, xs: Any) -> tuple[Any, Any]:
        """`fold` over blocks as the family draws them, perhaps `Factors`."""
        block = self._in_memory(layout)
        if block is not None:
            return step(carry, self._shifted(block, slice(None)), xs)
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
            drawn = self.directions.draw(keys[i // per_round], layout, self.num_directions, indices)
            return step(carry, self._shifted(drawn, i // per_round), x)

        num_blocks = self.size // b
        if num_blocks == 1:
            return draw_and_step(carry, (jnp.zeros((), int), xs))
        rows = jax.tree.map(lambda x: x.reshape(num_blocks, b, *x.shape[1:]), xs)
        carry = varying_with(carry, keys, xs, self.shift)
        carry, ys = jax.lax.scan(draw_and_step, carry, (jnp.arange(num_blocks), rows))
        return carry, jax.tree.map(lambda y: y.reshape(self.size, *y.shape[2:]), ys)

    def _in_memory(self, layout: Layout) -> Leaves | None:
        if isinstance(self.directions, Explicit):
            return self.directions.leaves(layout)
        return None if self.stored is None else jax.tree.leaves(self.stored, is_leaf=is_factors)

    def _shifted(self, block: list[Any], rounds: Any) -> list[Any]:
        """Rows of one round, or of all of them, as seen from the centre that is asked about."""
        if self.shift is None:
            return block
        moved = []
        for u, shift in zip(dense(block), self.shift, strict=True):
            by_round = shift[rounds]
            num_rounds = by_round.shape[0] if by_round.ndim == u.ndim else 1
            by_round = by_round.reshape(num_rounds, 1, *u.shape[1:])
            rows = u.reshape(num_rounds, u.shape[0] // num_rounds, *u.shape[1:])
            moved.append((rows + by_round).reshape(u.shape))
        return moved

    @staticmethod
    def _products(block: list[Any], vector: Leaves) -> tuple[jax.Array, jax.Array]:
        """u · v and ‖u‖² of a block's rows, [b, num_leaves] each."""
        pairs, many = list(zip(block, vector, strict=True)), len(block) > FEW
        dots = [row_products(u, v.astype(u.dtype)[None], briefly=many) for u, v in pairs]
        return jnp.stack(dots, -1), jnp.stack([squared_norms(u) for u in block], -1)

    def _weighted_sum(self, coefficients, layout, transform) -> Leaves:
        def step(sums, block, c):
            return _add_rows(sums, c, transform(block)), ()

        if layout.num_leaves > FEW:
            coefficients = written(coefficients)
        return self._fold(layout, step, layout.zeros(), coefficients)[0]


def _add_rows(sums: Leaves, coefficients: jax.Array, block: list[Any]) -> Leaves:
    """sums + Σ_b c_b block[b], for coefficients [b] or [b, num_leaves]."""
    apart = coefficients.ndim == 2
    columns = [coefficients[:, i] if apart else coefficients for i in range(len(block))]
    many = len(block) > FEW
    return [s + row_sum(c, u, briefly=many) for s, c, u in zip(sums, columns, block, strict=True)]


__all__ = ["Plan"]
