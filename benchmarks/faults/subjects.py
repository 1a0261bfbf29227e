"""What the faults are done to: every optimiser, on one small problem."""

import dataclasses
import functools
import itertools
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

import zovh_jax as zo
from benchmarks.faults.workers import DIMENSION, value

K = 8
"""Directions a step."""
FLOOR = 1e-3
"""Of the start's value: less is not told apart where final values are compared."""


def made(factory: Callable[..., Any], *args: Any, **options: Any) -> Callable[[], Any]:
    """A function that makes an optimiser of K directions."""
    shared = {"num_directions": K, "radius": 0.01}
    return lambda: factory(*args, **shared | options, key=jax.random.key(0))


def sah() -> optax.GradientTransformation:
    """ZO-SAH, which has subspaces in place of directions."""
    return zo.zo_sah(0.3, num_subspaces=4, radius=0.01, curvature_radius=0.1, key=jax.random.key(0))


MAKERS: dict[str, Callable[[], optax.GradientTransformation]] = {
    "zo_sgd": made(zo.zo_sgd, 0.05),
    "zoar": made(zo.zoar, 0.05),
    "zovh": made(zo.zovh, 0.5, damping=30.0),
    "mezo": made(zo.mezo, 0.05),
    "hizoo": made(zo.hizoo, 0.05),
    "zoha": made(zo.zoha, 1.0, damping=0.7),
    "spsa": made(zo.spsa, 0.05),
    "spsa2": made(
        zo.spsa2, 0.1, num_directions=4, radius=0.1, initial_hessian=10.0, regularization=1.0
    ),
    "zo_adamm": made(zo.zo_adamm, 0.1),
    "zo_signsgd": made(zo.zo_signsgd, 0.1),
    "radazo": made(zo.radazo, 0.03),
    "rspg": made(zo.rspg, 0.05),
    "fzoo": made(zo.fzoo, 0.002),
    "poem": made(zo.poem, radius=0.3),
    "scalar_newton": made(zo.scalar_newton),
    "diagonal_newton": made(zo.diagonal_newton),
    "low_rank_newton": made(zo.low_rank_newton, rank=2),
    "model_newton": made(zo.model_newton, radius=0.3),
    "zo_sah": sah,
    "bounded": lambda: zo.bounded(made(zo.zoar, 0.03)(), -3.0, 3.0),
}
"""Every optimiser, at rates that make its values fall all the time; `zo.bounded` is around ZoAR."""


def start(seed: int) -> np.ndarray:
    """Where a run begins."""
    return np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class Clean:
    """A run in which nothing went wrong.

    Attributes:
      result: what it gave.
      curve: [(queries, value)] after each step, from the start on.
    """

    result: zo.oracles.Result
    curve: list[tuple[int, float]]

    def value_after(self, num_queries: int) -> float:
        """The value that so many queries bought."""
        return [y for spent, y in self.curve if spent <= num_queries][-1]


def ratio(seed: int, params: Any, want: float) -> float:
    """The value at the end of a run, over that of another run from the same start."""
    floor = FLOOR * value(start(seed))
    return (value(params) + floor) / (want + floor)


class Subject:
    """An optimiser, which is compiled once for all its runs."""

    def __init__(self, name: str):
        self.name = name
        self.optimizer = MAKERS[name]()

    def minimize(self, seed: int, budget: int, fun: Callable = value, **options: Any) -> Any:
        """A run; from another start for another seed."""
        return zo.minimize(fun, start(seed), self.optimizer, max_queries=budget, **options)

    @functools.cache  # noqa: B019 - lives as long as the run of the case
    def clean(self, seed: int, budget: int) -> Clean:
        """The run without faults."""
        curve = [(0, value(start(seed)))]

        def note(progress):
            curve.append((int(zo.num_queries(progress.state)), value(progress.params)))

        return Clean(self.minimize(seed, budget, callback=note), curve)

    def largest_round(self, budget: int) -> int:
        """The most points that a step asked."""
        spent = [queries for queries, _ in self.clean(0, budget).curve]
        return max(b - a for a, b in itertools.pairwise(spent))


@dataclasses.dataclass
class Tally:
    """What came of the runs with one kind of fault.

    Attributes:
      faults: how many were done.
      runs: in how many runs.
      lost: runs that raised, hung, ended before their budget or at parameters that are not finite.
      wrong: runs that counted something wrongly, or took what they must refuse.
      off: runs that ended elsewhere than the clean one.
      ratios: final value / that of the clean run after as many values that came, where they may
        differ.
      notes: what went wrong.
    """

    faults: int = 0
    runs: int = 0
    lost: int = 0
    wrong: int = 0
    off: int = 0
    ratios: list[float] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)

    def run(self, body: Callable[[list[str]], Any]) -> Any:
        """What a run gave; None where it is lost.

        Args:
          body: the run; it adds to the list what it finds wrong.
        """
        self.runs += 1
        wrong: list[str] = []
        found: Any = None
        try:
            found = within(300, lambda: body(wrong))
        except Exception as error:
            self.lost += 1
            self.notes.append(f"lost: {error!r}"[:300])
        self.wrong += bool(wrong)
        self.notes += wrong
        return found

    def lose(self, why: str) -> None:
        """Counts a run that ended badly."""
        self.lost += 1
        self.notes.append(f"lost: {why}")

    def compare(self, found: Any, clean: Clean) -> None:
        """Counts a run as off that is not the clean one to the bit."""
        if found is not None and bits(found) != bits(clean.result):
            self.off += 1
            self.notes.append("off: the end is not the clean run's")


def bits(result: Any) -> str:
    """All numbers of a result, exactly."""
    arrays = zo.pack((result.params, result.state))
    numbers = {name: (str(x.dtype), x.tobytes().hex()) for name, x in arrays.items()}
    ends = [result.num_queries, result.num_steps, float(result.best_value).hex()]
    return json.dumps([numbers, ends, np.asarray(result.best_params).tobytes().hex()])


def within(seconds: float, fn: Callable[[], Any]) -> Any:
    """What the function returns.

    Raises:
      TimeoutError: if it takes longer; it goes on in its thread.
    """
    out: list[Any] = []

    def call():
        try:
            out.append((fn(), None))
        except BaseException as error:
            out.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(seconds)
    if not out:
        raise TimeoutError(f"it hung for {seconds} seconds")
    found, error = out[0]
    if error is not None:
        raise error
    return found


def read(path: str) -> bytes:
    """The content of a file; nothing if it is not there."""
    if not os.path.exists(path):
        return b""
    with open(path, "rb") as file:
        return file.read()


def write(path: str, content: bytes) -> None:
    """Writes a file."""
    with open(path, "wb") as file:
        file.write(content)
