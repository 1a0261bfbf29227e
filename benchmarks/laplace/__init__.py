"""Posteriors from values, against those of the exact Hessian: predictions, doubt and evidence.

Small networks, trained to the mode of their posterior on a few hundred examples of scikit-learn's
digits (0 to 7) and breast cancer; the posterior is of the last layer or of the whole network. Each
structure of `zo.structures` gets 10² to 10⁵ queries, in float32, on three splits; where it can use
no more of them it is not run again. Its radius is the largest of four that comes nearest to the
exact posterior on another split. The prior's precision is that of the largest evidence with the
exact Hessian, the same for all. Predictions are means over samples, made of the same normal numbers
for all; in a whole network also those of the linearised network.

DIR/laplace.json:
  environment   versions and machine
  setting       budgets, seeds, samples, tuning_seed
  tasks         {task, dimension, entries (d(d + 1)/2), examples, test_examples, prior_precisions}
  rows          {task, method, label, budget, queries (asked, at most the budget), radius}, and each
                as {median, least, most, each} over the splits:
    divergence  KL from the exact posterior to this one, nats
    evidence_gap  log evidence less the exact one
    determined  how many parameters the data determined
    nll, ece, brier, accuracy, of the test's examples; auroc, of the predictive entropy as a sign of
    inputs of another kind (the digits 8 and 9; patients with shuffled features); and the same with
    ``_linearised``
"""

import argparse

from benchmarks.common import report
from benchmarks.laplace import experiment, plot
from benchmarks.laplace.tables import tables

PICTURES = {"laplace": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("laplace", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
