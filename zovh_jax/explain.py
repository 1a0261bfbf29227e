"""What becomes of each parameter when an objective is asked along factored directions."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._factors import Factors
from zovh_jax._tree import layout_of
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.directions import Directions, Wrapper
from zovh_jax.directions.families import as_family
from zovh_jax.directions.splits import FULL, Split, default_split, sides
from zovh_jax.evaluators.following import Formed, Pair, Program, pair_of


class Parameter(NamedTuple):
    """What becomes of a parameter.

    Attributes:
      path: in the tree, as of ``jax.tree_util.keystr``.
      shape: of the parameter.
      split: the word in use; "" where frozen.
      suggested: the word in `Explanation.split`.
      status: "factored"; "formed", as an array of each query; "full", where its direction is an
        array; "unused", where values do not depend on it; "frozen".
      formed: how many numbers of it a query forms.
      where: the line of code where most of them are formed, and the operation.
      why: it is formed there, or has its status.
    """

    path: str
    shape: tuple[int, ...]
    split: str
    suggested: str
    status: str
    formed: int = 0
    where: str = ""
    why: str = ""


@dataclasses.dataclass(frozen=True, repr=False)
class Explanation:
    """What becomes of each parameter; prints as a table.

    Attributes:
      parameters: a `Parameter` for each leaf.
      split: a tree like params of words to pass to the family.
      formed: how many numbers a query forms, of all parameters. Loops count as often as they run,
        if that is known.
      largest: bytes of the largest array that is formed.
    """

    parameters: tuple[Parameter, ...]
    split: PyTree
    formed: int
    largest: int

    def __str__(self) -> str:
        rows = [("parameter", "shape", "split", "status", "where", "why")]
        for p in self.parameters:
            change = "" if p.suggested == p.split or not p.split else f" → {p.suggested}"
            shape = "×".join(map(str, p.shape)) or "scalar"
            rows.append((p.path or "params", shape, p.split + change, p.status, p.where, p.why))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(x.ljust(n) for x, n in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([*lines, "", self._summary()])

    __repr__ = __str__

    def _summary(self) -> str:
        """The table in a sentence or two."""
        asked = [p for p in self.parameters if p.status != "frozen"]
        good = [p for p in asked if p.status == "factored"]
        num_formed = sum(p.status == "formed" for p in asked)
        numbers = [sum(math.prod(p.shape) for p in some) for some in (good, asked)]
        what = (
            f"{num_formed}, {self.formed:,} numbers a query, at most {self.largest:,} bytes in one"
        )
        better = any(p.split and p.split != p.suggested for p in self.parameters)
        return (
            f"Factored: {len(good)} of {len(asked)} parameters, {numbers[0]:,} of {numbers[1]:,} "
            f"numbers. Formed: {what if num_formed else 'none'}."
            + " Words after → are in .split."
            * better
        )


def explain(
    value_fn: ValueFn,
    params: PyTree,
    directions: Directions,
    *,
    reduce: Literal["mean"] | None = None,
) -> Explanation:
    """Which parameters stay factored in an objective's program, which are formed, where and why.

    The program is followed by the code that evaluates it, with shapes in place of numbers: nothing
    is computed. A query holds no array as large as a factored parameter; of one that is formed it
    has an array of its own. Rows that are looked up, and what is added to each row of an
    activation, are activations, and do not count as formed.

    `Explanation.split` keeps the words in use, with two exceptions. Stacks of matrices are split as
    such (s), so that each matrix has factors of its own, which makes estimates better: axes that a
    loop runs over, that are cut into single entries, that say which matrix is looked up, or that a
    product pairs with the other array's. A stack of vectors is "full". And a word that forms its
    parameter gives way to the first of these that does not: what the program does in the first
    product (axes that are summed over are inputs, those that are kept are outputs), then each cut
    into leading inputs and outputs. Where all form it, as in ``jnp.exp(x)``, its word stays.

    Args:
      value_fn: the objective, as for `zo.query`; traced once. Bind further arguments before, with
        a ``lambda`` or ``functools.partial``.
      params: θ, arrays or ``jax.ShapeDtypeStruct``.
      directions: a factored family, perhaps masked.
      reduce: as for `zo.query`.

    Returns:
      An `Explanation`. Print it; pass its ``split`` to the family.

    Raises:
      ValueError: for a family whose directions have no factors.
      TypeError: for an objective or parameters that `zo.query` refuses.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> params = {"layers": jnp.ones((2, 3, 3)), "head": jnp.ones((3, 4))}
      >>> def loss(params):
      ...     x, _ = jax.lax.scan(lambda x, w: (x @ w, None), jnp.ones((5, 3)), params["layers"])
      ...     return jnp.sum(x @ params["head"])
      >>> explanation = zo.explain(loss, params, zo.directions.low_rank())
      >>> print(explanation)
      parameter   shape  split      status    where  why
      ['head']    3×4    io         factored
      ['layers']  2×3×3  iio → sio  factored
      <BLANKLINE>
      Factored: 2 of 2 parameters, 30 of 30 numbers. Formed: none. Words after → are in .split.
      >>> directions = zo.directions.low_rank(split=explanation.split)
    """
    if reduce not in (None, "mean"):
        raise ValueError(f'reduce must be None or "mean", got {reduce!r}.')
    split = _split_of(directions)
    layout = layout_of(params, directions.active)
    directions.check_rounds(layout, 1)
    program = Program(value_fn, params, layout, reduce == "mean")
    words = split.of_leaves(layout)
    drawn = jax.eval_shape(
        lambda: directions.draw(jax.random.key(0), layout, 1, jnp.arange(1, dtype=jnp.int32))
    )
    pairs = [
        (u.left.shape[1:], u.right.shape[1:]) if isinstance(u, Factors) else None for u in drawn
    ]
    formed = program.formed(pairs)
    used, fit = program.fitting()
    suggested = _suggested(program, words, fit)
    rows = iter(
        _row(name, *x, formed, name in used)
        for name, x in enumerate(zip(layout.shapes, words, suggested, pairs, strict=True))
    )
    frozen = iter(layout.frozen)
    table = tuple(
        (
            next(rows)
            if on
            else Parameter("", next(frozen)[0], "", FULL, "frozen", why="directions mask it")
        )._replace(path=jax.tree_util.keystr(path))
        for (path, _), on in zip(
            jax.tree_util.tree_flatten_with_path(params)[0], layout.active, strict=True
        )
    )
    return Explanation(
        table,
        layout.treedef.unflatten([p.suggested for p in table]),
        sum(x.numbers for x in formed),
        max((x.bytes for x in formed), default=0),
    )


def _split_of(directions: Directions) -> Split:
    """What a factored family was told about splits."""
    family = as_family(directions)
    while isinstance(family, Wrapper):
        family = family.directions
    split = getattr(family, "split", None)
    if not (directions.factored and isinstance(split, Split)):
        raise ValueError(
            f"directions={directions!r} have no factors, so every parameter is perturbed as an "
            "array: use zo.directions.low_rank() or hadamard(factored=True)."
        )
    return split


def _suggested(program: Program, words: Sequence[str], fit: Sequence[str | None]) -> list[str]:
    """For each parameter the first word with which it is not formed; all are tried at once."""
    shapes = [x.shape for x in program.leaves]
    chosen, options = list(words), {}
    for name, (shape, word, best) in enumerate(zip(shapes, words, fit, strict=True)):
        if FULL in (default_split(shape), best):
            chosen[name] = FULL
            continue
        cuts = ["i" * i + "o" * (len(shape) - i) for i in range(1, len(shape))]
        stacked = best if best and "s" in best else None
        several = [x for x in (stacked, word, best, *cuts) if x not in (None, FULL)]
        # Words that differ by an exchange of i and o, or along axes of length 1, are the same.
        same = {frozenset(sides(shape, x)): x for x in (*reversed(several), word) if x != FULL}
        options[name] = list(dict.fromkeys(same[frozenset(sides(shape, x))] for x in several))
    for turn in range(max(map(len, options.values()), default=0)):
        trial = {name: words[turn] for name, words in options.items() if turn < len(words)}
        now = [trial.get(name, word) for name, word in enumerate(chosen)]
        formed = program.formed([pair_of(*x) for x in zip(shapes, now, strict=True)])
        for name in set(trial) - {name for x in formed for name in x.names}:
            chosen[name] = trial[name]
            del options[name]
    return chosen


def _row(
    name: int,
    shape: tuple[int, ...],
    word: str,
    suggested: str,
    pair: Pair,
    formed: Sequence[Formed],
    used: bool,
) -> Parameter:
    """What becomes of a perturbed parameter."""
    own = [x for x in formed if name in x.names]
    row = Parameter("", shape, word, suggested, "factored")
    if not used:
        return row._replace(status="unused", why="values do not depend on it")
    if pair is None:
        why = "it is no matrix" if default_split(shape) == FULL else "its directions are arrays"
        return row._replace(status="full", why=why)
    if own:
        most = max(own, key=lambda x: x.numbers)
        more = f" (and {len(own) - 1} more)" if len(own) > 1 else ""
        total = sum(x.numbers for x in own)
        return row._replace(status="formed", formed=total, where=most.where, why=most.why + more)
    return row


__all__ = ["Explanation", "explain"]
