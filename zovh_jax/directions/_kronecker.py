"""Rows of a Hadamard matrix of which every parameter's part is an outer product of signs.

Entry (i, j) of Sylvester's matrix is negative where i & j has an odd number of bits. A matrix of
which rows and columns are rounded up to powers of two takes a block of columns j = base + (row <<
log_outputs) + column, with a base that is a multiple of the block's size. The bits of base, row and
column do not overlap, so the sign is a product of one of each.
"""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _random
from zovh_jax._factors import Factors
from zovh_jax._tree import Layout
from zovh_jax.directions._drawing import draw_leaves, starts_of
from zovh_jax.directions.splits import FULL, extent, sides


@dataclasses.dataclass(frozen=True)
class Blocks:
    """The columns of each parameter.

    Attributes:
      shapes: of the parameters.
      words: how their axes are split.
    """

    shapes: tuple[tuple[int, ...], ...]
    words: tuple[str, ...]

    @functools.cached_property
    def logs(self) -> list[tuple[int, int]]:
        """Of each parameter, the logarithms of its padded inputs and outputs; (size, 0) if full."""

        def log(n):
            return max(n - 1, 0).bit_length()

        return [
            (log(math.prod(shape)), 0)
            if word == FULL
            else (log(extent(shape, word, "is")), log(extent(shape, word, "o")))
            for shape, word in zip(self.shapes, self.words, strict=True)
        ]

    @functools.cached_property
    def bases(self) -> list[int]:
        """Where each block begins: one after the other, the largest first."""
        sizes = [1 << sum(logs) for logs in self.logs]
        bases, end = [0] * len(sizes), 0
        for i in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
            bases[i] = end
            end += sizes[i]
        return bases

    @property
    def size(self) -> int:
        """The number of columns."""
        return sum(1 << sum(logs) for logs in self.logs)

    @property
    def log_largest(self) -> int:
        """Of the number of columns of the largest block."""
        return max(map(sum, self.logs), default=0)


class _Part(NamedTuple):
    """A parameter, or one of its factors.

    Attributes:
      shape, dtype: of the array.
      shift: how many bits of a row's number belong to the other factor.
      base: where the block begins; None for the outputs' factor, as the inputs' one has its sign.
    """

    shape: tuple[int, ...]
    dtype: Any
    shift: int
    base: int | None


def drawn_factors(
    blocks: Blocks,
    log_size: int,
    numbers: jax.Array,
    factors: jax.Array,
    signs: list[jax.Array],
    layout: Layout,
    key: jax.Array,
) -> list:
    """Rows ``numbers``, as arrays [rows, *shape] or `Factors`.

    Args:
      blocks: the columns.
      log_size: of Sylvester's factor.
      numbers: [rows].
      factors: [rows, m], the rows of the other factor with the rows' own signs, 1 where negative.
      signs: two words of the columns' signs.
      layout: of the parameters.
      key: any key that the rows depend on.
    """
    parts: list[_Part] = []
    for shape, word, base, (_, log), dtype in zip(
        blocks.shapes, blocks.words, blocks.bases, blocks.logs, layout.dtypes, strict=True
    ):
        if word == FULL:
            parts.append(_Part(shape, dtype, 0, base))
        else:
            left, right = sides(shape, word.replace("s", "i"))
            parts += [_Part((1, *left), dtype, log, base), _Part((1, *right), dtype, 0, None)]
    like = layout.with_leaves([p.shape for p in parts], [p.dtype for p in parts])
    starts = starts_of(like)
    order = sorted(range(len(parts)), key=starts.__getitem__)
    entries = _Entries(tuple(starts[i] for i in order), tuple(parts[i].shift for i in order))
    bases = [parts[i].base for i in order]
    copies, lows = np.divmod([base or 0 for base in bases], 1 << log_size)
    flips = factors[:, copies] ^ jax.lax.population_count(numbers[:, None] & lows.astype(np.uint32))
    flips = jnp.where(np.array([base is None for base in bases]), 0, flips)
    drawn = iter(draw_leaves(entries, (numbers, flips, *signs), like, key, layout.size))
    return [
        next(drawn) if word == FULL else Factors(next(drawn), next(drawn)) for word in blocks.words
    ]


@dataclasses.dataclass(frozen=True)
class _Entries:
    """Entries of a row, of all parts.

    Attributes:
      starts: the number of each part's first entry, in order.
      shifts: of the row's number, for each part.
    """

    starts: tuple[int, ...]
    shifts: tuple[int, ...]

    def __call__(self, row, stream, places, dtype):
        del stream  # there are at most 2³¹ places
        number, flips, *words = row
        starts = jnp.asarray(self.starts, jnp.uint32)
        # Unrolled: a loop would be many programs, one after another, on an accelerator.
        part = jnp.searchsorted(starts, places, side="right", method="scan_unrolled") - 1
        own = number >> jnp.asarray(self.shifts, jnp.uint32)[part] & (places - starts[part])
        flip = jax.lax.population_count(own) ^ flips[part]
        return _random.of_bit((flip ^ _random.bits(tuple(words), 0, places)) & 1, dtype)


__all__ = ["Blocks", "drawn_factors"]
