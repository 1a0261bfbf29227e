"""Follows an objective's program with shapes alone: what is formed, and what each axis is for."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from zovh_jax._jaxprs import INLINED
from zovh_jax._tree import Layout, direction_dtype
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.directions.splits import FULL, default_split, sides
from zovh_jax.evaluators.evaluator import leaves_objective
from zovh_jax.evaluators.factored import Perturbed, Report, interpreted
from zovh_jax.evaluators.factored.interpreter import CONTROL
from zovh_jax.evaluators.factored.roles import fitting, role
from zovh_jax.evaluators.factored.sources import Sources
from zovh_jax.evaluators.randomness import Keyed, parameters_of, wants_key

PASSED_ON = {*CONTROL, *INLINED, "stop_gradient"}
"""Equations that use no parameter themselves."""
Pair: TypeAlias = tuple[tuple[int, ...], tuple[int, ...]] | None
"""Shapes of the two factors of a parameter, rank first; None where its direction is an array."""


def pair_of(shape: tuple[int, ...], word: str) -> Pair:
    """The factors' shapes for a word, of rank one."""
    if word == FULL:
        return None
    left, right = sides(shape, word)
    return (1, *left), (1, *right)


class Formed(NamedTuple):
    """An array that is formed, and the parameters (their numbers) that are in it."""

    names: tuple[int, ...]
    numbers: int
    bytes: int
    where: str
    why: str


class Program:
    """The objective's program, to be followed with factors of any shape."""

    def __init__(self, value_fn: ValueFn, params: PyTree, layout: Layout, examples: bool):
        self.leaves = [
            jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
            for shape, dtype, sharding in zip(
                layout.shapes, layout.dtypes, layout.shardings, strict=True
            )
        ]

        def is_shape(x: Any) -> bool:
            return isinstance(x, jax.ShapeDtypeStruct)

        self.shapes = [x for x in jax.tree.leaves(params) if is_shape(x)]
        keyed = not isinstance(value_fn, Keyed) and wants_key(parameters_of(value_fn))

        def fn(leaves, arrays):
            rest = iter(arrays)
            point = jax.tree.map(lambda x: next(rest) if is_shape(x) else x, params)
            objective = Keyed(value_fn, jax.random.key(0)) if keyed else value_fn
            value = leaves_objective(objective, point, layout, examples=examples)
            # An operation of its own: a parameter that is the value itself is used.
            return jnp.expand_dims(value(leaves, jnp.zeros((), int)), 0)

        self.report: Report = lambda *_: None
        self.call = interpreted(
            fn, self.leaves, self.shapes, report=lambda *heard: self.report(*heard)
        )

    def follow(self, pairs: Sequence[Pair], report: Report) -> None:
        """Runs the program on shapes."""

        def stand_in(name: int, x: Any, pair: Pair) -> Any:
            if pair is None:
                return x
            left, right = (jax.ShapeDtypeStruct(n, direction_dtype(x.dtype)) for n in pair)
            return Perturbed(x, left, right, (name,))  # type: ignore[arg-type]

        self.report = report
        leaves = [stand_in(i, *x) for i, x in enumerate(zip(self.leaves, pairs, strict=True))]
        jax.eval_shape(lambda *args: self.call(*args), leaves, self.shapes)

    def formed(self, pairs: Sequence[Pair]) -> list[Formed]:
        """What is formed with these factors; what loops trace twice counts once."""
        found, sources = {}, Sources()

        def report(eqn, values, why):
            if why is None:
                return sources.enter(eqn) if eqn.primitive.name in PASSED_ON else None
            for i, x in enumerate(values):
                if isinstance(x, Perturbed) and not x.part:
                    size = x.base.size
                    found[sources.path(eqn), x.names, i, why] = Formed(
                        tuple(set(x.names)),
                        size * sources.times(eqn),
                        size * x.base.dtype.itemsize,
                        sources.where(eqn),
                        why,
                    )

        self.follow(pairs, report)
        return list(found.values())

    def fitting(self) -> tuple[set[int], list[str | None]]:
        """Which parameters values depend on, and the words that fit what is done along the axes.

        A factor that has one axis alone shows where that axis goes.
        """
        used: set[int] = set()
        heard: list[list[list[str]]] = [[[] for _ in x.shape] for x in self.leaves]

        def listening(axis: int) -> Report:
            def report(eqn, values, why):
                for at, x in enumerate(values):
                    if not isinstance(x, Perturbed):
                        continue
                    if why or eqn.primitive.name not in PASSED_ON:
                        used.update(x.names)
                    if why or len(set(x.names)) > 1:
                        continue
                    for i, n in enumerate(x.right.shape[1:]):
                        if n > 1 and (letter := role(eqn, at, x.shape, i)):
                            heard[x.names[0]][axis].append(letter)

            return report

        def ends(shape: tuple[int, ...], axis: int) -> Pair:
            own = [n if i == axis else 1 for i, n in enumerate(shape)]
            others = [1 if i == axis else n for i, n in enumerate(shape)]
            return (1, *others), (1, *own)

        shapes = [x.shape for x in self.leaves]
        num_axes = max([len(x) for x in shapes if default_split(x) != FULL], default=1)
        for axis in range(num_axes):
            pairs = [ends(x, axis) if len(x) > axis or axis == 0 else None for x in shapes]
            self.follow(pairs, listening(axis))
        return used, [fitting(*x) for x in zip(heard, shapes, strict=True)]


__all__ = ["Formed", "Pair", "Program", "pair_of"]
