"""Optimisers without a learning rate beside the best tuned ones: their distance, their safety.

Three experiments; peers are tuned for each problem (`benchmarks.common.tuning`), the Newton
optimisers have no learning rate and run with one set of defaults:

- ``gap``: queries until the gap is 10⁻³ of what it was, on quadratics in d = 10³ and in double
  precision: axis-aligned, rotated, and with ten dominant eigenvalues in random directions;
- ``functions``: values of the papers' functions in d = 10⁴ over four times as many queries as in
  the case ``synthetic``;
- ``starts``: scalar Newton from twenty random starts with scales from 0.1 to 10.

DIR/newton.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size (of the peers)
  seeds         of the reported runs; tuning_seeds, of the others
  gap, functions: {dimension, budget, rows}: as in ``synthetic.json``; the score of ``gap`` is the
                number of queries; where the gap was not reached, it is above the budget
  starts        {dimension, budget, rows: [{problem, num_directions, scale, seed, first, last}]}
"""

import argparse

from benchmarks.common import report
from benchmarks.newton import experiment, plot
from benchmarks.newton.tables import tables

PICTURES = {"newton": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("newton", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
