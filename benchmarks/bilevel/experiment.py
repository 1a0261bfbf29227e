"""The parts of the case: which tasks, which contenders, how many values; and the runs."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.bilevel import tasks
from benchmarks.bilevel.contenders import CONTENDERS, Loop
from benchmarks.bilevel.problem import Bilevel, solution
from benchmarks.bilevel.tasks import Data, Task
from benchmarks.common import report, tuning
from benchmarks.common.grid import Grid
from benchmarks.common.tuning import SEEDS

KINDS = ("inner", "outer", "derivatives")
"""What a cost consists of."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A task and its contenders.

    Attributes:
      settings: the task by the names of its settings, which differ in their data alone.
      tuned: the setting that learning rates are tuned on.
      contenders: their names.
      budget: values that a run may ask for.
      less: the same of contenders that may ask for less.
      rate: a learning rate for all, where tuning would cost too much.
      seeds: of the reported runs.
    """

    settings: dict[str, Task]
    tuned: str
    contenders: tuple[str, ...]
    budget: int
    less: dict[str, int] = dataclasses.field(default_factory=dict)
    rate: float | None = None
    seeds: Sequence[int] = SEEDS

    def runs_of(self, name: str) -> "Runs":
        """The runs of a contender."""
        budget = self.less.get(name, self.budget)
        return Runs(self.settings[self.tuned].problem, name, budget)

    def rate_of(self, runs: "Runs", seed: int) -> dict[str, Any]:
        """The learning rate, and how it was found on another split."""
        if self.rate is not None:
            return {"learning_rate": self.rate, "interior": None, "grid": []}
        return tune(runs, self.settings[self.tuned].data(seed), seed)


def parts(full: bool, examples: int, components: int) -> dict[str, Part]:
    """What is run, by the name of the task."""

    def cleaning(examples, components, *corruptions):
        return {f"{c:g}": tasks.cleaning(c, examples, components) for c in corruptions}

    def without(*names):
        return tuple(name for name in CONTENDERS if name not in names)

    if not full:
        some = ("first_order", "mixed", "whole")
        return {
            "cleaning": Part(
                cleaning(examples, components, 0.5), "0.5", some, 50_000, {"first_order": 2_500}
            ),
            "augmentation": Part({"": tasks.augmentation()}, "", some[1:], 3_000),
        }
    some = ("first_order", "values", "whole")
    return {
        "cleaning": Part(
            cleaning(examples, components, 0.5, 0.7, 0.9),
            "0.7",
            tuple(CONTENDERS),
            150_000,
            {"first_order": 2_500},
        ),
        "more digits": Part(
            cleaning(2_000, components, 0.5),
            "0.5",
            some,
            300_000,
            {"first_order": 2_500, "values": 150_000},
            rate=1.0,
        ),
        "all pixels": Part(
            cleaning(500, None, 0.5),
            "0.5",
            some,
            4_200_000,
            {"first_order": 2_500, "values": 2_100_000},
            rate=1.0,
            seeds=SEEDS[:1],
        ),
        "decay": Part({"": tasks.decay()}, "", without("mixed"), 400_000, {"first_order": 4_000}),
        "augmentation": Part(
            {"": tasks.augmentation()}, "", without("first_order", "values"), 6_000
        ),
    }


def measure(chosen: dict[str, Part]) -> dict[str, Any]:
    """The content of the JSON file."""
    rows, references = [], []
    tuning_seed = tuning.tuning_seeds()[0]
    for name, part in chosen.items():
        data = {
            setting: {seed: task.data(seed) for seed in part.seeds}
            for setting, task in part.settings.items()
        }
        problem = part.settings[part.tuned].problem
        for setting, of_seeds in data.items():
            found = at_references(problem, list(of_seeds.values()))
            references += [{"task": name, "setting": setting} | row for row in found]
        for contender in tqdm(part.contenders, desc=name):
            runs = part.runs_of(contender)
            tuned = part.rate_of(runs, tuning_seed)
            for setting, of_seeds in data.items():
                row = runs.measure(of_seeds, tuned["learning_rate"])
                rows.append({"task": name, "setting": setting} | tuned | row)
    return {
        "environment": report.environment(),
        "seeds": list(SEEDS),
        "tuning_seeds": tuning.tuning_seeds(),
        "references": references,
        "rows": rows,
    }


def at_references(
    make: Callable[[Data], Bilevel], of_seeds: Sequence[Data]
) -> list[dict[str, Any]]:
    """Outer loss and accuracy at the start and at the x to compare with, from exact solutions."""

    @jax.jit
    def solved(data):
        problem = make(data)

        def best(tried):
            y = jax.lax.map(lambda x: solution(problem, x), tried)
            values = jax.vmap(problem.outer)(tried, y)
            return jnp.min(values), problem.accuracy(y[jnp.argmin(values)])

        candidates = {"start": problem.start[None]} | problem.references
        return {name: best(tried) for name, tried in candidates.items()}

    found = [jax.device_get(solved(data)) for data in of_seeds]
    return [
        {
            "label": name,
            "final": tuning.each(np.asarray([each[name][0] for each in found])),
            "test": tuning.each(np.asarray([each[name][1] for each in found])),
        }
        for name in sorted(found[0], key=lambda name: name != "start")
    ]


class Runs:
    """A contender on a task's problems, compiled once.

    A run takes steps until the next one might exceed the budget. Outer and accuracy are noted at
    the start and after each step, at the contender's own x and y, for free.

    Args:
      make: a problem from data.
      name: the contender's.
      budget: what a run may cost.
    """

    def __init__(self, make: Callable[[Data], Bilevel], name: str, budget: int):
        self.make, self.name, self.budget = make, name, budget
        self.contender = CONTENDERS[name]
        self.run = jax.jit(self._run)

    def num_steps(self, loop: Loop) -> int:
        """How many steps the budget pays for."""
        steps = int((self.budget - loop.first.sum()) // loop.cost.sum())
        if steps < 1:
            raise ValueError(f"budget must pay for a step of {self.name}, got {self.budget}.")
        return steps

    def _run(self, data, rate, seed):
        problem = self.make(data)
        loop = self.contender.loop(problem, rate)

        def noted(run):
            return problem.outer(run.x, run.y), problem.accuracy(run.y)

        def step(run, key):
            run = loop.step(run, key)
            return run, noted(run)

        keys = jax.random.split(jax.random.key(seed), self.num_steps(loop) + 1)
        start = loop.start(keys[0])
        _, after = jax.lax.scan(step, start, keys[1:])
        return jax.tree.map(lambda a, b: jnp.append(a, b), noted(start), after)

    def measure(self, of_seeds: dict[int, Data], rate: float) -> dict[str, Any]:
        """A row of what runs on these data give, by seed."""
        found = [self.run(data, np.float32(rate), seed) for seed, data in of_seeds.items()]
        values, tests = (np.stack(each).astype(float) for each in zip(*found, strict=True))
        loop = self.contender.loop(self.make(next(iter(of_seeds.values()))), rate)
        steps = self.num_steps(loop)
        spent = loop.first + steps * loop.cost
        return {
            "method": self.name,
            "label": self.contender.label,
            "access": self.contender.access,
            "steps": steps,
            "step_cost": dict(zip(KINDS, loop.cost.tolist(), strict=True)),
            "spent": dict(zip(KINDS, spent.tolist(), strict=True)),
            "diverged": int(np.sum(~np.isfinite(values[:, -1]))),
            "final": tuning.each(values[:, -1]),
            "test": tuning.each(tests[:, -1]),
            "curve": {
                "queries": [
                    int(q) for q in loop.first.sum() + np.arange(steps + 1) * loop.cost.sum()
                ],
                "outer": [[tuning.finite(v) for v in one] for one in values],
                "test": [[tuning.finite(v) for v in one] for one in tests],
            },
        }


def tune(runs: Runs, data: Data, seed: int) -> dict[str, Any]:
    """The learning rate with the least outer loss at the end, on a grid of half decades."""

    def attempt(exponents):
        rows = {}
        for i in exponents:
            rate = tuning.tidy(10 ** (i / 2))
            value = float(runs.run(data, np.float32(rate), seed)[0][-1])
            lost = not math.isfinite(value)
            rows[i] = {"rate": rate, "score": math.inf if lost else value, "diverged": int(lost)}
        return rows

    grid = Grid(attempt, "score")
    grid.grow(runs.make(data).scale, spacing=1, ahead=1)
    return {
        "learning_rate": grid.rows[grid.best]["rate"],
        "interior": grid.interior,
        "grid": [{**row, "score": tuning.finite(row["score"])} for row in grid.in_order],
    }
