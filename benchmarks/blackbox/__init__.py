"""Functions that tell nothing but values: COCO's noiseless ones (BBOB), and noise put on them.

COCO's own code computes the functions, from 160 dimensions on those of its large-scale suite;
starts are uniform in [−4, 4]^d. With noise a value's distance from the optimum's is off by about a
thousandth of itself, at random or by an oscillation; what is reached is counted without it. All
methods have one set of defaults, and the radius 1 (CMA-ES: σ = 2) where they want a scale. Every
evaluation is charged. A run ends at 10⁻⁸ above the optimum or at the end of its budget; before
that, methods that stop, or have long found nothing better, start again elsewhere. Ours run in
double precision.

The file is filled in parts: runs that are there already are not run again.

DIR/blackbox.json:
  environment   versions and machine
  setting       targets: values above the optimum, from 10² to 10⁻⁸
  published     for each dimension and function (number) the least expected evaluations to every
                target of the algorithms of 2009, where the package cocopp is installed
  rows:
    noise       "none", "stochastic" or "deterministic"
    dimension, function, number   COCO's
    method, label
    parallel    evaluations of a round, which can run at the same time
    budget      evaluations that the method may spend
    instances   for the first, second…: the evaluations to every target, None where it was not
                reached
"""

import argparse
import dataclasses
import functools
from typing import Any

from benchmarks.blackbox import experiment, plot
from benchmarks.blackbox.functions import NOISES
from benchmarks.blackbox.tables import tables
from benchmarks.common import report

PANELS = {
    "blackbox": plot.few_parameters,
    "blackbox-large": plot.many_parameters,
    "blackbox-noise": plot.noisy,
}
PICTURES: report.Pictures = {
    name: lambda result, panels=panels: plot.figure_of(panels(result))  # type: ignore[misc]
    for name, panels in PANELS.items()
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a part of the runs is."""
    several = ", ".join(map(str, experiment.FULL.dimensions))
    parser.add_argument("--noises", nargs="+", choices=NOISES)
    help = f"{several}; others of COCO's with --instances"
    parser.add_argument("--dimensions", type=int, nargs="+", help=help)
    parser.add_argument("--functions", type=int, nargs="+", help="COCO's numbers, from 1 to 24")
    parser.add_argument("--methods", nargs="+", choices=experiment.LABELS)
    parser.add_argument("--instances", type=int, help="how many, of all methods alike")
    parser.add_argument("--again", action="store_true", help="run what is there already, too")


def run(args: argparse.Namespace) -> None:
    """Measures what is missing in the file, prints the tables, writes the files."""
    size = experiment.FULL if args.full else experiment.QUICK
    given = {name: getattr(args, name) for name in ("noises", "dimensions", "functions", "methods")}
    parts: dict[str, Any] = {name: tuple(some) for name, some in given.items() if some}
    parts["instances"] = args.instances or size.instances
    size = dataclasses.replace(size, **parts)
    path = report.json_file("blackbox", args.out)
    earlier = report.read("blackbox", args.out) if path.exists() else None
    if earlier and args.again:
        earlier["rows"] = experiment.others(earlier["rows"], size)
    save = functools.partial(report.write_json, path)
    result = experiment.measure(size, earlier, save)
    pictures = {name: PICTURES[name] for name, panels in PANELS.items() if panels(result)}
    report.finish("blackbox", result, tables, pictures, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
