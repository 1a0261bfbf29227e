"""How a parameter's axes are split into inputs, outputs and stacks, for factored directions."""

import dataclasses
import math
from typing import Any

import jax

from zovh_jax._tree import Layout, leaves_of_prefix
from zovh_jax._types import PyTree

FULL = "full"
"""A parameter with full directions."""
KINDS = "ios"


@dataclasses.dataclass(frozen=True)
class Split:
    """What the caller said about splits: strings and the tree that they make; hashable.

    Attributes:
      words: one for each leaf of the tree.
      treedef: of the tree; None where nothing was said.
    """

    words: tuple[str, ...] = ()
    treedef: Any = None

    @classmethod
    def of(cls, split: PyTree | None) -> "Split":
        """Checks the words of a tree.

        Raises:
          ValueError: for anything that is no word of `KINDS`, nor `FULL`.
        """
        if split is None:
            return cls()
        words, treedef = jax.tree.flatten(split)
        for word in words:
            good = isinstance(word, str) and (word == FULL or (word and set(word) <= set(KINDS)))
            if not good or (word != FULL and not {"i", "o"} <= set(word)):
                raise ValueError(
                    "split must be a tree like params (or a prefix of it) of words with a letter "
                    'for each axis, i (input), o (output) or s (stack), such as "io" or "sio", or '
                    f'"{FULL}"; got {word!r}.'
                )
        return cls(tuple(words), treedef)

    def tree(self) -> PyTree | None:
        """The tree, as it was given."""
        return None if self.treedef is None else jax.tree.unflatten(self.treedef, self.words)

    def of_leaves(self, layout: Layout) -> list[str]:
        """A word for each perturbed leaf; by `default_split` where nothing was said.

        Raises:
          ValueError: for a tree that does not fit params, or a word of another length than a leaf.
        """
        if self.treedef is None:
            return [default_split(shape) for shape in layout.shapes]
        every = leaves_of_prefix(self.tree(), layout.treedef, "split")
        words = [word for word, on in zip(every, layout.active, strict=True) if on]
        for word, shape in zip(words, layout.shapes, strict=True):
            if word != FULL and len(word) != len(shape):
                raise ValueError(
                    f"split={word!r} has {len(word)} letters, for a parameter of shape {shape}: "
                    "give one for each axis."
                )
        return words


def default_split(shape: tuple[int, ...]) -> str:
    """Leading axes are inputs, the others outputs, cut where their sizes are closest.

    Of two cuts that are as good the later one counts. So of a kernel [height, width, inputs,
    outputs], or of attention's [model, heads, size] and [heads, size, model], inputs and outputs
    are as the model uses them. A parameter that has no cut with two sides is `FULL`.
    """
    cuts = [(min(math.prod(shape[:i]), math.prod(shape[i:])), i) for i in range(1, len(shape))]
    smaller, cut = max(cuts, default=(0, 0))
    return FULL if smaller < 2 else "i" * cut + "o" * (len(shape) - cut)


def sides(shape: tuple[int, ...], word: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The shapes of the two factors, of length 1 along axes that they do not depend on."""
    left = tuple(1 if x == "o" else n for n, x in zip(shape, word, strict=True))
    right = tuple(1 if x == "i" else n for n, x in zip(shape, word, strict=True))
    return left, right


def extent(shape: tuple[int, ...], word: str, kinds: str) -> int:
    """The number of entries along the axes of these kinds."""
    return math.prod(n for n, x in zip(shape, word, strict=True) if x in kinds)


__all__ = ["FULL", "Split", "default_split", "extent", "sides"]
