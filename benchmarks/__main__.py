"""``python -m benchmarks CASE [--quick | --full | --redraw] [--out DIR]``.

A case is a package with ``add_arguments(parser)``, ``run(args)``, ``tables(result)`` and
``PICTURES``; only the one asked for is imported. ``args`` always has ``full`` (a bool) and ``out``
(a folder).
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.common import report

CASES = {
    "attack": "black-box attacks on a digit classifier: queries until it is fooled",
    "box-attack": "untargeted attacks at the corners of a box, beside published ones",
    "synthetic": "every method on the papers' functions, at equal queries",
    "zo-sah": "the ZO-SAH paper's experiments and open questions",
    "noise": "how much noise each method stands",
    "drift": "how well each method follows an objective that moves",
    "hessian-error": "how far Hessian estimates are from the Hessian",
    "newton": "optimisers without a learning rate against the best tuned ones",
    "blackbox": "few parameters and nothing but values: COCO's functions, beside CMA-ES and others",
    "papers": "the papers' claims one at a time, beside exact answers",
    "stochastic": "minibatches, simulators and games, with a learning rate and without",
    "finetune": "a language model fine-tuned by values alone",
    "bilevel": "hyper-parameters by gradients through training, from values",
    "populations": "our steps beside libraries of evolution strategies",
    "devices": "what queries spread over devices gain",
    "laplace": "posteriors from values: predictions, doubt and evidence",
    "faults": "what runs withstand: missing values, deaths, messages in disorder",
    "outside": "what the loop adds to slow functions, and how busy it keeps workers",
    "speed": "time and memory of a step",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the case that the arguments name, or redraws its pictures."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Benchmarks.")
    cases = parser.add_subparsers(metavar="CASE", required=True)
    for name, summary in CASES.items():
        case = cases.add_parser(name, help=summary, description=summary)
        size = case.add_mutually_exclusive_group()
        size.add_argument("--quick", action="store_true", help="a few minutes (the default)")
        size.add_argument("--full", action="store_true", help="more of everything")
        size.add_argument("--redraw", action="store_true", help="the pictures of an earlier run")
        case.add_argument("--out", type=Path, default=Path("results"), help="default: results/")
        if name in argv[:1]:
            package(name).add_arguments(case)
            case.set_defaults(case=name)
    args = parser.parse_args(argv)
    if args.redraw:
        report.redraw(args.case, package(args.case).PICTURES, args.out)
    else:
        package(args.case).run(args)


def package(case: str) -> ModuleType:
    """The package of a case."""
    return importlib.import_module(f"benchmarks.{case.replace('-', '_')}")


if __name__ == "__main__":
    main()
