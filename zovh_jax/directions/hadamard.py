"""Rows of a randomly signed Hadamard matrix: orthogonal signs, computed where they are needed."""

import dataclasses
import functools
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _random
from zovh_jax._mesh import explicit_sharding
from zovh_jax._tree import Layout
from zovh_jax._types import PyTree
from zovh_jax.directions._drawing import draw_leaves
from zovh_jax.directions._kronecker import Blocks, drawn_factors
from zovh_jax.directions.families import Directions, without_replacement
from zovh_jax.directions.splits import Split

MAX_PALEY = 256
"""Largest Paley factor: with it D/d is at most 1.067 above d = 1000 and 1.11 above 100."""

SCATTER = np.uint32(0x6B9768D9)
"""Odd. Modulo 2^a ≥ 8 its first K multiples are at least 0.147·2^a/K apart, K = 2, 4, … 128."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, init=False)
class Hadamard(Directions):
    """Orthogonal random signs, without replacement from round to round. For gradients and traces.

    Row k of an epoch is u_i = r_k H_ki s_i. H is a Hadamard matrix of order D ≥ d (a Paley matrix
    times Sylvester's of order 2^a) without its last D − d columns; r and s are random signs for
    its rows and columns, new in each epoch of D rows. D/d is at most 1.07 above d = 1000, 1.02 on
    average. So E[u uᵀ] = I, and exactly

        ‖u_k‖² = d,   u_kᵀ diag(h) u_k = Σ_i h_i,   Σ_{k<D} u_k u_kᵀ = D·I:

    the D slopes of an epoch at one point give the gradient itself. If D = d, rows are orthogonal.
    If D > d, |u_k·u_l| is at most D − d. Unless 2^a divides k − l, it is also at most the largest
    power of two that does: consecutive rows, such as those of a round, are nearly orthogonal.

    The rounds of an optimiser take K consecutive rows each (`round_key`), and ⌈D/K⌉ rounds make an
    epoch. Where K does not divide D, the last round of an epoch ends with the epoch's first rows
    once more; so does a round with K > D. A key of your own sets the signs and the first row.

    Each entry costs a few integer operations, and nothing is stored. As with ``rademacher``,
    u_i² = 1 hides the Hessian's diagonal.

    With ``factored`` matrices have directions of rank one, s ∘ r cᵀ with rows r and c of two
    Hadamard matrices and signs s = s_r s_cᵀ, so that an objective is evaluated without forming the
    perturbed matrix (see `low_rank`). What is said of an epoch holds, but D is larger, up to four
    times d, as both sides of a matrix are rounded up to powers of two. An epoch's rows come in
    another order, in which both r and c change every few rows: in the matrix's own order one r
    would serve as many rows as there are c, for many rounds, which would all look at one part of
    the matrix.

    Args:
      factored: whether matrices have directions of rank one.
      split: which axes of a parameter are inputs and which outputs, as in `low_rank`; stacks count
        as inputs.
    """

    factored: bool  # type: ignore[misc]
    split: Split
    isotropic: ClassVar[bool] = True
    constant_norm: ClassVar[bool] = True
    largest: ClassVar[float] = 1.0

    def __init__(self, factored: bool = False, split: PyTree | None = None):
        if split is not None and not factored:
            raise ValueError(f"split={split!r} is of no use without factored=True.")
        object.__setattr__(self, "factored", bool(factored))
        object.__setattr__(self, "split", Split.of(split))

    def draw(self, key, layout, num_directions, indices):
        log_size, paley = self._matrix(layout)
        order = len(paley) << log_size
        words = _mixed(jax.random.key_data(key))
        k0, k1 = _random.words_of(_wrap(words.at[-1].set(0), key))
        numbers = (words[-1] % np.uint32(order) + indices.astype(jnp.uint32)) % np.uint32(order)
        # Without a sign for each row, H's constant first column would make all slopes along its
        # parameter alike, which forward differences take for curvature.
        row_signs = _random.mixed(numbers ^ k0)
        factors = jnp.asarray(paley)[numbers >> log_size].astype(jnp.uint32) ^ row_signs[:, None]
        signs = [jnp.broadcast_to(k, numbers.shape) for k in (k0, k1)]
        if self.factored:
            numbers = _scattered(numbers, log_size)
            return drawn_factors(
                self._blocks(layout), log_size, numbers, factors, signs, layout, key
            )
        rows = (numbers, factors, *signs)
        return draw_leaves(_Entries(log_size), rows, layout, key)

    def round_key(self, key, count, layout, num_directions):
        num_rounds = -(-self.period(layout) // num_directions)
        epoch, i = jnp.divmod(jnp.asarray(count, jnp.uint32), np.uint32(num_rounds))
        words = jax.random.key_data(_random.fold_in(key, epoch))
        return _wrap(_mixed(words.at[-1].set(i * np.uint32(num_directions))), key)

    def shrinkage(self, n, layout):
        return without_replacement(n, layout.size, self.period(layout))

    def period(self, layout: Layout) -> int:
        """D, the number of rows of an epoch."""
        log_size, paley = self._matrix(layout)
        return len(paley) << log_size

    def check_rounds(self, layout, num_directions):
        size = self._blocks(layout).size if self.factored else layout.size
        if size > 2**31:
            raise ValueError(
                f"hadamard directions have at most 2**31 columns, got {size}: use "
                "zo.directions.rademacher()" + (" or low_rank()." if self.factored else ".")
            )

    def _matrix(self, layout: Layout) -> tuple[int, np.ndarray]:
        if not self.factored:
            return _matrix(layout.size)
        blocks = self._blocks(layout)
        return _matrix(blocks.size, blocks.log_largest)

    def _blocks(self, layout: Layout) -> Blocks:
        return Blocks(layout.shapes, tuple(self.split.of_leaves(layout)))


@dataclasses.dataclass(frozen=True)
class _Entries:
    """A row's entries at some columns."""

    log_size: int

    def __call__(self, row, stream, columns, dtype):
        del stream  # there are at most 2³¹ columns
        number, factor, *sign_words = row
        low = np.uint32((1 << self.log_size) - 1)
        flips = jax.lax.population_count(number & columns & low)
        if factor.size > 1:
            flips = flips ^ factor.at[columns >> self.log_size].get(
                mode="promise_in_bounds", out_sharding=explicit_sharding(columns)
            )
        else:
            flips = flips ^ factor[0]
        return _random.of_bit((flips ^ _random.bits(tuple(sign_words), 0, columns)) & 1, dtype)


def _scattered(numbers: jax.Array, log_size: int) -> jax.Array:
    """Rows in an order in which all bits change, within each of Sylvester's blocks.

    Multiplying by an odd number modulo 2^a permutes them. The same powers of two divide the
    difference of two numbers before and after, so that what is said of consecutive rows holds.
    """
    low = np.uint32((1 << log_size) - 1)
    return numbers & ~low | numbers * SCATTER & low


def order_of(size: int) -> int:
    """D, the order of the smallest Hadamard matrix with at least ``size`` columns."""
    log_size, paley = _matrix(size)
    return len(paley) << log_size


def _wrap(words: jax.Array, like: jax.Array) -> jax.Array:
    return jax.random.wrap_key_data(words, impl=jax.random.key_impl(like))


def _mixed(words: jax.Array) -> jax.Array:
    """A key's words, all but the last xored with a multiple of the last; its own inverse.

    The last word says where in an epoch a round starts, the others set its signs. Without mixing,
    ``jax.random.key(seed)``, where only the last word differs, would have the same signs for all.
    """
    return words.at[:-1].set(words[:-1] ^ words[-1] * np.uint32(0x9E3779B9))


@functools.cache
def _matrix(size: int, least: int = 0) -> tuple[int, np.ndarray]:
    """(a, P) of the smallest Hadamard matrix P ⊗ S of order m·2^a ≥ size; P is 1 where negative.

    The power of two is at least 2^least.

    S is Sylvester's, of order 2^a: negative where row & column has an odd number of bits. P is
    Paley's (1933), of order q + 1, from the squares modulo a prime q ≡ 3 mod 4.
    """
    primes = [q for q in range(3, MAX_PALEY, 4) if all(q % i for i in range(3, int(q**0.5) + 1, 2))]
    order, m = min(
        (m << max(least, max(-(-size // m) - 1, 0).bit_length()), m)
        for m in (1, *(q + 1 for q in primes))
    )
    paley = np.zeros((m, m), np.uint8)
    if m > 1:
        squares = np.zeros(m - 1, bool)
        squares[np.arange(m - 1) ** 2 % (m - 1)] = True  # zero too: +1 on the diagonal
        i = np.arange(m - 1)
        paley[1:, 0] = 1
        paley[1:, 1:] = ~squares[(i[:, None] - i) % (m - 1)]
    return (order // m).bit_length() - 1, paley


__all__ = ["Hadamard", "order_of"]
