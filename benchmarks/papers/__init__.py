"""The papers' claims one at a time, on problems small enough for exact answers.

Where a claim has a formula here, it is our derivation: the modules' docstrings have them.

DIR/papers.json:
  environment  versions and machine
  settings     of the tuned runs; seeds, tuning_seeds
  descent      where ZoVH's product descends (`benchmarks.papers.descent`): {num_directions,
               dimension, form, steepness, factor (λ gᵀE[x]/‖g‖²), error (standard),
               derived_when_steep}
  derived      the guarded product's factor over steepness by an expectation over one direction:
               {num_directions, dimension, steepness, factor}
  curved       the factor on flat ground of curvature h, n ≫ d: {num_directions, dimension, form,
               curvature (h/λ), factor, error, derived (or null)}
  errors       root mean squared errors over the size of the estimated
               (`benchmarks.papers.moments`): {of, dimension, num_directions, radius, derived,
               measured}
  reused       the Hessian's errors over N and the way between rounds: {history_size, step,
               derived (with no way), measured}
  identity     without the identity term and with a baseline beside F_μ: {offset (b − F_μ),
               derived, measured (‖E Ĥ − H‖)}
  reinforce    ZoAR beside REINFORCE by automatic differentiation: {dimension, learning_rate,
               num_directions, radius, values (by name, [steps + 1]), largest_gap (relative)}
  onset        ZoAR over N rounds on Rosenbrock: {history_size, learning_rate, final (value over
               the first), bias (median from a tenth of the way on), values, biases (thinned)};
               null where it overflowed
  onset_size   {dimension, queries, num_directions, radius, seeds}
  floors       E‖∇f‖² on a bowl at a constant learning rate: {method, radius, rate_derived, rate (a
               step's factor), floor_derived, floor, squares (thinned)}
  floors_size  {dimension, steps, rate (learning rate), num_directions, seeds}
  ablation     ZoVH's parts, tuned: {problem, label, …} as in `benchmarks.common.tuning.Trial`
  policies     anisotropic policies, tuned, likewise
  sizes        {ablation, policies}: dimension and budget
  bounds       ZoVH's error bounds (`benchmarks.papers.bounds`), roots of squares over the size of
               the estimated: {theorem, num_directions, radius, noise, damping, history_size,
               learning_rate, bound (null where it says nothing), measured, trivial (of what asks
               nothing)}; --part bounds renews them alone
  bounds_size  {dimension, counts, rounds}
"""

import argparse

from benchmarks.common import report
from benchmarks.papers import experiment, plot
from benchmarks.papers.tables import tables

PICTURES = {"papers": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a choice of the part that is measured."""
    parser.add_argument(
        "--part",
        choices=("all", "bounds"),
        default="all",
        help="bounds: renew that part of DIR/papers.json and keep the rest",
    )


def run(args: argparse.Namespace) -> None:
    """Measures everything, or one part anew; prints the tables, writes the files."""
    size = experiment.FULL if args.full else experiment.QUICK
    if args.part == "bounds":
        result = report.read("papers", args.out) | experiment.of_bounds(size)
    else:
        result = experiment.measure(size)
    report.finish("papers", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
