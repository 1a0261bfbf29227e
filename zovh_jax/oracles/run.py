"""A run of an optimiser on values from outside, with one or several rounds asked at a time."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax._types import PyTree
from zovh_jax._words import is_packed, unpack_all
from zovh_jax.oracles.ask_tell import Asked, Midway, ask, tell, ticket_of
from zovh_jax.oracles.from_host import bare
from zovh_jax.transforms._state import ZerothOrderState, next_round


@dataclasses.dataclass(frozen=True)
class Round:
    """Points that were asked for, whose values are on their way.

    Attributes:
      number: of the round in the run, from 0 on.
      asked: the points.
      num_steps: steps taken when it was asked.
      places: key, round and count that the state's directions come from.
      seed: for the function's own randomness.
    """

    number: int
    asked: Asked
    num_steps: int
    places: list[Any]
    seed: np.ndarray

    def calls(self, *, keyed: bool, batched: bool) -> list[tuple[PyTree, dict[str, Any]]]:
        """The arguments of each call, in arrays of its own."""
        points = jax.device_get(bare(self.asked.points))
        extra = {"key": self.seed} if keyed else {}
        if batched:
            return [(jax.tree.map(np.array, points), extra)]
        rows = range(self.asked.num_points)
        return [(jax.tree.map(lambda x, i=i: np.array(x[i]), points), extra) for i in rows]


class Run:
    """Where a run is, and the best that it met.

    With several rounds asked at a time each has directions of its own: the numbers of rounds are
    given out when they are asked, and the state gets the number back when their values come. Then
    the step is that of the old round from the new parameters. It is made shorter where that is too
    far behind: see `weight`.

    Args:
      optimizer: any optimiser that `ask` takes.
      params: where to start.
      max_pending: the most rounds that are asked at a time.
      state: the optimiser's, where an earlier run left it; None for a new one.
    """

    def __init__(
        self,
        optimizer: optax.GradientTransformation,
        params: PyTree,
        max_pending: int,
        state: Any = None,
    ):
        self.optimizer, self.params, self.max_pending = optimizer, params, max_pending
        self.state = optimizer.init(params) if state is None else state
        self.start = self.state, params
        self.num_rounds = self.num_queries = self.num_steps = 0
        self.pending: dict[int, Round] = {}
        self.best_value, self.best_params, self.best_at = np.inf, params, 0
        self.size: int | None = None
        self._next = _places(self.state)
        self._seed = _seed(self.state)
        self._before = max((int(count) for *_, count in self._next), default=0)
        if max_pending > 1 and compares_rounds(self.state):
            raise ValueError(
                f"max_pending={max_pending}: this optimiser compares each round with the one "
                "before, which late rounds would upset. Use max_pending=1, or zo.zoar, zo.zo_sgd, "
                "zo.zovh and the like, without reuse that keeps centres."
            )

    def ask(self, max_queries: float) -> Round | None:
        """The next round; None where the queries would not do."""
        single = self.max_pending == 1
        state = self.state if single else _at(self.state, self._next)
        asked = ask(self.optimizer, state, self.params)
        waiting = sum(each.asked.num_points for each in self.pending.values())
        if self.num_queries + waiting + asked.num_points > max_queries:
            if self.num_rounds == 0:
                raise ValueError(
                    f"max_queries={max_queries} is less than the first step needs: "
                    f"{asked.num_points}."
                )
            return None
        if self.size is None:
            self.size = _num_perturbed(asked.points, self.params)
        # The same in both parts of a step that asks twice.
        step = self.num_steps if single else self.num_rounds
        seed = np.append(self._seed, np.uint32(self._before + step))
        new = Round(self.num_rounds, asked, self.num_steps, self._next, seed)
        self.pending[new.number] = new
        self.num_rounds += 1
        if not single:
            self._next = [(*next_round(*place[:2]), place[2]) for place in self._next]
        return new

    def told(self, number: int, values: np.ndarray) -> bool:
        """Goes on with the values of a round; whether they made a step."""
        if number not in self.pending or len(values) != self.pending[number].asked.num_points:
            raise ValueError(
                f"the journal has {len(values)} values of round {number}, which is not what was "
                "asked: it is that of another run."
            )
        here = self.pending[number]
        asked, state = here.asked, self.state
        if self.max_pending > 1:
            asked = dataclasses.replace(asked, ticket=ticket_of(state))
            counts = [place[2] for place in _places(state)]
            state = _at(state, here.places)
        updates, state = tell(self.optimizer, state, self.params, asked, values)
        stepped = not isinstance(state, Midway)
        if self.max_pending > 1:
            if not stepped:
                raise ValueError(
                    "max_pending must be 1 for an optimiser whose steps ask more than once."
                )
            later = [optax.safe_increment(count) for count in counts]
            places = [(*p[:2], count) for p, count in zip(self._next, later, strict=True)]
            state = _at(state, places)
            share = self.weight(self.num_steps - here.num_steps, asked.num_points)
            updates = jax.tree.map(lambda u: (share * u).astype(u.dtype), updates)
        params = _applied(self.params, updates) if stepped else self.params
        finite = np.where(np.isfinite(values), values, np.inf)
        best = int(np.argmin(finite))
        num_queries = self.num_queries + asked.num_points
        after: dict[str, Any] = {"params": params, "state": state, "num_queries": num_queries}
        after |= {"num_steps": self.num_steps + stepped}
        after |= {"pending": {i: x for i, x in self.pending.items() if i != number}}
        if self.max_pending > 1:
            after |= {"_next": places}
        if finite[best] < self.best_value:
            point = _row(here.asked.points, best)
            after |= {"best_value": float(finite[best]), "best_params": point}
            after |= {"best_at": num_queries}
        jax.block_until_ready(after)
        # All at once: an interrupt leaves the run before the step or after it.
        vars(self).update(after)
        return stepped

    @property
    def state_between(self) -> Any:
        """The state after the last step; values of a step that has to ask again are not in it."""
        return self.state.state if isinstance(self.state, Midway) else self.state

    def weight(self, staleness: int, num_points: int) -> float:
        """What a step is multiplied by whose values were asked for some steps ago.

        The rate that a curvature L allows for gradients falls as 1/(s + 1) where they are s steps
        old. Rates for n values along random directions are 1 + d/n times smaller than 1/L anyway,
        so that they may be late by d/n steps.
        """
        return min(1.0, (1 + (self.size or 0) / num_points) / (1 + staleness))


def _num_perturbed(points: PyTree, params: PyTree) -> int:
    """How many numbers are in the leaves that some point has otherwise."""

    def size(x, y):
        floating = jnp.issubdtype(y.dtype, jnp.floating)
        return y.size if floating and bool(jnp.any(x != y)) else 0

    return sum(jax.tree.leaves(jax.tree.map(size, points, params)))


def compares_rounds(state: Any) -> bool:
    """Whether values of one round are compared with those of another one somewhere in a state."""

    def marked(x):
        return bool(getattr(x, "compares_rounds", False))

    return any(map(marked, jax.tree.leaves(unpack_all(state), is_leaf=marked)))


def _is_counts(x: Any) -> bool:
    return isinstance(x, ZerothOrderState)


def _places(state: Any) -> list[Any]:
    """(key, round, count) of all parts of a state that ask."""
    found = jax.tree.leaves(unpack_all(state), is_leaf=_is_counts)
    return [(x.key, x.round, x.count) for x in found if _is_counts(x)]


def _at(state: Any, places: list[Any]) -> Any:
    """The state with these in their place."""
    rest = iter(places)

    def holds(x):
        return _is_counts(x) or is_packed(x)

    def put(x):
        if is_packed(x):
            return x.holding(jax.tree.map(put, x.unpacked, is_leaf=holds))
        if not _is_counts(x):
            return x
        key, turn, count = next(rest)
        return x._replace(key=key, round=turn, count=count)

    return jax.tree.map(put, state, is_leaf=holds)


def _seed(state: Any) -> np.ndarray:
    """Numbers from the optimiser's key."""
    places = _places(state)
    return (
        np.asarray(jax.random.key_data(places[0][0])).reshape(-1)
        if places
        else np.zeros(1, np.uint32)
    )


_applied = jax.jit(optax.apply_updates)


@jax.jit
def _row(points: PyTree, i: Any) -> PyTree:
    """One of the points."""
    return jax.tree.map(lambda x: x[i], points)


__all__ = ["Round", "Run", "compares_rounds"]
