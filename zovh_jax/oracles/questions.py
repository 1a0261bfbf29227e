"""An update as a program with questions in it: run with some of the answers, it gives the rest.

The objective that an update is traced with is a `question`: an equation without a meaning, which
vmap, loops and branches carry along like any other. The program is then run by an interpreter that
puts in the answers that are known. It tells of every other question where it asks, which answers
that depends on, and whether this step comes by it.

No transformation knows of this, and no answer is waited for inside a program.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax.extend import core

from zovh_jax._jaxprs import bound, entered, evaluate, opened, programs_in, scan_sizes
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree

TARGET = "zovh_jax_question"
"""The name of the equation."""
DEPENDENT = (
    "the optimiser asks inside a loop whose steps depend on each other: make it with "
    "evaluate=zo.evaluators.vmapped()."
)
Answers: TypeAlias = Mapping[int, jax.Array | None]
"""Values by the number of the question; None for one that this step does not come by."""


def question(params: PyTree, key: Any = None) -> jax.Array:
    """The objective whose values come later. It has no randomness of its own."""
    del key
    result = jax.ShapeDtypeStruct((), scalar_dtype())
    return jax.ffi.ffi_call(TARGET, result, vmap_method="expand_dims")(*floats_of(params))


def floats_of(params: PyTree) -> list[jax.Array]:
    """The leaves that may be perturbed."""
    return [jnp.asarray(x) for x in jax.tree.leaves(params) if is_float(x)]


def is_float(x: Any) -> bool:
    """Whether a leaf may be perturbed."""
    return bool(jnp.issubdtype(jnp.result_type(x), jnp.floating))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Question:
    """One place of the program that asks, for a batch of points.

    Attributes:
      points: the float leaves of the points. Their leading axes are those of ``shape``, or of
        length 1 where a leaf is the same in all.
      reached: whether this step comes by it, a bool array; None where every step does.
      number: of the question in the program.
      shape: of its answers.
      needs: the questions whose answers decide where it asks, or whether.
    """

    points: Sequence[jax.Array]
    reached: jax.Array | None
    number: int = dataclasses.field(metadata={"static": True})
    shape: tuple[int, ...] = dataclasses.field(metadata={"static": True})
    needs: frozenset[int] = dataclasses.field(metadata={"static": True})

    @property
    def size(self) -> int:
        """How many points it asks for."""
        return math.prod(self.shape)

    def rows(self) -> list[jax.Array]:
        """The points, one after the other: each leaf with one leading axis."""
        rank = len(self.shape)
        full = [jnp.broadcast_to(x, (*self.shape, *x.shape[rank:])) for x in self.points]
        return [x.reshape(self.size, *x.shape[rank:]) for x in full]


class Value(NamedTuple):
    """A value, and the questions without an answer that it depends on."""

    x: Any
    needs: frozenset[int]


NOTHING: frozenset[int] = frozenset()


def answered(
    jaxpr: core.ClosedJaxpr, args: Sequence[Any], answers: Answers
) -> tuple[list[Any], list[Question]]:
    """The outputs of a program, and its questions that have no answer.

    Outputs that depend on a question without an answer are meaningless.

    Raises:
      ValueError: for a program that asks where its questions cannot be taken out.
    """
    known = [Value(x, NOTHING) for x in args]
    outs, questions = _run(*opened(jaxpr), known, answers, 0)
    return [x.x for x in outs], questions


def count(jaxpr: Any) -> int:
    """How many questions are in a program."""
    return sum(map(_count, opened(jaxpr)[0].eqns))


def _count(eqn: core.JaxprEqn) -> int:
    if eqn.primitive.name == "ffi_call":
        return int(eqn.params["target_name"] == TARGET)
    return sum(map(count, programs_in(eqn)))


def _run(
    jaxpr: core.Jaxpr, consts: Sequence, args: Sequence[Value], answers: Answers, first: int
) -> tuple[list[Value], list[Question]]:
    """The outputs, and the questions, which are numbered from ``first`` on."""
    questions: list[Question] = []
    number = first

    def apply(eqn: core.JaxprEqn, ins: list[Value]) -> list[Value]:
        nonlocal number
        num_questions = _count(eqn)
        if not num_questions:
            needs = NOTHING.union(*(x.needs for x in ins))
            return [Value(x, needs) for x in bound(eqn, [x.x for x in ins])]
        name = eqn.primitive.name
        if name == "ffi_call":
            outs, found = _ask(eqn, ins, answers, number)
        elif (program := entered(eqn)) is not None:
            outs, found = _run(*program, ins, answers, number)
        elif name in ("cond", "scan"):
            outs, found = (_cond if name == "cond" else _scan)(eqn, ins, answers, number)
        else:
            raise ValueError(
                f"the optimiser asks inside {name}, out of which its questions cannot be taken: "
                "make it with evaluate=zo.evaluators.vmapped()."
            )
        number += num_questions
        questions.extend(found)
        return outs

    consts = [Value(x, NOTHING) for x in consts]
    outs = evaluate(jaxpr, consts, args, apply, literal=lambda x: Value(x, NOTHING))
    return outs, questions


def _ask(
    eqn: core.JaxprEqn, ins: list[Value], answers: Answers, number: int
) -> tuple[list[Value], list[Question]]:
    """A question: its answer, or itself."""
    aval: Any = eqn.outvars[0].aval
    nothing = jnp.full(aval.shape, jnp.nan, aval.dtype)
    if number in answers:
        answer = answers[number]
        return [Value(nothing if answer is None else answer, NOTHING)], []
    needs = NOTHING.union(*(x.needs for x in ins))
    here = Question([x.x for x in ins], None, number, aval.shape, needs)
    return [Value(nothing, frozenset({number}))], [here]


def _cond(
    eqn: core.JaxprEqn, ins: list[Value], answers: Answers, first: int
) -> tuple[list[Value], list[Question]]:
    """A branch: questions leave it, with zeros for points where another one is taken."""
    index, *operands = ins
    branches = eqn.params["branches"]
    starts = [first + sum(map(count, branches[:i])) for i in range(len(branches))]
    needs = [NOTHING] * len(eqn.outvars)

    def run(branch, start):
        outs, questions = _run(*opened(branch), operands, answers, start)
        needs[:] = (old | x.needs for old, x in zip(needs, outs, strict=True))
        yes = jnp.ones((), bool)
        return [x.x for x in outs], [
            dataclasses.replace(q, reached=yes if q.reached is None else q.reached)
            for q in questions
        ]

    found = [
        jax.eval_shape(lambda b=b, s=s: run(b, s)[1]) for b, s in zip(branches, starts, strict=True)
    ]

    def with_zeros(i):
        def call():
            outs, questions = run(branches[i], starts[i])
            others = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found)
            return outs, [questions if j == i else other for j, other in enumerate(others)]

        return call

    outs, by_branch = jax.lax.switch(index.x, [with_zeros(i) for i in range(len(branches))])
    questions = [
        dataclasses.replace(q, needs=q.needs | index.needs) for found in by_branch for q in found
    ]
    return [Value(x, n | index.needs) for x, n in zip(outs, needs, strict=True)], questions


def _scan(
    eqn: core.JaxprEqn, ins: list[Value], answers: Answers, first: int
) -> tuple[list[Value], list[Question]]:
    """A loop whose steps do not wait for each other's answers, as `zo.evaluators.chunked`'s."""
    params = eqn.params
    body, consts = opened(params["jaxpr"])
    num_consts, num_carry = scan_sizes(eqn)
    closed, carry = ins[:num_consts], ins[num_consts : num_consts + num_carry]
    sliced = ins[num_consts + num_carry :]
    own = {i: answers[i] for i in range(first, first + _count(eqn)) if i in answers}
    needs = [x.needs for x in carry]
    out_needs: list[frozenset[int]] = []

    def step(carry, rows):
        carried = [Value(x, n) for x, n in zip(carry, needs, strict=True)]
        xs = [Value(x, outside.needs) for x, outside in zip(rows[0], sliced, strict=True)]
        outs, questions = _run(body, consts, [*closed, *carried, *xs], rows[1], first)
        out_needs[:] = [x.needs for x in outs]
        arrays = [x.x for x in outs]
        return arrays[:num_carry], (arrays[num_carry:], questions)

    rows = [x.x for x in sliced], own
    start = [x.x for x in carry]
    while True:  # until what the carry depends on grows no more
        jax.eval_shape(step, start, jax.tree.map(lambda x: x[0], rows))
        grown = [old | new for old, new in zip(needs, out_needs[:num_carry], strict=True)]
        if grown == needs:
            break
        needs[:] = grown
    carry_out, (ys, questions) = jax.lax.scan(
        step,
        start,
        rows,
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    if any(q.number in q.needs or q.reached is not None for q in questions):
        raise ValueError(DEPENDENT)
    questions = [dataclasses.replace(q, shape=(params["length"], *q.shape)) for q in questions]
    outs = [*carry_out, *ys]
    return [Value(x, n) for x, n in zip(outs, out_needs, strict=True)], questions


__all__ = [
    "DEPENDENT",
    "Answers",
    "Question",
    "answered",
    "count",
    "floats_of",
    "is_float",
    "question",
]
