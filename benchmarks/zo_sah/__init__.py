"""The ZO-SAH paper's own experiments and open questions, beside RSPG and others.

Learning rates are tuned for every row, on other seeds (`benchmarks.common.tuning`); nothing else
is. A quarter of the parameters move in a step and planes are kept for T = 20 steps, unless the row
says otherwise; the other methods take as many directions a step.

- ``rosenbrock``: queries until value and distance are at most 10⁻² in two dimensions;
- ``logistic``: losses above the minimum, on scikit-learn's breast cancer and digits;
- ``quadratics``: queries until the value is 10⁻³ of the start's, with the test for isotropy and
  without;
- ``T``, ``m/d``, ``κ``, ``q``: the same losses, for steps in the same planes, the share of
  parameters that move, the least curvature believed, and the dimension of subspaces;
- ``pairing``: guided against random planes;
- ``network``: a residual network of eight layers on digits of 7×7 pixels;
- ``larger``: one of twice the channels, 14×14 pixels;
- ``fits``: errors of planes' curvatures by the fit and by differences, along runs.

DIR/zo-sah.json:
  environment   versions and machine
  settings      T, m/d, κ where nothing else is said
  seeds         of the reported runs (``starts``: how many on Rosenbrock's function); tuning_seeds
  target, fraction   of ``rosenbrock`` and ``quadratics``
  rows          for each entry of a part:
    part, problem, label, budget (queries of a run), dimension, radius
    num_directions   K of the methods that are not ZO-SAH; also the option that varies, by its name
    queries_per_step (at most), learning_rate, interior, grid: [{rate, score, diverged}]
    queries_spent, diverged
    score       what tuning compares: {median, least, most, each}; of ``rosenbrock`` and
                ``quadratics`` the queries, above the budget where the target was not reached
    final       the last value, likewise; test, the network's held-out accuracy
    curve       {queries, median, least, most} where it is drawn
  fits          {problem, num_subspaces, age (steps since the planes were drawn), fit, kept, fresh}:
                relative errors of a plane's Hessian, medians; fit: ZO-SAH's, of two values a plane
                and step; kept: the one of age 0, of no value; fresh: central differences, of eight
"""

import argparse

from benchmarks.common import report
from benchmarks.zo_sah import experiment, plot
from benchmarks.zo_sah.tables import tables

PICTURES = {"zo-sah": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the option of this case."""
    parser.add_argument(
        "--part",
        choices=("all", *experiment.PARTS),
        default="all",
        help="renew the rows of one part of DIR/zo-sah.json and keep the rest",
    )


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    size = experiment.FULL if args.full else experiment.QUICK
    if args.part == "all":
        result = experiment.measure(size)
    else:
        result = report.read("zo-sah", args.out)
        others = [row for row in result["rows"] if row["part"] != args.part]
        rows = others + experiment.measured(size, [args.part])
        result["rows"] = sorted(rows, key=lambda row: list(experiment.PARTS).index(row["part"]))
    report.finish("zo-sah", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
