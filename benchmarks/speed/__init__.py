"""What a step costs: against its floor, and against what a user would pick instead.

The floor is drawing a round's directions once and evaluating its objectives. Ours run inside one
compiled loop, so that dispatch does not count; what it costs is measured apart
(`benchmarks.speed.calls`). `benchmarks.speed.others` says what they are compared with, and how. All
that a function is timed with takes turns in one run; the median of the turns is reported.

``--rivals`` runs the case `populations` instead: libraries of evolution strategies, side by side.
``--reference PATH`` adds the ZoVH authors' PyTorch optimisers; PATH is a clone of
https://github.com/Qjbtiger/ZoVH. ``speed.json`` holds

- ``environment``, with the versions of ``others``; ``settings`` (d, K, μ, λ, N, turns, seconds
  a turn);
- ``generators``: [{name, ns_per_number, ks_distance, excess_kurtosis}], of a million numbers;
- ``pieces``: [{generator, function, random, objective}], μs a round of K;
- ``steps``: [{generator, function, step, queries, microseconds, over_floor}], where the floor is
  that of as many queries, of the same generator and function;
- ``others``: [{library, method, function, queries, microseconds, against, step_ratios,
  query_ratios}]: how many times as long as the step ``against`` of ours a step and a query take,
  for each generator that ours takes;
- ``calls``: [{step, parameters, adam, compiled, plain, packed, inline, plain_arrays,
  packed_arrays}]: μs a called step of 10 and of 10 000 parameters, as it is and with `zo.packed`,
  and how many arrays its state has; a step in a compiled loop, and a called one of ``optax.adam``;
  ``inline``, {adam, packed}, without asynchronous dispatch;
- ``compile``: CPU seconds of lowering and compiling a step, medians of a few turns: ``steps``,
  [{generator, one_leaf, many_leaves, ratio}], of 40 000 parameters in one leaf and in a hundred;
  ``model``, {leaves, parameters, step, forwards, ratio}, of MeZO on a transformer encoder and of
  its two forwards alone (`benchmarks.speed.encoder`);
- ``targets``: [{target, generator, bound, value, where, met}]: the worst case of each;
- ``memory``: [{method, generator, parameters, temporaries}], in bytes: a step of a tree of ten
  million parameters with ``chunked(1)``, from XLA's memory analysis.
"""

import argparse
from pathlib import Path

from benchmarks import populations
from benchmarks.common import report
from benchmarks.speed import experiment, others, plot
from benchmarks.speed.tables import tables

PICTURES = {"speed": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this case, and those of `populations`."""
    parser.add_argument(
        "--reference", type=Path, help=f"a clone of {others.REPOSITORY}, to compare with"
    )
    parser.add_argument(
        "--only", nargs="+", choices=tuple(experiment.ALONE), help="the rest stays as it is in DIR"
    )
    parser.add_argument(
        "--rivals", action="store_true", help="the case populations instead, which has the rest:"
    )
    populations.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Times everything, prints the tables, writes the files."""
    if args.rivals:
        populations.run(args)
        return
    size = experiment.FULL if args.full else experiment.QUICK
    if args.only:
        result = experiment.renewed(report.read("speed", args.out), args.only, size)
    else:
        result = experiment.measure(args.reference, size)
    env, settings = result["environment"], result["settings"]
    print(f"\n{env['device']}, {env['cpu']}, {env['cores']} cores; JAX {env['jax']}")
    print(f"d = {settings['dimension']}, K = {settings['num_directions']}")
    print(f"medians of {settings['turns']} turns")
    report.finish("speed", result, tables, PICTURES, args.out)


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
