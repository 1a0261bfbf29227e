"""How far Hessian estimates from values are from the Hessian: Fig. 2 to 5 of the ZoVH paper.

Errors are ‖Ĥ − H‖_F/‖H‖_F with exact H, in double precision, without a d×d array
(`benchmarks.hessian_error.measure`); the zero matrix scores 1. The setting is the paper's: K = 3,
μ = 0.1, a start uniform in a ball of radius √(2d) (100 at d = 5000), then four steps of 10⁻⁴ down
the normalised gradient. Every method is measured at the last point; ZoVH with reuse keeps its
rounds from the points before, with the values as they were there. The quadratic is rotated, with
eigenvalues evenly from 1 to 10. Then kernels of the trained MNIST network
(`benchmarks.hessian_error.layers`), on a batch of held-out digits, at the paper's μ = 0.5 and at
0.01.

Then the interpolated estimators, with pairs from one point
(`benchmarks.hessian_error.interpolation`).

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
                 `benchmarks.hessian_error.interpolation`; --part interpolation renews it alone
  trajectories {problem, dimension, rounds (N), radius, points, errors (by method: mean, median,
               q25, q75)}: `benchmarks.hessian_error.trajectories`; --part trajectories likewise;
               of layers the whole kernel and the weights that the paper's code frees
"""

import argparse
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.common import cache, report, victim
from benchmarks.hessian_error import experiment, interpolation, layers, plot, trajectories
from benchmarks.hessian_error.tables import tables as of_averaged

NAME = "hessian-error"
PICTURES = {
    NAME: plot.figure_of,
    "hessian-interpolation": lambda result: interpolation.figure_of(result["interpolation"]),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this case."""
    parser.add_argument(
        "--cache", type=Path, default=cache.FOLDER, help="where the network is kept"
    )
    parser.add_argument(
        "--part",
        choices=("all", "interpolation", "trajectories"),
        default="all",
        help="renew one part of DIR/hessian-error.json and keep the rest",
    )


def run(args: argparse.Namespace) -> None:
    """Measures everything, or one part anew; prints the tables, writes the files."""
    size = experiment.FULL if args.full else experiment.QUICK
    if args.part == "interpolation":
        result = report.read(NAME, args.out)
        with jax.enable_x64(True):
            losses = layers.load(args.cache, victim.Settings(), experiment.BATCH, jnp.float32)
        result["interpolation"] = experiment.measure_interpolation(size, losses)
    elif args.part == "trajectories":
        result = report.read(NAME, args.out)
        with jax.enable_x64(True):
            result["trajectories"] = trajectories.measure(size.trajectories, experiment.PROBLEMS)
    else:
        result = experiment.measure(size, args.cache)
    report.finish(NAME, result, tables, PICTURES, args.out)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of a result, by name."""
    return of_averaged(result) | interpolation.tables(result["interpolation"])


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
