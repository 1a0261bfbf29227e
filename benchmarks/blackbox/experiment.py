"""Runs of every method on every function."""

import dataclasses
from typing import Any

import jax
from tqdm import tqdm

from benchmarks.blackbox.contenders import LABELS, evaluations, num_directions, runner
from benchmarks.blackbox.functions import NAMES, TARGETS, Race
from benchmarks.common import report

SHARES = {"cobyqa": 0.2}
"""The share of the budget that slow methods get."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run; ``budget`` is in evaluations a dimension."""

    dimensions: tuple[int, ...]
    functions: tuple[int, ...]
    instances: int
    budget: int
    methods: tuple[str, ...] = tuple(LABELS)


FULL = Size((20,), (1, 2, 5, 6, 8, 9, 10, 11, 12, 13, 14, 3, 15, 17, 21), 3, 500)
QUICK = Size((5,), (1, 2, 8, 10), 2, 200)


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    with jax.enable_x64(True):
        dimensions = [of_dimension(dimension, size) for dimension in size.dimensions]
    return {
        "environment": report.environment(),
        "setting": {
            "instances": size.instances,
            "targets": [float(f"{target:.3g}") for target in TARGETS],
        },
        "dimensions": dimensions,
    }


def of_dimension(dimension: int, size: Size) -> dict[str, Any]:
    """All runs in one dimension."""
    budget = size.budget * dimension
    pairs = [(number, name) for number in size.functions for name in size.methods]
    rows = []
    for number, name in tqdm(pairs, desc=f"d = {dimension}"):
        limit = round(budget * SHARES.get(name, 1))
        found = []
        for instance in range(1, size.instances + 1):
            race = Race(number, dimension, instance, limit)
            runner(name, dimension)(race, instance)
            found.append(evaluations(race))
        rows.append(
            {
                "function": NAMES[number],
                "number": number,
                "method": name,
                "label": LABELS[name],
                "budget": limit,
                "instances": found,
            }
        )
    return {
        "dimension": dimension,
        "num_directions": num_directions(dimension),
        "budget": budget,
        "rows": rows,
    }
