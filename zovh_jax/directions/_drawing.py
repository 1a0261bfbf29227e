"""Draws many leaves by few programs, as each takes long to compile.

Small leaves are cut from blocks of one size, and others of one shape are drawn together. No number
depends on that: it follows from the place of its parameter alone.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from zovh_jax import _random
from zovh_jax._program import FEW, draw_once, hidden
from zovh_jax._tree import Layout
from zovh_jax._types import Leaves

PARTS = 16
"""Leaves of at most this part of all parameters are small."""
Groups = list[list[int]]
"""Numbers of leaves that are drawn together."""


def draw_independent(
    element: Callable[..., jax.Array],
    key: jax.Array,
    layout: Layout,
    indices: jax.Array,
    num_parameters: int | None = None,
) -> Leaves:
    """``element(words, stream, place, dtype)`` of every direction and leaf; see `draw_leaves`."""
    words = _random.direction_words(key, indices)
    return draw_leaves(element, words, layout, key, num_parameters)


def draw_leaves(
    element: Callable[..., jax.Array],
    rows: Any,
    layout: Layout,
    key: jax.Array,
    num_parameters: int | None = None,
) -> Leaves:
    """``element(row, stream, place, dtype)`` for every row and leaf: [rows, *shape].

    Args:
      element: an elementwise function of the place; hashable, as it is traced once for places of
        one shape. Stream and place are the high and the low word of a parameter's number.
      rows: a tree of arrays of words with a leading axis, one row a direction.
      layout: of the leaves.
      key: any key that the rows depend on.
      num_parameters: that the leaves are factors of, if they are; what is small beside these is
        drawn together.
    """
    wide, starts = layout.wide(), starts_of(layout)
    blocks = _blocks(layout, starts, num_parameters or layout.size)
    in_blocks = {i for block in blocks for i in block}
    stacks = _stacks([i for i in range(layout.num_leaves) if i not in in_blocks], layout)
    size = max((_extent(block, layout, starts) for block in blocks), default=0)
    firsts: list[Any] = [_halves([starts[block[0]]]) for block in blocks]
    firsts += [_halves(starts[i] for i in stack) for stack in stacks]
    cuts: list[Any] = [_single(starts[i] - starts[block[0]]) for block in blocks for i in block]
    turns: list[Any] = [_single(turn) for turn in range(max(map(len, stacks), default=0))]
    if layout.num_leaves > FEW:
        rows = jax.lax.optimization_barrier(rows)  # else accelerators make them for each number
        firsts, cuts, turns = hidden(firsts), hidden(cuts), hidden(turns)
    drawn = functools.partial(_drawn, element, rows)
    leaves: dict[int, jax.Array] = {}
    offsets = iter(cuts)
    for block, first in zip(blocks, firsts, strict=False):
        arguments = (first, 1, (size,), wide[block[0]][1], None)
        whole = draw_once(functools.partial(drawn, *arguments), key)
        leaves |= {i: _cut(whole, next(offsets), layout.shapes[i]) for i in block}
    first_of = dict(zip(map(tuple, stacks), firsts[len(blocks) :], strict=True))
    for batch in _batches(stacks, layout):

        def draw(batch=batch):
            return [drawn(first_of[tuple(x)], len(x), *wide[x[0]]) for x in batch]

        for stack, array in zip(batch, draw_once(draw, key), strict=True):
            if len(stack) == 1:
                leaves[stack[0]] = jax.lax.squeeze(array, [1])
            else:
                leaves |= {i: _picked(array, at) for i, at in zip(stack, turns, strict=False)}
    return [leaves[i] for i in range(layout.num_leaves)]


@functools.partial(jax.jit, static_argnums=(0, 3, 4, 5, 6))
def _drawn(element, rows, words, num_places, shape, dtype, sharding):
    """``element`` for every row, from each of several places on: [rows, places, *shape]."""
    streams, places = words[:num_places], words[num_places : 2 * num_places]

    def one(row, stream, place):
        return element(row, stream, _random.counter(shape, sharding) + place, dtype)

    return jax.vmap(lambda row: jax.vmap(functools.partial(one, row))(streams, places))(rows)


@functools.partial(jax.jit, static_argnums=2)
def _cut(block, offset, shape):
    """The leaf that begins at an offset of [rows, 1, size]."""
    flat = jax.lax.dynamic_slice_in_dim(block, offset[0], math.prod(shape), axis=2)
    return flat.reshape(len(block), *shape)


@jax.jit
def _picked(stack, turn):
    """One leaf of [rows, leaves, *shape]."""
    starts = [turn[0] if axis == 1 else np.uint32(0) for axis in range(stack.ndim)]
    sizes = [1 if axis == 1 else size for axis, size in enumerate(stack.shape)]
    return jax.lax.squeeze(jax.lax.dynamic_slice(stack, starts, sizes), [1])


def _single(number: int) -> np.ndarray:
    return np.array([number], np.uint32)


def _halves(numbers: Iterable[int]) -> np.ndarray:
    """The high words of numbers, and their low words."""
    return np.array(list(zip(*(divmod(x, 2**32) for x in numbers), strict=True)), np.uint32).ravel()


def starts_of(layout: Layout) -> list[int]:
    """The number of each leaf's first parameter.

    They are numbered from the smallest leaf to the largest, so that neighbours fit into blocks; no
    leaf lies across a multiple of 2³².
    """
    sizes = list(map(math.prod, layout.shapes))
    widths = [np.dtype(dtype).itemsize for _, dtype, _ in layout.wide()]
    starts, number = [0] * len(sizes), 0
    for i in sorted(range(len(sizes)), key=lambda i: (widths[i], sizes[i])):
        if number % 2**32 + sizes[i] > 2**32:
            number = (number // 2**32 + 1) * 2**32
        starts[i] = number
        number += sizes[i]
    return starts


def _blocks(layout: Layout, starts: list[int], num_parameters: int) -> Groups:
    """Small leaves with consecutive numbers, in blocks that leave little of the largest unused.

    There are none on several devices, over which a block would not be split as its leaves are.
    """
    small = [
        i
        for i, (shape, _, sharding) in enumerate(layout.wide())
        if math.prod(shape) <= num_parameters // PARTS and sharding is None
    ]
    if jax.device_count() > 1 or len(small) <= FEW:
        return []
    small.sort(key=starts.__getitem__)
    # Each block is a copy of the program in what XLA reads: from a sixteenth of all to a sixth.
    tries = [_filled(small, layout, starts, num_parameters * i // 192) for i in range(12, 33)]
    return min(tries, key=lambda b: len(b) * max(_extent(x, layout, starts) for x in b))


def _filled(small: list[int], layout: Layout, starts: list[int], most: int) -> Groups:
    """Blocks of at most so many parameters."""
    blocks: Groups = []
    kinds = [
        (dtype, start >> 32) for (_, dtype, _), start in zip(layout.wide(), starts, strict=True)
    ]
    for i in small:
        first = blocks[-1][0] if blocks else None
        if first is None or kinds[i] != kinds[first] or _extent([first, i], layout, starts) > most:
            blocks.append([])
        blocks[-1].append(i)
    return blocks


def _extent(block: list[int], layout: Layout, starts: list[int]) -> int:
    """How many numbers a block has."""
    return starts[block[-1]] + math.prod(layout.shapes[block[-1]]) - starts[block[0]]


def _most(layout: Layout) -> int:
    """How many parameters of stacks are drawn before they are used."""
    return max([*map(math.prod, layout.shapes), layout.size // PARTS])


def _stacks(which: Iterable[int], layout: Layout) -> Groups:
    """Leaves of one shape, dtype and sharding, in groups of at most `_most` parameters."""
    wide = layout.wide()
    kinds: dict[Any, list[int]] = {}
    for i in which:
        kinds.setdefault(wide[i], []).append(i)
    groups = []
    for (shape, *_), leaves in kinds.items():
        num_parts = -(-len(leaves) * math.prod(shape) // max(_most(layout), 1))
        part = -(-len(leaves) // max(num_parts, 1))
        groups += [leaves[i : i + part] for i in range(0, len(leaves), part)]
    return groups


def _batches(stacks: Groups, layout: Layout) -> list[Groups]:
    """Batches of stacks that are drawn together, of at most `_most` parameters."""
    batches: list[Groups] = []
    total = most = _most(layout)
    for stack in stacks:
        size = len(stack) * math.prod(layout.shapes[stack[0]])
        if not batches or total + size > most:
            batches.append([])
            total = 0
        batches[-1].append(stack)
        total += size
    return batches
