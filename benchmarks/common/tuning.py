"""Runs of a method for a number of queries, and the search for its learning rate.

A run takes steps until the next one might exceed the queries allowed, whatever a step costs, and
notes the value at the parameters on the way; noting is free, as it tells the method nothing. Runs
are made one after another by one compiled program: under `jax.vmap` both branches of a choice would
be evaluated, and with them queries that no run asks. Where a run leaves most of an accelerator
idle, some are made at once all the same (`together`).

Learning rates are tried on a grid of half decades that grows until the best is inside it, then at
the quarter decades on both sides of the best. The score is the mean over the tuning seeds of what
`Task.score` makes of a run, infinite if any of the runs diverged, there or at a smaller rate.
Reported runs have other seeds.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

import zovh_jax as zo
from benchmarks.common import report
from benchmarks.common.grid import Grid
from benchmarks.common.methods import Method, Setting
from benchmarks.common.steps import stepping

SEEDS = (0, 1, 2)
"""Seeds of the reported runs."""
TOGETHER = 4
"""Runs that are made at once on an accelerator."""
AHEAD = 3
"""Rates that are tried beyond the best one while that is at the edge of the grid."""


def tuning_seeds(count: int = 1) -> list[int]:
    """Seeds that no reported run has."""
    return list(range(1000, 1000 + count))


def together() -> int:
    """How many runs of small batches to make at once: they leave most of an accelerator idle."""
    return 1 if jax.default_backend() == "cpu" else TOGETHER


def facts(setting: Setting, num_tuning_seeds: int = 1) -> dict[str, Any]:
    """What the JSON file says about the circumstances of tuned and reported runs."""
    return {
        "environment": report.environment(),
        "setting": dataclasses.asdict(setting),
        "seeds": list(SEEDS),
        "tuning_seeds": tuning_seeds(num_tuning_seeds),
    }


@dataclasses.dataclass(frozen=True)
class Task:
    """What a run is about.

    Attributes:
      query: value at (params, key, queries spent before this step, level): what the method gets.
      measure: value at (params, queries spent, level): what is noted, without noise.
      start: parameters from a key.
      dimension: d.
      curvature: a typical eigenvalue of the Hessian, to start the grid of learning rates.
      budget: queries a run may spend.
      checkpoints: how many times a run notes the value, the start not counted.
      score: of the noted values, [checkpoints + 1]; smaller is better.
      worst: from the first value and the level: a run that ends above this has diverged.
      test: what the answer is worth besides, or None, noted with the value; tuning does not look at
        it.
      together: how many runs are made at once.
    """

    query: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array]
    measure: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
    start: Callable[[jax.Array], jax.Array]
    dimension: int
    curvature: float
    budget: int
    checkpoints: int = 50
    score: Callable[[np.ndarray], float] = lambda values: float(values[-1])
    worst: Callable[[Any, float], Any] = lambda first, level: first
    test: Callable[[jax.Array], jax.Array] | None = None
    together: int = 1

    @property
    def queries(self) -> np.ndarray:
        """Queries at the checkpoints, the start included."""
        return np.round(np.linspace(0, self.budget, self.checkpoints + 1)).astype(int)


def of_problem(problem: zo.problems.Problem, dimension: int, **facts) -> Task:
    """The task of minimising a test function from its papers' start."""
    at_start = problem.hessian(problem.start(dimension))
    return Task(
        lambda x, key, spent, level: problem(x),
        lambda x, spent, level: problem(x),
        lambda key: problem.start(dimension, key),
        dimension=dimension,
        curvature=float(jnp.abs(at_start.trace())) / dimension,
        **facts,
    )


def queries_to(target: float, queries: np.ndarray) -> Callable[[np.ndarray], float]:
    """A score: the queries until values are at most the target, which is above zero.

    Where they never are, it is above the budget, and the more so the farther they ended.
    """

    def score(values: np.ndarray) -> float:
        if (values <= target).any():
            return float(queries[np.argmax(values <= target)])
        return float(queries[-1] * (1 + math.log10(max(float(values[-1]), target) / target)))

    return score


@dataclasses.dataclass
class Runs:
    """Outcomes of some runs.

    Attributes:
      values: what was noted, [runs, checkpoints + 1].
      spent: queries spent at the end, [runs].
      diverged: which runs ended above the worst that the task allows, or on no number, [runs].
      tested: what answers were worth by the task's test, [runs, checkpoints + 1]; None where there
        is none.
    """

    values: np.ndarray
    spent: np.ndarray
    diverged: np.ndarray
    tested: np.ndarray | None = None


def one_run(
    method: Method, setting: Setting, task: Task
) -> Callable[[Any, Any, Any], tuple[jax.Array, ...]]:
    """A function of (seed, rate, level): what was noted, the queries spent, the test if any.

    ``level`` is passed on to the task: of noise, of speed.
    """
    most = method.queries(setting)

    def run(seed, rate, level):
        key = jax.random.key(seed)
        start_key, method_key, noise_key = jax.random.split(key, 3)
        optimizer = method.make(rate, method_key, setting)
        params = task.start(start_key)

        def affordable(carry, allowed):
            _, state = carry
            return zo.num_queries(state) + most <= allowed

        def step(carry):
            spent = zo.num_queries(carry[1])
            key = jax.random.fold_in(noise_key, spent)
            return stepping(optimizer, lambda x: task.query(x, key, spent, level))(carry)

        def noted(answer, spent):
            value = task.measure(answer, spent, level)
            return (value, task.test(answer)) if task.test else (value,)

        def until(carry, allowed):
            carry = jax.lax.while_loop(lambda c: affordable(c, allowed), step, carry)
            return carry, noted(method.output(*carry), zo.num_queries(carry[1]))

        first = noted(params, jnp.zeros((), jnp.int32))
        carry = params, optimizer.init(params)
        carry, later = jax.lax.scan(until, carry, jnp.asarray(task.queries[1:]))
        values, *tested = map(jnp.append, first, later)
        return values, zo.num_queries(carry[1]), *tested

    return run


def with_constants_passed(function: Callable, *like: Any) -> Callable:
    """The function compiled, with the arrays that it closes over, such as data, as arguments.

    XLA would copy them into the program and fold what depends on them alone.
    """
    traced = jax.make_jaxpr(function)(*like)
    compiled = jax.jit(lambda consts, *args: jaxpr_as_fun(ClosedJaxpr(traced.jaxpr, consts))(*args))
    return functools.partial(compiled, traced.consts)


def runner(method: Method, setting: Setting, task: Task) -> Callable[..., Runs]:
    """A function of (seeds, rates, level) that makes a run for each pair, some at once."""
    run, number = one_run(method, setting, task), task.together

    def some(seeds, rates, level):
        if number == 1:
            return [x[None] for x in run(seeds[0], rates[0], level)]
        return jax.vmap(run, (0, 0, None))(seeds, rates, level)

    like = np.zeros(number, np.uint32), np.ones(number, np.float32), np.float32(0)
    compiled = with_constants_passed(some, *like)

    def runs(seeds: Sequence[int], rates: Sequence[float], level: float = 0.0) -> Runs:
        all_seeds, all_rates = np.asarray(seeds, np.uint32), np.asarray(rates, np.float32)
        count, outcomes = len(all_seeds), []
        for first in range(0, count, number):
            rows = np.arange(first, first + number) % count  # the last ones are filled up
            outcomes.append(compiled(all_seeds[rows], all_rates[rows], np.float32(level)))
        found = (np.concatenate(parts)[:count] for parts in zip(*outcomes, strict=True))
        values, spent, *tested = found
        good = values[:, -1] <= task.worst(values[:, 0], level)
        diverged = ~(good & np.isfinite(values[:, -1]))
        return Runs(values.astype(float), spent, diverged, *(x.astype(float) for x in tested))

    return runs


def tune(
    task: Task, run: Callable[..., Runs], centre: int, level: float, seeds: int
) -> dict[str, Any]:
    """The learning rate that does best, from a grid that starts at a half decade.

    Returns:
      ``learning_rate``; ``interior``, whether rates on both sides of it were tried and are worse;
      ``grid``, a list of {rate, score, diverged} with a score of None where a run diverged.
    """

    def attempt(quarters: list[int]) -> dict[int, dict[str, Any]]:
        rates = [10 ** (i / 4) for i in quarters]
        of_seeds = np.tile(tuning_seeds(seeds), len(quarters))
        outcome = run(of_seeds, np.repeat(rates, seeds), level)
        values = np.split(outcome.values, len(quarters))
        diverged = np.split(outcome.diverged, len(quarters))
        return {
            i: {
                "rate": tidy(rate),
                "score": math.inf if bad.any() else float(np.mean([task.score(c) for c in curves])),
                "diverged": int(bad.sum()),
            }
            for i, rate, curves, bad in zip(quarters, rates, values, diverged, strict=True)
        }

    grid = Grid(attempt, "score")
    grid.grow(2 * centre, spacing=2, ahead=AHEAD)
    best = grid.best
    grid.add([best - 1, best + 1])
    return {
        "learning_rate": grid.rows[grid.best]["rate"],
        "interior": grid.interior,
        "grid": [{**row, "score": finite(row["score"])} for row in grid.in_order],
    }


class Trial:
    """A method on a task: compiled once, tuned and run at any level.

    Args:
      method, setting, task: what to run.
    """

    def __init__(self, method: Method, setting: Setting, task: Task):
        self.task = task
        self.run = runner(method, setting, task)
        self.tuned = method.tuned
        # A rate is chosen by the values alone, and a test may take as long as the run.
        untested = dataclasses.replace(task, test=None)
        self.attempt = runner(method, setting, untested) if task.test and self.tuned else self.run
        self.centre = method.centre(setting, task.dimension, task.curvature)
        self.facts = {"label": method.label, "queries_per_step": method.queries(setting)}

    def measure(
        self,
        seeds: Sequence[int],
        *,
        level: float = 0.0,
        learning_rate: float | None = None,
        num_tuning_seeds: int = 1,
        curve: bool = True,
    ) -> dict[str, Any]:
        """Tunes, unless told a rate or there is none; runs on these seeds, and sums up.

        Returns:
          ``label``; ``queries_per_step``, at most; what `tune` returns (``learning_rate`` alone,
          if given, null if there is none); of the runs ``queries_spent`` at most, ``diverged``, how
          many; ``score`` and ``final``, {median, least, most, each} over the seeds (null for a run
          that is not a number); ``test``, likewise, if the task has one; ``curve``,
          {queries, median, least, most}; ``tests``, likewise, of the test, and ``each`` run's own.
        """
        entry: dict[str, Any] = {"learning_rate": learning_rate}
        if learning_rate is None and self.tuned:
            entry = tune(self.task, self.attempt, self.centre, level, num_tuning_seeds)
        outcome = self.run(list(seeds), [entry["learning_rate"] or 1.0] * len(seeds), level)
        scores = np.asarray([self.task.score(values) for values in outcome.values])
        entry |= {
            "queries_spent": int(outcome.spent.max()),
            "diverged": int(outcome.diverged.sum()),
            "score": each(scores),
            "final": each(outcome.values[:, -1]),
        }
        if outcome.tested is not None:
            entry["test"] = each(outcome.tested[:, -1])
        if curve:
            entry["curve"] = self.band(outcome.values)
            if outcome.tested is not None:
                own = [[finite(v) for v in values] for values in outcome.tested]
                entry["tests"] = self.band(outcome.tested) | {"each": own}
        return self.facts | entry

    def band(self, values: np.ndarray) -> dict[str, Any]:
        """The spread over runs at each checkpoint."""
        bands = {name: [finite(v) for v in each] for name, each in spread(values.T).items()}
        return {"queries": self.task.queries.tolist()} | bands


def spread(values: np.ndarray) -> dict[str, np.ndarray]:
    """Median, least and most along the last axis; a run that is not a number counts as infinite."""
    values = np.where(np.isnan(values), np.inf, values)
    # Of two middle ones the upper: their mean says nothing where it is infinite.
    middle = np.sort(values, axis=-1)[..., values.shape[-1] // 2]
    return {"median": middle, "least": values.min(-1), "most": values.max(-1)}


def each(values: np.ndarray) -> dict[str, Any]:
    """The spread of one number a run, and the numbers."""
    summary = {name: finite(value) for name, value in spread(values).items()}
    return {**summary, "each": [finite(v) for v in values]}


def finite(value: Any) -> float | None:
    """A number that JSON can hold, to six digits, or None."""
    return tidy(float(value)) if np.isfinite(value) else None


def tidy(value: float) -> float:
    """The number to six significant digits."""
    return float(f"{value:.6g}")
