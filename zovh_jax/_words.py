"""States as words: the bits of a tree's small arrays in few arrays of uint32, and back."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._mesh import is_split
from zovh_jax._types import PyTree

WORD = 4
"""Bytes of a word."""


class Place(NamedTuple):
    """Where a small leaf is: which words, and what they say.

    Attributes:
      array: the number of the array of words.
      start: the first word of it.
      size: how many.
      shape, dtype: the leaf's.
      impl: the implementation of a PRNG key, whose data the leaf is; None where it is none.
    """

    array: int
    start: int
    size: int
    shape: tuple[int, ...]
    dtype: np.dtype
    impl: Any


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Contents:
    """What a packed state holds; static.

    Attributes:
      structure: of the state inside.
      places: of its leaves; None for those that are not among the words.
      max_size: words in an array.
    """

    structure: Any
    places: tuple[Place | None, ...]
    max_size: int


class PackedState(NamedTuple):
    """A state in words: that of `zo.packed`.

    Attributes:
      words: arrays of uint32 [n], the bits of all small leaves.
      others: the other leaves.
      contents: what they are; static.
    """

    words: tuple[jax.Array, ...]
    others: tuple[jax.Array, ...]
    contents: Contents

    @property
    def unpacked(self) -> Any:
        """The state inside, as the optimiser has it without `zo.packed`."""
        others = iter(self.others)
        leaves = [
            next(others) if place is None else _read(self.words[place.array], place)
            for place in self.contents.places
        ]
        return jax.tree.unflatten(self.contents.structure, leaves)

    def holding(self, state: Any) -> "PackedState":
        """Another state like the one inside in its place."""
        leaves, structure = jax.tree.flatten(state)
        packed = [place is not None for place in self.contents.places]
        return _joined(leaves, structure, packed, self.contents.max_size)


def in_words(state: PyTree, max_size: int) -> PackedState:
    """The tree, with its arrays of at most ``max_size`` words in arrays of so many."""
    leaves, structure = jax.tree.flatten(state)
    leaves = [jnp.asarray(leaf) for leaf in leaves]
    return _joined(leaves, structure, [_fits(_data(leaf), max_size) for leaf in leaves], max_size)


def _joined(
    leaves: Sequence[jax.Array], structure: Any, packed: Sequence[bool], max_size: int
) -> PackedState:
    """The leaves, those in words that the flags say."""
    data = [_data(leaf) for leaf in leaves]
    places: list[Place | None] = [None] * len(leaves)
    arrays: list[list[jax.Array]] = []
    room = 0
    chosen = [i for i, each in enumerate(packed) if each]
    # Numbers of one type lie side by side: one conversion for all, and not a kernel for each.
    for i in sorted(chosen, key=lambda i: data[i].dtype.str):
        size = _num_words(data[i])
        if not arrays or size > room:
            arrays.append([])
            room = max_size
        impl = jax.random.key_impl(leaves[i]) if data[i] is not leaves[i] else None
        start = max_size - room
        places[i] = Place(len(arrays) - 1, start, size, data[i].shape, data[i].dtype, impl)
        arrays[-1].append(data[i])
        room -= size
    words = tuple(
        jnp.concatenate(
            [
                _words(jnp.concatenate([x.reshape(-1) for x in alike]))
                for _, alike in itertools.groupby(some, lambda x: x.dtype)
            ]
        )
        for some in arrays
    )
    others = tuple(leaf for leaf, each in zip(leaves, packed, strict=True) if not each)
    contents = _contents(tuple(_static(structure)), structure, tuple(places), max_size)
    return PackedState(words, others, contents)


@functools.lru_cache(maxsize=256)
def _contents(static: tuple[int, ...], *parts: Any) -> Contents:
    """The same object for the same contents, which a call of a step compares by identity.

    Up to 256 of them are kept; parts must be hashable, as those of jitted states are anyway.
    """
    del static  # a static part of a state may equal another that says more
    return Contents(*parts)


def _static(structure: Any) -> Iterator[int]:
    """The identities of a structure's static parts."""
    kind, data = structure.node_data() or (None, None)
    if kind is not None and type(data) is kind:
        yield id(data)
    for child in structure.children():
        yield from _static(child)


def _data(leaf: jax.Array) -> jax.Array:
    """The leaf, or the numbers of a PRNG key."""
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _fits(x: jax.Array, max_size: int) -> bool:
    return x.dtype.kind in "biuf" and _num_words(x) <= max_size and not is_split(x)


def _num_words(x: jax.Array) -> int:
    return x.size * max(1, x.dtype.itemsize // WORD)


def unpack_all(tree: PyTree) -> PyTree:
    """The tree, with every `PackedState` in it unpacked, and those inside of them."""

    def one(x: Any) -> Any:
        return unpack_all(x.unpacked) if is_packed(x) else x

    return jax.tree.map(one, tree, is_leaf=is_packed)


def is_packed(x: Any) -> bool:
    """Whether this is a state in words."""
    return isinstance(x, PackedState)


def _words(x: jax.Array) -> jax.Array:
    """The bits of an array as uint32 [n]; narrow numbers take a word each."""
    if x.dtype.kind == "b":
        return x.reshape(-1).astype(jnp.uint32)
    if x.dtype.itemsize < WORD:
        x = jax.lax.bitcast_convert_type(x, _unsigned(x.dtype)).astype(jnp.uint32)
    return jax.lax.bitcast_convert_type(x, jnp.uint32).reshape(-1)


def _read(words: jax.Array, place: Place) -> jax.Array:
    """The array whose bits they are; under the leading axes of the words, if they have any."""
    dtype, lead = place.dtype, words.shape[:-1]
    bits = words[..., place.start : place.start + place.size]
    if dtype.kind == "b":
        x = bits.astype(bool)
    elif dtype.itemsize < WORD:
        x = jax.lax.bitcast_convert_type(bits.astype(_unsigned(dtype)), dtype)
    else:
        pairs = (-1, dtype.itemsize // WORD) if dtype.itemsize > WORD else (-1,)
        x = jax.lax.bitcast_convert_type(bits.reshape(*lead, *pairs), dtype)
    x = x.reshape(*lead, *place.shape)
    return x if place.impl is None else jax.random.wrap_key_data(x, impl=place.impl)


def _unsigned(dtype: np.dtype) -> Any:
    return jnp.dtype(f"uint{8 * dtype.itemsize}")


__all__ = ["PackedState", "in_words", "is_packed", "unpack_all"]
