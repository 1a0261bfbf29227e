"""What runs withstand: faults of every kind, done to every optimiser.

The objective is a quadratic with condition number 10 in d = 10, asked outside JAX by
`zo.minimize`, or by `zo.ask` and `zo.tell`, from standard normal starts. What is done to a run:

- values that are missing: NaN; ±Inf or 1e300, which is infinite in single precision; exceptions,
  and results that are no number; calls that hang until the time-out;
- calls that are made again: exceptions with retries, workers (processes) that die;
- messages: values told a second time, and lines of a journal that are there twice; values of an
  earlier step; values in another order; rounds that overtake each other (``max_pending``);
- deaths: a journal that was cut at a random byte, and processes killed by ``kill -9`` at a random
  instant; both are taken up again. Besides, journals are read that were cut at every byte.

A run is lost if it raises, hangs, ends before its budget or at parameters that are not finite. It
is wrong if it counts queries, missing values or errors otherwise than they were, calls again what
was told, or takes what it must refuse. Where nothing is missing in the end a run is off unless it
ends as the clean run does, to the bit. With missing values its final value is divided by the clean
run's after as many values that came, from the same start; with rounds that overtake each other, by
that of a run whose rounds do not. An optimiser is off if the median of the seeds is above 2. Values
are compared with a thousandth of the start's added.

DIR/faults.json:
  environment   versions and machine
  setting       num_directions; share of calls that go wrong; timeout in seconds; max_pending;
                worst_ratio, above which missing values are off; floor, the thousandth
  dimension
  budget        queries of a run; short_budget, of those that die
  seeds         of the starts
  rows          for each optimiser and kind (optimisers that refuse max_pending have one less):
    optimizer, kind
    faults      how many were done; runs, in how many runs
    lost, wrong, off: runs
    ratio       the median over the seeds; null where runs must be the same to the bit
    notes       what went wrong, the first five
"""

import argparse

from benchmarks.common import report
from benchmarks.faults import experiment, plot
from benchmarks.faults.tables import tables

PICTURES = {"faults": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("faults", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
