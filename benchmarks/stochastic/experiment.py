"""The parts of the case: which problems, which methods, how many queries; and the runs."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from benchmarks.common import report, tuning
from benchmarks.common.evolution import RIVALS
from benchmarks.common.methods import Setting
from benchmarks.common.tuning import SEEDS
from benchmarks.stochastic.contenders import CONTENDERS, FIXED, KINDS, kind_of
from benchmarks.stochastic.inventory import inventory
from benchmarks.stochastic.policies import cartpole, pendulum
from benchmarks.stochastic.problem import ALL, Problem, independent
from benchmarks.stochastic.supervised import breast_cancer, cnn, digits, least_squares, mnist

Batched = tuple[Callable[[int], Problem], tuple[int, ...]]
"""A problem from its largest batch size, and all its batch sizes, `ALL` among them."""
EVERY = tuple(CONTENDERS)
NO_RATE = tuple(KINDS["no learning rate"])
SUPERVISED = Setting(num_directions=8, radius=1e-2)
STOCK = Setting(num_directions=8, radius=0.1)
GAME = Setting(num_directions=16, radius=0.1)
MORE_SEEDS, MANY_SEEDS = tuple(range(6)), tuple(range(8))
"""Where a run's end depends on its seed as much as on the method."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Problems that are run with the same settings.

    Attributes:
      problems: each is made when its turn comes.
      methods: names of contenders.
      budget: queries of a run.
      setting: of the tuned methods, and of the others but for the radius.
      first_radius: of the methods that change it as they go.
      num_tuning_seeds: how many runs a learning rate is judged by.
      seeds: of the reported runs.
      bounded: whether a run may end anywhere, as the returns of a game are never far off; else one
        that ends above twice its start has diverged.
      checkpoints: how many values of a run are noted.
    """

    problems: tuple[Batched, ...]
    methods: tuple[str, ...]
    budget: int
    setting: Setting = SUPERVISED
    first_radius: float = 0.1
    num_tuning_seeds: int = 3
    seeds: tuple[int, ...] = SEEDS
    bounded: bool = False
    checkpoints: int = 10

    def setting_of(self, name: str) -> Setting:
        """The setting of a method."""
        fixed = CONTENDERS[name].tuned or name in FIXED
        radius = self.setting.radius if fixed else self.first_radius
        return dataclasses.replace(self.setting, radius=radius)

    def __len__(self) -> int:
        """How many rows there will be."""
        return len(self.methods) * sum(len(sizes) for _, sizes in self.problems)


def squares(dimension: int, *sizes: int) -> Batched:
    """Least squares in this dimension."""
    return functools.partial(least_squares, dimension=dimension), sizes


def apart(size: int) -> Problem:
    """The inventory with histories of its own for each query."""
    return independent(inventory(size))


NETWORK = ("zo_sgd", "zoar", "mezo", "zo_adam", "fzoo", *NO_RATE, "adam")
"""A choice of the tuned methods where a query takes long."""
PLAYERS = (
    *("zo_sgd", "zoar", "mezo", "zo_adam", "fzoo"),
    *RIVALS,
    *NO_RATE,
)
"""Likewise in games."""

FULL = {
    "least_squares": Part(
        (
            squares(20, 1, 16, 64, ALL),
            squares(100, 1, 8, 64, ALL),
            squares(300, 16),
            squares(1000, 1, 16, 64),
        ),
        EVERY,
        4_800,
        seeds=MANY_SEEDS,
    ),
    "regressions": Part(((breast_cancer, (1, 16, ALL)), (digits, (1, 16, ALL))), EVERY, 4_800),
    "mnist": Part(((mnist, (1, 16, ALL)),), NETWORK, 1_200, num_tuning_seeds=1),
    "cnn": Part(
        ((functools.partial(cnn, channels=(4, 8), hidden=32, pooled=2), (64,)),),
        NETWORK,
        20_000,
        num_tuning_seeds=1,
        seeds=MORE_SEEDS,
    ),
    "inventory": Part(
        ((inventory, (1, 16)), (apart, (1, 16))), NETWORK[:-1], 2_400, STOCK, num_tuning_seeds=1
    ),
    "pendulum": Part(((pendulum, (8,)),), PLAYERS, 5_100, GAME, seeds=MANY_SEEDS, bounded=True),
    "cartpole": Part(((cartpole, (8,)),), PLAYERS, 1_700, GAME, seeds=MANY_SEEDS, bounded=True),
}


def pendulum_from(radius: float) -> Part:
    """The part with Pendulum in which all methods look so far."""

    def problem(size: int) -> Problem:
        return dataclasses.replace(pendulum(size), name=f"Pendulum, μ = {radius:g}")

    return dataclasses.replace(
        FULL["pendulum"],
        problems=((problem, (8,)),),
        setting=dataclasses.replace(GAME, radius=radius),
        first_radius=radius,
    )


FULL |= {"pendulum_one": pendulum_from(1.0), "pendulum_three": pendulum_from(3.0)}
FEW = ("zo_sgd", "zoar", "fzoo", "poem", "scalar_newton")
QUICK = {
    "least_squares": Part((squares(20, 1, 64), squares(100, 8)), (*FEW, "adam"), 2_400),
    "regressions": Part(((breast_cancer, (16, ALL)),), (*FEW, "adam"), 2_400),
    "inventory": Part(((inventory, (1,)), (apart, (1,))), ("zoar", "scalar_newton"), 1_200, STOCK),
    "pendulum": Part(
        ((pendulum, (8,)),), ("zoar", "openai_es", "scalar_newton"), 850, GAME, bounded=True
    ),
}


Result = dict[str, Any]


def chosen(
    parts: dict[str, Part], only: Sequence[str] | None, methods: Sequence[str] | None
) -> dict[str, Part]:
    """Some of the parts, with some of their methods; all of them for None or an empty list."""
    some = {
        name: dataclasses.replace(
            part, methods=tuple(m for m in part.methods if m in (methods or part.methods))
        )
        for name, part in parts.items()
        if name in (only or parts)
    }
    return {name: part for name, part in some.items() if part.methods}


def measure(parts: dict[str, Part], earlier: Result | None = None) -> Result:
    """The content of the JSON file: the earlier one, with these parts' rows anew."""
    old = earlier["parts"] if earlier else {}
    with tqdm(total=sum(map(len, parts.values()))) as bar:
        new = {name: on_part(part, bar) for name, part in parts.items()}
    measured = old | {name: merged(part, old.get(name)) for name, part in new.items()}
    ordered = {name: measured[name] for name in FULL if name in measured}
    return {"environment": report.environment(), "parts": ordered}


def merged(new: Result, old: Result | None) -> Result:
    """A part with the earlier rows of other methods, if their settings are the same."""
    if not old or any(old[name] != new[name] for name in new if name != "rows"):
        return new
    rows = {key(row): row for row in old["rows"]} | {key(row): row for row in new["rows"]}
    problems = list(dict.fromkeys(problem for problem, *_ in rows))
    return new | {
        "rows": sorted(
            rows.values(),
            key=lambda row: (problems.index(row["problem"]), EVERY.index(row["method"])),
        )
    }


def key(row: dict[str, Any]) -> tuple[str, ...]:
    """What makes two rows the same."""
    return row["problem"], row["batch"], row["method"]


def on_part(part: Part, bar: Any) -> Result:
    """The settings of a part, and a row for each problem, batch size and method."""
    rows = []
    for make, sizes in part.problems:
        problem = make(max(sizes) or 1)
        task = task_of(problem, part)
        for name in part.methods:
            bar.set_description(f"{problem.name}: {CONTENDERS[name].label}")
            trial = tuning.Trial(CONTENDERS[name], part.setting_of(name), task)
            for size in sizes:
                row = {
                    "problem": problem.name,
                    "batch": f"batch {size}" if size else "all",
                    "dimension": task.dimension,
                    "method": name,
                    "kind": kind_of(name),
                }
                measured = trial.measure(
                    part.seeds, level=size, num_tuning_seeds=part.num_tuning_seeds
                )
                rows.append(row | measured)
                bar.update()
    return {
        "budget": part.budget,
        "setting": dataclasses.asdict(part.setting),
        "first_radius": part.first_radius,
        "seeds": list(part.seeds),
        "tuning_seeds": tuning.tuning_seeds(part.num_tuning_seeds),
        "rows": rows,
    }


def task_of(problem: Problem, part: Part) -> tuning.Task:
    """The task of minimising a problem by batches, new in every step; the level is their size."""
    return tuning.Task(
        query=lambda x, key, spent, level: problem.batch(key, level.astype(jnp.int32))(x),
        measure=lambda x, spent, level: problem.full(x),
        start=problem.start,
        dimension=problem.dimension,
        curvature=problem.curvature,
        budget=part.budget,
        checkpoints=part.checkpoints,
        worst=lambda first, level: np.inf if part.bounded else 2 * first,
        test=problem.test,
    )
