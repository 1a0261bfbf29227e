"""Runs of every method on every function, in parts."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
from tqdm import tqdm

from benchmarks.blackbox.contenders import LABELS, evaluations, parallel, runner
from benchmarks.blackbox.functions import NAMES, TARGETS, Race
from benchmarks.blackbox.published import best_2009
from benchmarks.common import report

SHARES = {"cobyqa": 0.2}
"""The share of the budget that slow methods get."""


FAST = dict.fromkeys(("cma", "l_bfgs"), 15)
INSTANCES = {
    5: dict.fromkeys(LABELS, 5) | FAST | {"model_newton": 15, "cobyqa": 15},
    10: FAST | {"model_newton": 15, "cobyqa": 5, "spsa": 5, "openai_es": 5},
    20: dict.fromkeys(LABELS, 3) | FAST | {"model_newton": 5},
}
"""How many instances of a dimension each method gets: what two cores do in some hours."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run.

    Attributes:
      dimensions, functions, methods: which.
      budget: evaluations a dimension.
      instances: how many; None for `INSTANCES`.
    """

    dimensions: tuple[int, ...]
    functions: tuple[int, ...]
    budget: int
    instances: int | None = None
    methods: tuple[str, ...] = tuple(LABELS)

    def count(self, dimension: int, method: str) -> int:
        """The number of instances of a method."""
        return self.instances or INSTANCES.get(dimension, {}).get(method, 0)

    def evaluations(self, dimension: int, method: str) -> int:
        """The budget of a run."""
        return round(self.budget * dimension * SHARES.get(method, 1))


FULL = Size((5, 10, 20), tuple(NAMES), 500)
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
        if row["budget"] == size.evaluations(row["dimension"], row["method"])
    }
    result = {
        "environment": report.environment(),
        "setting": {"targets": [float(f"{target:.3g}") for target in TARGETS]},
        "published": (earlier or {}).get("published", []),
        "rows": [],
    }
    with double_precision():
        wanted = [
            empty(dimension, number, method, size)
            for dimension in size.dimensions
            for method in size.methods
            for number in size.functions
        ]
        for row in tqdm(wanted):
            row = {**row, "instances": found.get(key(row), row)["instances"]}
            last = size.count(row["dimension"], row["method"])
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


def empty(dimension: int, number: int, method: str, size: Size) -> dict[str, Any]:
    """A row without runs."""
    return {
        "dimension": dimension,
        "number": number,
        "function": NAMES[number],
        "method": method,
        "label": LABELS[method],
        "parallel": parallel(method, dimension),
        "budget": size.evaluations(dimension, method),
        "instances": [],
    }


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What makes two rows the same."""
    return tuple(row[name] for name in ("dimension", "number", "method"))


def others(rows: list[dict[str, Any]], size: Size) -> list[dict[str, Any]]:
    """The rows that are not of this size."""
    return [
        row
        for row in rows
        if row["dimension"] not in size.dimensions
        or row["number"] not in size.functions
        or row["method"] not in size.methods
    ]


def in_order(rows: Any) -> list[dict[str, Any]]:
    """Rows by dimension, function and method."""
    methods = list(LABELS)
    return sorted(
        (row for row in rows if row["instances"]),
        key=lambda row: (row["dimension"], row["number"], methods.index(row["method"])),
    )


def run(row: dict[str, Any], instance: int) -> list[int | None]:
    """The evaluations to every target, None where it was not reached."""
    race = Race(row["number"], row["dimension"], instance, row["budget"])
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
