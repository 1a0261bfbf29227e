"""Runs of every method on every function, in parts."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
from tqdm import tqdm

from benchmarks.blackbox.contenders import LABELS, evaluations, parallel, runner
from benchmarks.blackbox.functions import MOST, NAMES, NOISES, TARGETS, Race
from benchmarks.blackbox.published import best_2009
from benchmarks.common import report

MANY = "quasi_newton", "low_rank_newton", "diagonal_newton", "scalar_newton"
LINEAR = *MANY, "sep_cma", "vd_cma", "l_bfgs"
"""Methods whose memory and time grow as the dimension does: the others have at most `MOST`."""
SMALL = tuple(name for name in LABELS if name not in ("sep_cma", "vd_cma"))
SMOOTH = 1, 2, 5, 8, 9, 10, 11, 12, 14
FUNCTIONS = {40: SMOOTH, 160: SMOOTH, 640: (1, 2, 8, 12)}
"""Where not all functions are run: of those with many valleys little is to be had there."""
NOISY = 1, 2, 8, 10, 11, 12, 14
"""The functions with noise."""
SHARES = {"cobyqa": 0.2}
"""The share of the budget that slow methods get."""
SHORT = {160: 0.6, 640: 0.2}
"""The share of it in dimensions that take long."""
NOISE = 0.4
"""The share of it with noise, which ends progress."""
FAST = dict.fromkeys(("cma", "l_bfgs"), 15)
FEW = {
    dimension: dict.fromkeys((name for name in SMALL if name not in ("spsa", "openai_es")), count)
    for dimension, count in ((5, 5), (20, 2))
}
INSTANCES: dict[str, dict[int, dict[str, int]]] = {
    "none": {
        5: dict.fromkeys(SMALL, 5) | FAST | {"model_newton": 15, "cobyqa": 15},
        10: FAST | {"model_newton": 15, "cobyqa": 5, "newuoa": 5, "spsa": 5, "openai_es": 5},
        20: dict.fromkeys(SMALL, 3) | FAST | {"model_newton": 5},
        40: dict.fromkeys(("cma", "l_bfgs"), 5)
        | dict.fromkeys((*MANY, "newuoa"), 2)
        | {"model_newton": 1},
        160: dict.fromkeys(LINEAR, 1),
        640: dict.fromkeys(LINEAR, 1),
    },
    "stochastic": FEW,
    "deterministic": FEW,
}
"""How many instances each method gets, by noise and dimension: what two cores do in some hours."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run.

    Attributes:
      dimensions, functions, methods, noises: which.
      budget: evaluations a dimension, of which the shares above are taken.
      instances: how many; None for `INSTANCES`.
    """

    dimensions: tuple[int, ...]
    functions: tuple[int, ...]
    budget: int
    instances: int | None = None
    methods: tuple[str, ...] = tuple(LABELS)
    noises: tuple[str, ...] = ("none",)

    def count(self, noise: str, dimension: int, method: str) -> int:
        """The number of instances of a method."""
        if dimension > MOST and method not in LINEAR:
            return 0
        return self.instances or INSTANCES[noise].get(dimension, {}).get(method, 0)

    def numbers(self, noise: str, dimension: int) -> list[int]:
        """Those of the functions."""
        there = FUNCTIONS.get(dimension, tuple(NAMES))
        return [n for n in self.functions if n in (there if noise == "none" else NOISY)]

    def evaluations(self, noise: str, dimension: int, method: str) -> int:
        """The budget of a run."""
        share = SHARES.get(method, 1) * SHORT.get(dimension, 1) * (1 if noise == "none" else NOISE)
        return round(self.budget * dimension * share)


FULL = Size(tuple(INSTANCES["none"]), tuple(NAMES), 500, noises=NOISES)
QUICK = Size((5,), (1, 2, 8, 10), 200, 2)

Result = dict[str, Any]


def measure(
    size: Size, earlier: Result | None = None, save: Callable[[Result], None] = lambda _: None
) -> Result:
    """The content of the JSON file: the earlier one, and what is missing in it.

    Args:
      size: what there shall be.
      earlier: rows that need not be run again; those of other budgets are left out.
      save: called with the result after every row that was run.
    """
    found = {
        key(row): row
        for row in (earlier or {"rows": []})["rows"]
        if row["budget"] == size.evaluations(*place(row))
    }
    result = {
        "environment": report.environment(),
        "setting": {"targets": [float(f"{target:.3g}") for target in TARGETS]},
        "published": (earlier or {}).get("published", []),
        "rows": [],
    }
    with double_precision():
        wanted = [
            empty(noise, dimension, number, method, size)
            for noise in size.noises
            for dimension in size.dimensions
            for method in size.methods
            for number in size.numbers(noise, dimension)
        ]
        for row in tqdm(wanted):
            row = {**row, "instances": found.get(key(row), row)["instances"]}
            last = size.count(*place(row))
            missing = range(len(row["instances"]) + 1, last + 1)
            found[key(row)] = row
            row["instances"] = row["instances"] + [run(row, instance) for instance in missing]
            result["rows"] = in_order(found.values())
            if missing:
                save(result)
    result["published"] = published(result)
    return result


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """For all threads: calls back come from others, where `jax.enable_x64` does not hold."""
    before = jax.config.read("jax_enable_x64")
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


def empty(noise: str, dimension: int, number: int, method: str, size: Size) -> dict[str, Any]:
    """A row without runs."""
    return {
        "noise": noise,
        "dimension": dimension,
        "number": number,
        "function": NAMES[number],
        "method": method,
        "label": LABELS[method],
        "parallel": parallel(method, dimension),
        "budget": size.evaluations(noise, dimension, method),
        "instances": [],
    }


def place(row: dict[str, Any]) -> tuple[str, int, str]:
    """What budgets and numbers of instances depend on."""
    return row["noise"], row["dimension"], row["method"]


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same."""
    return *place(row), row["number"]


def others(rows: list[dict[str, Any]], size: Size) -> list[dict[str, Any]]:
    """The rows that are not of this size."""
    return [
        row
        for row in rows
        if row["noise"] not in size.noises
        or row["dimension"] not in size.dimensions
        or row["number"] not in size.functions
        or row["method"] not in size.methods
    ]


def in_order(rows: Any) -> list[dict[str, Any]]:
    """Rows by noise, dimension, function and method."""
    methods = list(LABELS)
    return sorted(
        (row for row in rows if row["instances"]),
        key=lambda row: (
            NOISES.index(row["noise"]),
            row["dimension"],
            row["number"],
            methods.index(row["method"]),
        ),
    )


def run(row: dict[str, Any], instance: int) -> list[int | None]:
    """The evaluations to every target, None where it was not reached."""
    race = Race(row["number"], row["dimension"], instance, row["budget"], row["noise"])
    seed = instance
    while True:
        runner(row["method"], row["dimension"])(race, seed)
        if race.over:
            return evaluations(race)
        race.restart()
        seed += 100


def published(result: Result) -> list[dict[str, Any]]:
    """What is published for the functions of the result, if it can be had."""
    earlier = {(row["dimension"], row["number"]): row for row in result["published"]}
    places = dict.fromkeys((row["dimension"], row["number"]) for row in result["rows"])
    for dimension, number in places:
        counts = best_2009(number, dimension)
        if counts is not None:
            earlier[dimension, number] = {
                "dimension": dimension,
                "number": number,
                "evaluations": counts,
            }
    return [earlier[place] for place in places if place in earlier]
