"""Loss, time and memory against the number of parameters, of transformers trained by values alone.

The ZoAR paper leaves open how its methods fare as models grow. `transformer` is one in flax nnx,
of four sizes from 10⁵ to 10⁸ parameters (`experiment.SIZES`), `text` what it learns from scratch:
the bytes of the film reviews' sentences. A forward is the cross-entropy of 16 windows of 64 bytes,
new in every step and the same for all queries of a step, and all methods at all sizes have as many
forwards. Learning rates are tuned at each size by the validation text's loss, on another seed than
those reported; what is reported is the loss of the held-out text. Seeds differ in initial weights
too.
"""

import argparse

from benchmarks.finetune.scale.experiment import METHODS, SIZES, TRAINING, measure
from benchmarks.finetune.scale.plot import figure_of
from benchmarks.finetune.scale.tables import tables


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the choice of sizes and methods."""
    parser.add_argument(
        "--scale",
        nargs="*",
        choices=SIZES,
        help="transformers of these sizes (by default those that suit the machine), and nothing "
        "else; --only training or costs of them",
    )
    parser.add_argument("--methods", nargs="+", choices=METHODS, help="some methods of --scale")


__all__ = ["TRAINING", "add_arguments", "figure_of", "measure", "tables"]
