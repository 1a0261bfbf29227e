"""Errors of averaged estimates: on functions and layers, with one thing varied at a time."""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import report, victim
from benchmarks.common.functions import FUNCTIONS
from benchmarks.hessian_error import bias, interpolation, layers, trajectories
from benchmarks.hessian_error.measure import (
    LABELS,
    METHODS,
    errors,
    in_the_ball,
    inverse_gap,
    locate,
    quartiles,
)
from benchmarks.hessian_error.place import Place
from benchmarks.hessian_error.tables import pick, slopes

NUM_DIRECTIONS, ROUNDS, RADIUS, STEP, DAMPING, BATCH = 3, 5, 0.1, 1e-4, 0.1, 16
PROBLEMS: dict[str, zo.problems.Problem] = {
    "quadratic": zo.problems.quadratic(
        10.0, rotated=True, key=jax.random.key(27), spectrum="linear"
    ),
    "rosenbrock": zo.problems.rosenbrock(),
    "styblinski_tang": zo.problems.styblinski_tang(),
}
INTERPOLATED = PROBLEMS | {name: FUNCTIONS[name] for name in ("levy", "ackley")}
LAYER_RADII = (0.5, 0.01)


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything."""

    functions: tuple[str, ...]
    dimension: int
    seeds: int
    sweep_seeds: int
    counts: tuple[int, ...]
    dimensions: tuple[int, ...]
    radii: tuple[float, ...]
    steps: tuple[float, ...]
    bias_directions: int
    inverse_dimensions: tuple[int, ...]
    inverse_counts: tuple[int, ...]
    interpolation: interpolation.Size
    trajectories: trajectories.Size


QUICK = Size(
    functions=tuple(PROBLEMS),
    dimension=500,
    seeds=5,
    sweep_seeds=3,
    counts=(3, 30),
    dimensions=(50, 500),
    radii=(1e-2, 1e-1, 1.0),
    steps=(1e-4, 1.0),
    bias_directions=512,
    inverse_dimensions=(30, 300, 3000),
    inverse_counts=(3,),
    interpolation=interpolation.QUICK,
    trajectories=trajectories.QUICK,
)
FULL = Size(
    functions=tuple(PROBLEMS),
    dimension=5000,
    seeds=20,
    sweep_seeds=10,
    counts=(3, 30, 100),
    dimensions=(50, 500, 5000, 20_000),
    radii=(1e-3, 1e-2, 1e-1, 1.0, 10.0),
    steps=(1e-4, 1e-2, 1.0, 10.0),
    bias_directions=4096,
    inverse_dimensions=(30, 300, 3000, 30_000),
    inverse_counts=(3, 15),
    interpolation=interpolation.FULL,
    trajectories=trajectories.Size(),
)


def measure(size: Size, folder: Path, settings: victim.Settings = victim.Settings()) -> dict:
    """The content of the JSON file, with the network of these settings."""
    with jax.enable_x64(True):
        losses = layers.load(folder, settings, BATCH, jnp.float32)
        rows = synthetic_errors(size) + layer_errors(size, losses)
        biases = bias.rows(PROBLEMS, size.bias_directions)
        inverses = measure_inverses(size)
        along = trajectories.measure(size.trajectories, PROBLEMS, settings)
    return {
        "environment": report.environment(),
        "settings": {
            "dimension": size.dimension,
            "num_directions": NUM_DIRECTIONS,
            "rounds": ROUNDS,
            "radius": RADIUS,
            "step": STEP,
            "damping": DAMPING,
            "seeds": size.seeds,
            "sweep_seeds": size.sweep_seeds,
            "batch": BATCH,
        },
        "labels": LABELS,
        "errors": rows,
        "bias": biases,
        "inverses": inverses,
        "slopes": slopes(rows, biases, inverses),
        "interpolation": measure_interpolation(size, losses),
        "trajectories": along,
    }


def measure_interpolation(size: Size, losses: dict[str, Any]) -> dict[str, Any]:
    """The part that compares the interpolated estimators, from pairs at one point."""
    problems = {name: INTERPOLATED[name] for name in size.interpolation.functions}
    return interpolation.measure(size.interpolation, problems, losses, RADIUS)


class Averaged(Place):
    """A place with a short descent, at whose end averaged estimates are compared."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.locate = self.compiled(functools.partial(locate, count=ROUNDS))
        self.errors = self.compiled(
            functools.partial(errors, evaluate=self.evaluate), static_argnames="counts"
        )
        self.found: dict[Any, Any] = {}

    def end(self, seed: int, step: float) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        """A key for the directions; the path and the exact Hessian at its end."""
        from_key, key = jax.random.split(jax.random.key(seed))
        theta = self.start(from_key)
        where = (seed if self.constant else 0, step)
        if where not in self.found:
            self.found = {where: self.locate(self.objective, theta, step)}
        return key, self.found[where]

    def rows(
        self,
        sweeps: dict[str, dict[str, int]],
        seeds: int,
        radius: float = RADIUS,
        step: float = STEP,
    ) -> list[dict[str, Any]]:
        """A row for each method of each sweep (its directions): quartiles over seeds."""
        counts = tuple(sorted({pair for sweep in sweeps.values() for pair in sweep.items()}))
        outcomes = []
        for seed in range(seeds):
            key, (path, exact) = self.end(seed, step)
            outcome = self.errors(self.objective, path, exact, key, radius, counts=counts)
            outcomes.append({which: float(error) for which, error in outcome.items()})
        return [
            {
                "sweep": sweep,
                "problem": self.name,
                "dimension": path.shape[1],
                "method": name,
                "num_directions": own.get(name, 0),
                "queries": METHODS[name].cost(own[name]) if name in own else 0,
                "radius": radius,
                "step": step,
                **quartiles([outcome[name, own.get(name, 0)] for outcome in outcomes]),
            }
            for sweep, own in sweeps.items()
            for name in LABELS
        ]


def alike(num_directions: int) -> dict[str, int]:
    """The same number of directions for every method."""
    return dict.fromkeys(METHODS, num_directions)


def synthetic_errors(size: Size) -> list[dict[str, Any]]:
    """The rows of the functions: at equal directions and queries, then one thing varied."""
    few, d = size.sweep_seeds, size.dimension
    both = {"directions": alike(NUM_DIRECTIONS), "queries": paid_by(NUM_DIRECTIONS)}
    rows = []
    for name in tqdm(size.functions, desc="synthetic functions"):
        problem = PROBLEMS[name]
        place = Averaged(name, problem, in_the_ball(d))

        def vary(sweep, place=place, count=NUM_DIRECTIONS, **options):
            # The other sweeps come along and are dropped: then one compilation serves all.
            others = both if count == NUM_DIRECTIONS else {}
            return pick(place.rows({**others, sweep: alike(count)}, few, **options), sweep=sweep)

        rows += place.rows(both, size.seeds)
        for radius in size.radii:
            rows += vary("radius", radius=radius)
        for step in size.steps:
            rows += vary("step", step=step)
        for count in size.counts:
            rows += vary("count", count=count)
        for dimension in size.dimensions:
            there = place if dimension == d else Averaged(name, problem, in_the_ball(dimension))
            rows += vary("dimension", there)
    return rows


def layer_errors(size: Size, losses: dict[str, layers.LayerLoss]) -> list[dict[str, Any]]:
    """The rows of the network's layers."""
    both = {"directions": alike(NUM_DIRECTIONS), "queries": paid_by(NUM_DIRECTIONS)}
    rows = []
    for name, loss in tqdm(losses.items(), desc="layers of the network"):
        # One direction at a time: a batch of kernels makes slow convolutions on a CPU.
        one = zo.evaluators.chunked(1)
        place = Averaged(name, loss, lambda key, loss=loss: loss.weights, one)
        for radius in LAYER_RADII:
            rows += place.rows(both, size.sweep_seeds, radius=radius)
    return rows


def paid_by(queries: int) -> dict[str, int]:
    """Directions of each method for that many queries."""
    return {name: method.directions(queries) for name, method in METHODS.items()}


def measure_inverses(size: Size) -> list[dict[str, Any]]:
    """Distances between two inverses, medians over seeds, by dimension and directions."""
    problem = PROBLEMS["quadratic"]
    rows = []
    for d in tqdm(size.inverse_dimensions, desc="inverses"):
        for count in size.inverse_counts:
            compiled = jax.jit(functools.partial(inverse_gap, problem, num_directions=count))
            keys = [jax.random.split(jax.random.key(seed)) for seed in range(size.seeds)]
            found = [compiled(in_the_ball(d)(a), b, RADIUS, DAMPING) for a, b in keys]
            medians = {name: float(np.median([gap[name] for gap in found])) for name in found[0]}
            rows.append({"dimension": d, "num_directions": count, **medians})
    return rows
