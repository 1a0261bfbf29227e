"""All experiments, and how much of each."""

import dataclasses
from typing import Any

import jax

from benchmarks.common import report, tuning
from benchmarks.common.functions import FUNCTIONS
from benchmarks.papers import bias, bounds, contests, descent, moments, reinforce

STEEPNESS = (0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 1e3, 1e5)


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything."""

    shapes: tuple[tuple[int, int], ...]
    rounds: int
    curved_rounds: int
    dimensions: tuple[int, ...]
    moment_rounds: int
    reused: dict[str, Any]
    histories: tuple[int, ...]
    rates: tuple[float, ...]
    onset: dict[str, Any]
    floors: dict[str, Any]
    functions: tuple[str, ...]
    ablation: dict[str, int]
    policies: dict[str, int]
    bounds: dict[str, Any]


FULL = Size(
    shapes=((4, 3), (8, 8), (10, 40)),
    rounds=20_000,
    curved_rounds=2_000,
    dimensions=(50, 500, 5000),
    moment_rounds=1_000,
    reused={"dimension": 5_000, "histories": (1, 2, 5, 10, 20, 50), "rounds": 100},
    histories=(1, 2, 6, 20),
    rates=(3e-7, 1e-6, 1.8e-6, 3e-6, 5.6e-6, 1e-5, 1.8e-5, 3e-5),
    onset={"dimension": 100, "queries": 12_000, "num_directions": 3, "radius": 0.1, "seeds": 5},
    floors={"dimension": 100, "steps": 3_000, "rate": 0.05, "num_directions": 10, "seeds": 20},
    functions=tuple(FUNCTIONS),
    ablation={"dimension": 5_000, "budget": 10_000},
    policies={"dimension": 100, "budget": 30_000},
    bounds={"dimension": 50, "counts": (3, 30), "rounds": 1_000},
)
QUICK = Size(
    shapes=((4, 3), (10, 40)),
    rounds=4_000,
    curved_rounds=500,
    dimensions=(50,),
    moment_rounds=300,
    reused={"dimension": 500, "histories": (1, 5), "rounds": 20},
    histories=(1, 6, 20),
    rates=(1e-6, 3e-6, 1e-5),
    onset={"dimension": 100, "queries": 3_000, "num_directions": 3, "radius": 0.1, "seeds": 3},
    floors={"dimension": 100, "steps": 1_000, "rate": 0.05, "num_directions": 10, "seeds": 5},
    functions=("quadratic",),
    ablation={"dimension": 1_000, "budget": 2_000},
    policies={"dimension": 50, "budget": 5_000},
    bounds={"dimension": 50, "counts": (3,), "rounds": 100},
)


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    with jax.enable_x64(True):
        exact = {
            "descent": descent.rows(size.shapes, STEEPNESS, size.rounds),
            "derived": derived(size),
            "curved": descent.curved((0.5, 1.0, 1.5, 2.0), size.curved_rounds),
            "errors": moments.rows(size.dimensions, (3, 30), (0.1, 1.0), size.moment_rounds),
            "reused": moments.reused(steps=(1e-4, 1e-1, 1.0), **size.reused),
            "identity": moments.without_identity((-2.0, -1.0, 0.0, 1.0, 2.0), 20 * size.rounds),
            "reinforce": reinforce.curves(
                bias.PROBLEM, 20, 400, 1e-5, num_directions=8, radius=0.1
            ),
            "onset": bias.onset(histories=size.histories, rates=size.rates, **size.onset),
            "floors": bias.floors(radii=(1e-3, 1e-2, 1e-1, 1.0), **size.floors),
            "policies": contests.policies(condition=1e3, **size.policies),
        }
    return {
        "environment": report.environment(),
        "settings": contests.facts(),
        "seeds": list(tuning.SEEDS),
        "tuning_seeds": tuning.tuning_seeds(),
        **exact,
        "onset_size": size.onset,
        "floors_size": size.floors,
        "ablation": contests.ablation(functions=size.functions, **size.ablation),
        "sizes": {"ablation": size.ablation, "policies": size.policies},
        **of_bounds(size),
    }


def of_bounds(size: Size) -> dict[str, Any]:
    """The part about ZoVH's error bounds."""
    with jax.enable_x64(True):
        return {"bounds": bounds.rows(**size.bounds), "bounds_size": size.bounds}


def derived(size: Size) -> list[dict[str, Any]]:
    """The guarded product's factor by our derivation, for the picture's lines."""
    return [
        {
            "num_directions": n,
            "dimension": d,
            "steepness": steep,
            "factor": descent.along_one(steep, n, d, 4 * size.rounds),
        }
        for n, d in size.shapes
        for steep in STEEPNESS
    ]
