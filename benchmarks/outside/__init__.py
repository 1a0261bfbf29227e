"""What `zo.minimize` adds to a slow function, and how busy it keeps workers of uneven speed.

ZoAR with K = 8 in d = 100 calls a function that does nothing but wait, in a pool of eight threads.

- even: each call takes 20 ms, and so should a step.
- uneven: a call takes between 20 and 200 ms, always the same in one worker. With one round asked at
  a time, workers wait for the slowest; with several (``max_pending``) they go on with the next one.
  The share of worker time that is busy is counted from the first call until the last is begun.

The machine should do nothing else meanwhile.

DIR/outside.json:
  environment   versions and machine
  setting       num_directions, workers, dimension, repeats of everything
  even          each run: oracle_ms, step_ms (the median of its steps), ratio (of the two)
  uneven        for each max_pending:
    max_pending
    busy        the share of worker time, {median, least, most, each} over the repeats
    calls_per_second, likewise
    possible    calls a second of workers that never wait
"""

import argparse

from benchmarks.common import report
from benchmarks.outside import experiment, plot
from benchmarks.outside.tables import tables

PICTURES = {"outside": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds nothing: the common options are all."""


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    result = experiment.measure(experiment.FULL if args.full else experiment.QUICK)
    report.finish("outside", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
