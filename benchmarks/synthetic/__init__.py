"""Every method on the papers' synthetic functions, at equal queries, each at its best rate.

Six experiments, after Fig. 1 and 7 of the ZoVH paper (K = 3, N = 4, μ = λ = 0.1, from a standard
normal start):

- ``functions``: all methods on quadratic, Levy, Rosenbrock and Ackley, d = 10⁴;
- ``long``: the methods of Fig. 1 on the quadratic with the paper's number of queries, 60 000;
- ``curvature``: all methods on quadratics with condition numbers from 10² to 10⁴, axis-aligned and
  rotated, d = 10³, in double precision: in single, the second differences along one parameter
  that ZO-SAH asks for are lost in values of 10⁵;
- ``baselines``: what is subtracted from the values, for a gradient step (N = 1) and for ZoVH;
- ``reuse``: how many rounds ZoAR and ZoVH reuse;
- ``radius``: μ, which the papers set to 0.1: in d = 10⁴ a query is then 10 away from θ.

Each method has its own learning rate for each problem (`benchmarks.common.tuning`), tuned with the
same number of queries on another seed. All queries are charged, the centre's included. Controls are
ZoAR at the learning rate η/λ of ZoVH: where d is far above the number of directions the two are
nearly the same. All functions are 0 at their least, so that values are regrets.

DIR/synthetic.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size
  seeds         of the reported runs; tuning_seeds, of the others
  experiments.NAME:
    dimension, budget (queries of a run)
    start       {problem: f at the start, median over the seeds}
    rows        for each problem and contender:
      problem, method (its name), and what the experiment varies: baseline, history_size, radius
      label, queries_per_step (at most)
      learning_rate, interior (whether rates on both sides are worse), grid: [{rate, score,
                diverged}], where score is the final value, null if the run diverged;
                learning_rate is null and the rest missing for methods that have none;
                a control has a learning_rate only, and ``control``: whose η/λ it is
      queries_spent, diverged (how many runs ended above their start)
      score, final  {median, least, most, each} over the seeds; null: not a number
      curve       {queries, median, least, most}; not where one is varied
"""

import argparse

from benchmarks.common import report
from benchmarks.synthetic import experiment, plot
from benchmarks.synthetic.tables import tables

PICTURES = {"synthetic": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("synthetic", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
