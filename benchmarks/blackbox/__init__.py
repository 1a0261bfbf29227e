"""Few parameters and a function that tells nothing else: COCO's noiseless functions (BBOB).

COCO's own code computes the functions; starts are uniform in [−4, 4]^d. All methods have one set
of defaults, and the radius 1 (CMA-ES: σ = 2) where they want a scale. Every evaluation is charged.
A run ends at 10⁻⁸ above the optimum or at the end of its budget. Ours run in double precision, by
ask and tell, and ask K = min(d, 16) points a round besides θ.

DIR/blackbox.json:
  environment   versions and machine
  setting       instances, and targets: values above the optimum, from 10² to 10⁻⁸
  dimensions    for each: dimension, num_directions (K of ours), budget, rows:
    function, number   COCO's
    method, label
    budget      evaluations that the method may spend
    instances   for each: the evaluations to every target, None where it was not reached
"""

import argparse

from benchmarks.blackbox import experiment, plot
from benchmarks.blackbox.tables import tables
from benchmarks.common import report

PICTURES = {"blackbox": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("blackbox", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
