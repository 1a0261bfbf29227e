"""Bilevel problems: hyper-parameters by the gradient through a model's training, from values.

Three tasks, in `tasks`: training labels of MNIST that are wrong with probability 0.5, 0.7 or 0.9
get weights (of 500 digits; of 2 000; of 500 with all pixels as features); the pixels of
scikit-learn's digits get weight decays; a program that changes digits, and whose derivatives are
zero, gets its magnitudes. Inner is the training loss, outer the loss on
clean validation data. In the first two the model (y) is a black box, in the third the program (x).
`contenders` has the methods: implicit differentiation with all derivatives, `zo.hypergradient` from
values alone and with the derivatives that are there, differences of whole inner solves (TorchOpt's
way), PZOBO, random search. All but the first solve the inner problem from values where y is a black
box, and all stop at equal costs: values of inner and of outer, a gradient charged as three values,
a product with second derivatives as six. Learning rates (the deviation, in random search) are tuned
on another split of the data, in the cleaning at one corruption for all, by the last outer loss.
With 2 000 digits and with all pixels they are those of the cleaning, and hypergradients get half
of the values of whole solves; with all pixels one split is run, as it takes 5·10¹³ operations.

DIR/bilevel.json:
  environment   versions and machine
  seeds         of the reported runs, each with its own split; tuning_seeds, of the others
  sizes         of the cleaning: training examples, and principal components; "more digits" has its
                components, too
  references    for each task and setting what x is worth that is not learnt, from exact solutions:
    task, setting, label ("start", "wrong labels known", "best common decay", "magnitudes known")
    final, test   as below
  rows          for each task, setting and contender:
    task, setting (the corruption), method, label, access (what it differentiates)
    learning_rate, interior (whether rates on both sides are worse), grid: [{rate, score, diverged}]
                (null and empty where the rate was not tuned)
    steps, step_cost, spent: {inner, outer, derivatives}, all in values
    diverged    how many runs ended on no number
    final       the outer loss at the end: {median, least, most, each} over the seeds
    test        the accuracy on test data at the end, likewise
    curve       {queries, outer, test}: the last two for each seed, after each step
"""

import argparse

from benchmarks.bilevel import experiment, plot
from benchmarks.bilevel.tables import tables
from benchmarks.common import report

PICTURES = {"bilevel": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the sizes of the cleaning, and a choice of tasks."""
    parser.add_argument("--only", nargs="+", metavar="TASK", help="some tasks")
    parser.add_argument(
        "--sizes",
        nargs=2,
        type=int,
        default=(500, 20),
        metavar=("N", "P"),
        help="training digits and principal components of the cleaning (default: 500 20)",
    )


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    parts = experiment.parts(args.full, *args.sizes)
    chosen = {name: part for name, part in parts.items() if name in (args.only or parts)}
    if not chosen:
        raise ValueError(f"only must name tasks of {', '.join(parts)}; got {args.only}.")
    sizes = dict(zip(("examples", "components"), args.sizes, strict=True))
    result = experiment.measure(chosen) | {"sizes": sizes}
    report.finish("bilevel", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
