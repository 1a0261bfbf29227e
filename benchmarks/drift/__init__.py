"""How well each method follows an objective that moves while it is asked.

A bowl, ½‖θ − θ*(t)‖² in d = 100, whose minimiser moves along a line at constant speed; time is
counted in queries. A method starts away from it (standard normal) and is judged by the tracking
error: the mean of ‖θ − θ*‖ over the second half of the run. The learning rate is tuned for each
method and speed by the same, on another seed; two Newton methods have none. What is asked: how many
rounds are worth reusing, and whether rules that distrust old rounds (`zo.reuse`) help.

DIR/drift.json:
  environment   versions and machine
  setting       num_directions, radius, damping
  dimension, budget (queries of a run)
  seeds         of the reported runs; tuning_seeds, of the others
  rows          for each speed and contender:
    speed       distance that the minimiser moves in the time of a query
    method, rule (of reuse; null without), history_size (rounds, 1: no reuse), label
    queries_per_step, learning_rate (null: none), interior (whether rates on both sides are worse),
    grid: [{rate, score, diverged}]; queries_spent
    diverged    how many runs ended further from the minimiser than standing still ever would
    score       the tracking error: {median, least, most, each} over the seeds
    final       the distance at the end, likewise
"""

import argparse

from benchmarks.common import report
from benchmarks.drift import experiment, plot
from benchmarks.drift.tables import tables

PICTURES = {"drift": plot.figure_of, "drift-map": plot.map_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("drift", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
