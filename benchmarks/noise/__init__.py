"""How much noise each method stands: what is left after equal queries, by kind and level.

Two problems in d = 10³ from a standard normal start, a quadratic with condition number 100 and
Rosenbrock's function, are seen through noise (`zo.problems.noisy`), new at every point and step:

- additive: f + level·z, z standard normal;
- multiplicative: f·(1 + level·z);
- discontinuous: f rounded to a multiple of the level.

Additive and discontinuous levels are fractions of f at the start. The learning rate is tuned anew
for each method, problem, kind and level, on another seed, by what the method is judged by: the
regret, the mean noise-free value over the last fifth of the run (both functions are 0 at their
least). Two Newton methods have none, and find the noise by themselves. Every query is charged.

DIR/noise.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size
  dimension, budget (queries of a run)
  seeds         of the reported runs; tuning_seeds, of the others
  start         {problem: f at the start}
  rows          for each problem, kind, level and method:
    problem, kind, level, method, label, queries_per_step
    learning_rate (null: none), interior (whether rates on both sides are worse),
    grid: [{rate, score, diverged}]
    queries_spent, diverged (how many runs ended above twice their start)
    score       the regret: {median, least, most, each} over the seeds
    final       the noise-free value at the end, likewise
"""

import argparse

from benchmarks.common import report
from benchmarks.noise import experiment, plot
from benchmarks.noise.tables import tables

PICTURES = {"noise": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("noise", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
