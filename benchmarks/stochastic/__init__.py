"""Objectives seen through a few examples, runs or episodes at a time.

`problem` says what a problem is; `supervised` makes them from data, `inventory` from a simulator,
`policies` from games that are played. `contenders` has the methods. All runs of a problem stop at
equal queries, whatever a step costs, and every query is charged; a query is the mean over a batch,
which is new in every step and the same for all queries of a step (in "independent" problems, new in
every query). The learning rate is tuned anew for each method, problem and batch size, by the final
full objective, on other seeds than those reported. The methods without a learning rate have one
set of defaults; two of them are optax's rules on estimated gradients. Adam on true gradients of the
same batches is the ceiling: it takes as many steps as a method of forward differences, a gradient
being charged as K + 1 queries.

With a choice of parts or methods, the other rows of DIR's file are kept, if their settings are
those of these runs.

DIR/stochastic.json:
  environment   versions and machine
  parts         {least_squares, regressions, mnist, cnn, inventory, pendulum, pendulum_one and
                pendulum_three (all methods look as far as 1 and 3 there), cartpole}: each
    budget      queries of a run; one of a policy is a batch of episodes
    setting     num_directions, radius, damping, history_size, of the tuned methods
    first_radius  of the methods that change the radius as they go
    seeds         of the reported runs
    tuning_seeds  of the runs that rates were judged by
    rows        for each problem, batch size and method:
      problem, batch ("batch 16", or "all" examples), dimension, method, label
      kind      "first order" or "tuned" (both have a rate, the second are no first-order methods),
                "no learning rate", "derivatives"
      queries_per_step, learning_rate, interior (whether rates on both sides are worse),
      grid: [{rate, score, diverged}]; queries_spent
      diverged  how many runs ended above twice their start, or on no number
      final     the full objective at the end: {median, least, most, each} over the seeds
      score     what was tuned for: the same
      test      accuracy on held-out data, or the mean return of 128 other episodes, likewise
      curve     {queries, median, least, most} of the full objective
"""

import argparse

from benchmarks.common import report
from benchmarks.stochastic import experiment, plot
from benchmarks.stochastic.contenders import CONTENDERS
from benchmarks.stochastic.tables import tables

PICTURES = {"stochastic": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a choice of parts and methods."""
    parser.add_argument("--only", nargs="+", choices=tuple(experiment.FULL), help="some parts")
    parser.add_argument("--methods", nargs="+", choices=tuple(CONTENDERS), help="some methods")


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    parts = experiment.FULL if args.full else experiment.QUICK
    chosen = experiment.chosen(parts, args.only, args.methods)
    if not chosen:
        raise ValueError(
            f"only must name parts of {', '.join(parts)}, and methods some of theirs; got "
            f"{args.only}, {args.methods}."
        )
    some = args.only or args.methods
    there = some and report.json_file("stochastic", args.out).exists()
    earlier = report.read("stochastic", args.out) if there else None
    result = experiment.measure(chosen, earlier)
    report.finish("stochastic", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
