"""Ask and tell: any optimiser, for values that come from outside JAX, whenever they come."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.oracles.questions import DEPENDENT, Question, answered, is_float, question
from zovh_jax.transforms import num_queries


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Asked:
    """Points whose values an optimiser wants.

    Attributes:
      points: a tree like params, each leaf with a leading axis [n].
      ticket: how many values the optimiser had been told before, so that points of another time
        have another one.
      num_points: n.
      questions: the numbers of the questions in the optimiser's program, and the shapes of their
        answers.
      last: whether no step can ask more than this.
    """

    points: PyTree
    ticket: int = dataclasses.field(metadata={"static": True})
    num_points: int = dataclasses.field(metadata={"static": True})
    questions: tuple[tuple[int, tuple[int, ...]], ...] = dataclasses.field(
        metadata={"static": True}
    )
    last: bool = dataclasses.field(metadata={"static": True})


class Midway(NamedTuple):
    """A state inside a step that asks more than once, each time after the last values were told.

    Attributes:
      state: the optimiser's, before the step.
      answers: values told in this step, by the number of the question.
      num_queries: how many they are.
    """

    state: Any
    answers: dict[str, Any]
    num_queries: Any


def ask(
    optimizer: optax.GradientTransformation,
    state: Any,
    params: PyTree,
    *,
    updates: PyTree = None,
    **extra: Any,
) -> Asked:
    """The points whose values the next step needs.

    It spends nothing and changes nothing: asked again, the points are the same. Values, for
    instance of a simulator, an experiment or other machines, are given to `tell` with what was
    asked:

        asked = zo.ask(optimizer, state, params)
        values = …  # [asked.num_points]
        updates, state = zo.tell(optimizer, state, params, asked, values)
        params = optax.apply_updates(params, updates)

    Some steps ask again once they know the first values (`zo.low_rank_newton` while it learns,
    `zo.scalar_newton` and `zo.diagonal_newton` under noise, `zo.zo_sah` with
    ``isotropy_tolerance``). Then `tell` gives zero updates and a state that remembers the values:
    the loop stays as it is. To save a run there, save that state's own ``state``, which is the one
    before the step.

    Args:
      optimizer: any optimiser of this library, or a chain with one in it.
      state: what its ``init`` or the last `tell` gave.
      params: θ.
      updates: incoming updates, for a chain that needs some.
      extra: further arguments of its ``update``, as arrays.

    Returns:
      `Asked`. Its points are arrays on JAX's device: ``jax.device_get`` makes them numpy's. f(θ) is
      among them where the optimiser asks for it. Compiles one program, and another for each further
      time that a step asks.

    Raises:
      ValueError: for an optimiser that asks nothing, or asks where its points cannot be taken out
        (``evaluate=zo.evaluators.sharded(…)``); and as its ``update``.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, optax, zovh_jax as zo
      >>> optimizer = zo.zoar(0.05, num_directions=8, radius=0.1, key=jax.random.key(0))
      >>> params = {"x": jnp.zeros(3)}
      >>> state = optimizer.init(params)
      >>> for _ in range(50):
      ...     asked = zo.ask(optimizer, state, params)
      ...     points = np.asarray(asked.points["x"])  # [8, 3]
      ...     values = [np.sum((x - 1) ** 2) for x in points]
      ...     updates, state = zo.tell(optimizer, state, params, asked, values)
      ...     params = optax.apply_updates(params, updates)
      >>> bool(jnp.all(jnp.abs(params["x"] - 1) < 0.05)), int(zo.num_queries(state))
      (True, 400)
    """
    midway = _midway(state)
    here, _, last = _next(_programs(optimizer), midway, params, updates, extra, points=True)
    if not here:
        raise ValueError(
            "the optimiser asks for no values: ask and tell are for those of zovh_jax and chains "
            f"with one in them; got {optimizer!r}."
        )
    sizes = [q.size for q in here]
    rows = [q.points for q in here]
    floats = iter(rows[0] if len(rows) == 1 else _joined(rows))
    points = jax.tree.map(
        lambda x: next(floats) if is_float(x) else jnp.broadcast_to(x, (sum(sizes), *jnp.shape(x))),
        params,
    )
    return Asked(
        points, ticket_of(midway), sum(sizes), tuple((q.number, q.shape) for q in here), last
    )


def tell(
    optimizer: optax.GradientTransformation,
    state: Any,
    params: PyTree,
    asked: Asked,
    values: Any,
    *,
    updates: PyTree = None,
    **extra: Any,
) -> tuple[PyTree, Any]:
    """The step that the values of the points give: what ``optimizer.update`` would have returned.

    Args:
      optimizer, state, params, updates, extra: as they were for `ask`.
      asked: what `ask` gave.
      values: one for each point, [n], in the points' order. NaN, or ±Inf, is a value that is
        missing. A dict from a point's number to its value is taken too, in any order, and what is
        not in it is missing: parts that came one after the other are ``{**first, **second}``.

    Returns:
      (updates, state). All points are charged, missing ones too. Where the step has to ask again,
      the updates are zeros, and the state one that `ask` takes.

    Raises:
      ValueError: for a ticket of another state, as that of a step that was told already, or values
        of another shape; nothing has changed then.
      TypeError: for values that are not real numbers.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> optimizer = zo.zo_sgd(0.1, num_directions=2, radius=0.1, key=jax.random.key(0))
      >>> x = jnp.zeros(3)
      >>> state = optimizer.init(x)
      >>> asked = zo.ask(optimizer, state, x)  # two directions, and f(x)
      >>> updates, state = zo.tell(optimizer, state, x, asked, {2: 3.0, 0: 2.9})  # 1 never came
      >>> int(zo.num_queries(state)), int(zo.diagnostics(state).num_nonfinite)
      (3, 1)
    """
    midway = _midway(state)
    ticket = ticket_of(midway)
    if asked.ticket != ticket:
        raise ValueError(
            f"these points have the ticket {asked.ticket}, and the state is at {ticket}: their "
            "values have been told already, or are of another run. Ask again: zo.ask(optimizer, "
            "state, params)."
        )
    told = _vector(values, asked.num_points)
    answers, start = dict(midway.answers), 0
    for number, shape in asked.questions:
        size = int(np.prod(shape))
        answers[str(number)] = told[start : start + size].reshape(shape)
        start += size
    midway = Midway(midway.state, answers, midway.num_queries + np.int32(asked.num_points))
    programs = _programs(optimizer)
    if not asked.last:
        here, known, _ = _next(programs, midway, params, updates, extra, points=False)
        if here:
            return programs.no_updates(midway.state, params, updates, extra), midway
        answers = known
    return programs.step(midway.state, params, _numbered(answers), updates, extra)


def ticket_of(state: Any) -> int:
    """How many values an optimiser has been told."""
    return int(_num_queries(state))


_num_queries = jax.jit(num_queries)


def program_of(optimizer: optax.GradientTransformation, state: Any, params: PyTree) -> Any:
    """The update as a closed jaxpr, with questions in it."""
    return jax.make_jaxpr(_programs(optimizer).stepped)(None, state, params, {})


def _midway(state: Any) -> Midway:
    """The state inside a step; at its beginning nothing has been told."""
    return state if isinstance(state, Midway) else Midway(state, {}, np.zeros((), np.int32))


def _numbered(answers: Mapping[str, Any]) -> dict[int, Any]:
    return {int(number): answer for number, answer in answers.items()}


def _vector(values: Any, num_points: int) -> np.ndarray | jax.Array:
    """The values [n], as they came or from a dict."""
    if isinstance(values, Mapping):
        wrong = [i for i in values if i not in range(num_points)]
        if wrong:
            raise ValueError(
                f"values has the number {wrong[0]!r}; the points have 0 to {num_points - 1}."
            )
        values = [values.get(i, np.nan) for i in range(num_points)]
    if not isinstance(values, jax.Array):
        values = np.asarray(values)
    real = [jnp.issubdtype(values.dtype, kind) for kind in (jnp.floating, jnp.integer)]
    if not any(real):
        raise TypeError(f"values must be real numbers, got dtype {values.dtype}.")
    if values.shape != (num_points,):
        raise ValueError(
            f"values must have shape ({num_points},), one for each point, got {values.shape}. A "
            "value that is missing is NaN."
        )
    with np.errstate(over="ignore"):  # what is too large is infinite, and missing
        return values.astype(scalar_dtype())


def _next(
    programs: "_Programs",
    midway: Midway,
    params: PyTree,
    updates: PyTree,
    extra: dict[str, Any],
    *,
    points: bool,
) -> tuple[list[Question], dict[str, Any], bool]:
    """What comes next.

    Returns:
      The next questions, the answers with None for what the step passes by, and whether no question
      is left after these.
    """
    answers: dict[str, Any] = dict(midway.answers)
    while True:
        known = _numbered(answers)
        found = programs.questions(midway.state, params, known, updates, extra, points=points)
        reached = jax.device_get([q.reached for q in found.questions])
        here = [q for q, yes in zip(found.questions, reached, strict=True) if yes is None or yes]
        passed = [q for q in found.questions if q not in here]
        if not found.questions and found.num_open:
            raise ValueError(DEPENDENT)  # each waits for another one
        if here or not found.questions:
            return here, answers, len(here) == found.num_open
        answers |= {str(q.number): None for q in passed}


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Found:
    """Questions of which it is known where they ask; how many are open, with these among them."""

    questions: list[Question]
    num_open: int = dataclasses.field(metadata={"static": True})


class _Programs:
    """What is compiled for one optimiser."""

    def __init__(self, optimizer: optax.GradientTransformation):
        update = optax.with_extra_args_support(optimizer).update

        @jax.jit  # for its cache: both programs below trace the update, and it is the same
        def stepped(updates, state, params, extra):
            return update(updates, state, params, value_fn=question, **extra)

        def run(state, params, answers, updates, extra):
            args = updates, state, params, extra
            jaxpr, shapes = jax.make_jaxpr(stepped, return_shape=True)(*args)
            outs, questions = answered(jaxpr, jax.tree.leaves(args), answers)
            return jax.tree.unflatten(jax.tree.structure(shapes), outs), questions

        @functools.partial(jax.jit, static_argnames="points")
        def questions(state, params, answers, updates, extra, *, points):
            _, left = run(state, params, answers, updates, extra)
            ready = [q for q in left if not q.needs]
            rows = [dataclasses.replace(q, points=q.rows() if points else []) for q in ready]
            return _Found(rows, len(left))

        @jax.jit
        def step(state, params, answers, updates, extra):
            return run(state, params, answers, updates, extra)[0]

        def no_updates(state, params, updates, extra):
            out = jax.eval_shape(stepped, updates, state, params, extra)[0]
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), out)

        self.stepped = stepped
        self.questions = questions
        self.step = step
        self.no_updates = no_updates


_programs = functools.lru_cache(maxsize=16)(_Programs)


@jax.jit
def _joined(rows: list[list[jax.Array]]) -> list[jax.Array]:
    return [jnp.concatenate(leaves) for leaves in zip(*rows, strict=True)]


__all__ = ["Asked", "Midway", "ask", "program_of", "tell", "ticket_of"]
