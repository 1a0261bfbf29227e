"""How far Hessian estimates from values are from the Hessian: Fig. 2 to 5 of the ZoVH paper.

Errors are ‖Ĥ − H‖_F/‖H‖_F with exact H, in double precision, without a d×d array
(`benchmarks.hessian_measure`); the zero matrix scores 1. The setting is the paper's: K = 3,
μ = 0.1, a start uniform in a ball of radius √(2d) (100 at d = 5000), then four steps of 10⁻⁴ down
the normalised gradient. Every method is measured at the last point; ZoVH with reuse keeps its
rounds from the points before, with the values as they were there. The quadratic is rotated, with
eigenvalues evenly from 1 to 10. Then kernels of the trained MNIST network
(`benchmarks.hessian_layers`), on a batch of held-out digits, at the paper's μ = 0.5 and at 0.01.

Then the interpolated estimators, with pairs from one point (`benchmarks.hessian_interpolation`).

DIR/hessian-error.json:
  environment  versions and machine
  settings     dimension, num_directions (K), rounds (N), radius (μ), step, damping (λ), seeds,
               sweep_seeds, batch (digits)
  labels       of the methods
  errors       {sweep, problem, dimension, method, num_directions (of a round), queries (of a
               round, the centre included), radius, step, median, q25, q75 (over seeds)}; sweep:
                 directions   K for every method
                 queries      as many directions as that many queries pay for, with fewer queries
                              left over than a direction costs
                 dimension, radius, step    K as above, that one varied
                 count        K varied
  bias         {problem, dimension, radius, relative (‖E Ĥ − H‖/‖H‖), closed_form (or null)}
  inverses     {dimension, num_directions, of_correction, of_inverse}: medians over seeds of the
               distance between the exact and the Gram-diagonal inverse of the same estimate, on
               the quadratic, relative to (Ĥ+λI)⁻¹ − I/λ and to (Ĥ+λI)⁻¹
  slopes       {of, problem, against, slope, claimed}: least squares on logarithms; claimed by
               the paper, or null
  interpolation  {environment, settings, labels, directions (labels), errors, noise, exact, newton}:
                 `benchmarks.hessian_interpolation`; --part interpolation renews it alone
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks import (
    hessian_bias,
    hessian_error_tables,
    hessian_interpolation,
    hessian_interpolation_tables,
    hessian_layers,
    report,
    victim,
)
from benchmarks.hessian_error_tables import pick, slopes
from benchmarks.hessian_measure import (
    LABELS,
    METHODS,
    errors,
    in_the_ball,
    inverse_gap,
    locate,
    quartiles,
)

HERE = Path(__file__).parent
NUM_DIRECTIONS, ROUNDS, RADIUS, STEP, DAMPING, BATCH = 3, 5, 0.1, 1e-4, 0.1, 16
PROBLEMS = {
    "quadratic": zo.problems.quadratic(
        10.0, rotated=True, key=jax.random.key(27), spectrum="linear"
    ),
    "rosenbrock": zo.problems.rosenbrock(),
    "styblinski_tang": zo.problems.styblinski_tang(),
}
INTERPOLATED = PROBLEMS | {"levy": zo.problems.levy(), "ackley": zo.problems.ackley()}
LAYER_RADII = (0.5, 0.01)


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything."""

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
    interpolation: hessian_interpolation.Size


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
    interpolation=hessian_interpolation.QUICK,
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
    interpolation=hessian_interpolation.FULL,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--cache", type=Path, default=HERE.parent / ".cache", help="where the network is kept"
    )
    parser.add_argument(
        "--part",
        choices=("all", "interpolation"),
        default="all",
        help="interpolation: renew that part of DIR/hessian-error.json and keep the rest",
    )


def run(args: argparse.Namespace) -> None:
    size = FULL if args.full else QUICK
    path = args.out / "hessian-error.json"
    if args.part == "interpolation":
        result = json.loads(path.read_text())
        with jax.enable_x64(True):
            layers = hessian_layers.load(args.cache, victim.Settings(), BATCH, jnp.float32)
        result["interpolation"] = measure_interpolation(size, layers)
    else:
        result = measure(size, args.cache)
    report.write_json(path, result)
    print()
    for name, text in tables(result).items():
        print(f"{name.replace('_', ' ')}\n\n{text}\n")
    from benchmarks import hessian_error_plot, hessian_interpolation_plot

    hessian_error_plot.save(path.with_suffix(".png"), result)
    picture = args.out / "hessian-interpolation.png"
    hessian_interpolation_plot.save(picture, result["interpolation"])
    print(f"Numbers: {path}")
    print(f"Pictures: {path.with_suffix('.png')}, {picture}")


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of a result, by name."""
    more = hessian_interpolation_tables.tables(result["interpolation"])
    return hessian_error_tables.tables(result) | more


def measure(size: Size, cache: Path, settings: victim.Settings = victim.Settings()) -> dict:
    """Everything; the content of the JSON file, with the network of these settings."""
    with jax.enable_x64(True):
        layers = hessian_layers.load(cache, settings, BATCH, jnp.float32)
        rows = synthetic_errors(size) + layer_errors(size, layers)
        biases = hessian_bias.rows(PROBLEMS, size.bias_directions)
        inverses = measure_inverses(size)
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
        "interpolation": measure_interpolation(size, layers),
    }


def measure_interpolation(size: Size, layers: dict[str, Any]) -> dict[str, Any]:
    """The part that compares the interpolated estimators, from pairs at one point."""
    problems = {name: INTERPOLATED[name] for name in size.interpolation.functions}
    return hessian_interpolation.measure(size.interpolation, problems, layers, RADIUS)


class Place:
    """One objective in one dimension, with starts: everything that is measured there."""

    def __init__(
        self,
        name: str,
        objective: Any,
        start: Callable[[jax.Array], jax.Array],
        evaluate: Any = zo.evaluators.vmapped(),
    ):
        # A problem is a constant of the compiled functions, a network an argument.
        static = 0 if isinstance(objective, zo.problems.Problem) else None
        self.name, self.objective, self.start = name, objective, start
        self.locate = jax.jit(functools.partial(locate, count=ROUNDS), static_argnums=static)
        self.errors = jax.jit(
            functools.partial(errors, evaluate=evaluate),
            static_argnums=static,
            static_argnames="counts",
        )
        self.found: dict[Any, Any] = {}

    def end(self, seed: int, step: float) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        """A key for the directions; the path and the exact Hessian at its end."""
        from_key, key = jax.random.split(jax.random.key(seed))
        theta = self.start(from_key)
        fixed = not isinstance(self.objective, zo.problems.Problem)  # one start for all seeds
        where = (0 if fixed else seed, step)
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
    few, d = size.sweep_seeds, size.dimension
    both = {"directions": alike(NUM_DIRECTIONS), "queries": paid_by(NUM_DIRECTIONS)}
    rows = []
    for name in tqdm(size.functions, desc="synthetic functions"):
        problem = PROBLEMS[name]
        place = Place(name, problem, in_the_ball(d))

        def vary(sweep, place=place, count=NUM_DIRECTIONS, **options):
            # With both of the others, though only this is kept: all in one compilation.
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
            there = place if dimension == d else Place(name, problem, in_the_ball(dimension))
            rows += vary("dimension", there)
    return rows


def layer_errors(size: Size, losses: dict[str, hessian_layers.LayerLoss]) -> list[dict[str, Any]]:
    both = {"directions": alike(NUM_DIRECTIONS), "queries": paid_by(NUM_DIRECTIONS)}
    rows = []
    for name, loss in tqdm(losses.items(), desc="layers of the network"):
        # One direction at a time: a batch of kernels makes slow convolutions on a CPU.
        one = zo.evaluators.chunked(1)
        place = Place(name, loss, lambda key, loss=loss: loss.weights, one)
        for radius in LAYER_RADII:
            rows += place.rows(both, size.sweep_seeds, radius=radius)
    return rows


def paid_by(queries: int) -> dict[str, int]:
    """Directions of each method for that many queries."""
    return {name: method.directions(queries) for name, method in METHODS.items()}


def measure_inverses(size: Size) -> list[dict[str, Any]]:
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
