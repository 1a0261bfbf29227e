"""The runs at every size, and what a step takes."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import report, tuning
from benchmarks.finetune import costs
from benchmarks.finetune.contenders import contenders
from benchmarks.finetune.experiment import COSTS, Part, on_task
from benchmarks.finetune.scale import text
from benchmarks.finetune.scale.transformer import Config, Transformer
from benchmarks.finetune.tables import RIVAL
from benchmarks.finetune.trained import Inputs, Trained

CONTEXT = 64
"""Bytes that are seen at most."""
SIZES = {
    "1e5": Config(48, 3, 3, CONTEXT),
    "1e6": Config(128, 5, 4, CONTEXT),
    "1e7": Config(384, 6, 6, CONTEXT),
    "1e8": Config(896, 10, 14, CONTEXT),
}
"""By about how many parameters there are: 112,816, 1,065,600, 10,868,992 and 96,972,544."""
MODEST = ("1e5", "1e6")
"""Those that a CPU can do."""
METHODS = ("mezo", "zoar_low_rank", "zoar_signs", "scalar_newton", "adam")
BUDGET = 2_000
"""Forwards of a run."""
SEEDS = (0, 1, 2)
"""Of the reported runs."""
BATCH = 16
"""Windows a forward."""
NUM_DIRECTIONS = 8
WINDOWS = 256
"""So many of the validation text, and of the held-out one, for a loss that is noted."""
TRAINING = "training"
"""The part that trains; the other one is `costs`."""


class Model(NamedTuple):
    """A transformer of some size.

    Attributes:
      shapes: of its parameters: a tree of ``jax.ShapeDtypeStruct``.
      start: parameters from a key.
      loss: in nats a byte, of parameters and windows [count, length + 1].
    """

    shapes: Any
    start: Callable[[jax.Array], Any]
    loss: Callable[[Any, jax.Array], jax.Array]

    @property
    def dimension(self) -> int:
        """How many parameters there are."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.shapes))


def model_of(config: Config) -> Model:
    """The transformer of this size; its parameters are not made yet."""

    def start(key: Any) -> Any:
        return nnx.state(Transformer(config, nnx.Rngs(key)))

    graph, shapes = nnx.split(nnx.eval_shape(lambda: Transformer(config, nnx.Rngs(0))))

    def loss(params: Any, windows: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params)(windows[:, :-1])
        return optax.softmax_cross_entropy_with_integer_labels(logits, windows[:, 1:]).mean()

    return Model(shapes, start, loss)


def split_of(model: Model) -> Any:
    """Words for factored directions, so that each layer's matrices have factors of their own."""
    windows = jnp.zeros((1, CONTEXT + 1), jnp.int32)
    explanation = zo.explain(
        lambda params: model.loss(params, windows), model.shapes, zo.directions.low_rank()
    )
    return explanation.split


def task_of(model: Model, data: text.Text, part: Part) -> tuning.Task:
    """The cross-entropy of windows that are new in every step, and the same in all its queries.

    What is noted and tuned for is the validation text's; what is tested is the held-out one's.
    """
    training = jnp.asarray(data.training)
    validation, held_out = (
        text.spread(each, WINDOWS, CONTEXT + 1) for each in (data.validation, data.held_out)
    )
    return tuning.Task(
        query=lambda params, key, spent, level: model.loss(
            params, text.drawn(training, key, part.batch, CONTEXT + 1)
        ),
        measure=lambda params, spent, level: model.loss(params, validation),
        start=model.start,
        dimension=model.dimension,
        curvature=part.curvature,
        budget=part.budget,
        checkpoints=part.checkpoints,
        worst=lambda first, level: 2 * first,
        test=lambda params: model.loss(params, held_out),
        together=tuning.together(),
    )


def part_of(size: str, method: str, dimension: int) -> Part:
    """The runs of a method at a size: one part for each, so that each is kept once it is done."""
    # From 10⁵ to 10⁷ parameters the best rates are near K/√d, and those of MeZO, which has one
    # direction a step, near 1/√d. Grids of learning rates start at K/(d · curvature).
    curvature = (NUM_DIRECTIONS if method == RIVAL else 1) / math.sqrt(dimension)
    options: dict[str, Any] = {"seeds": SEEDS, "precision": "default"}
    return Part(size, BATCH, (method,), BUDGET, curvature=curvature, **options)


def costs_of(model: Model, split: Any, data: text.Text) -> list[dict[str, Any]]:
    """Rows of `costs.measure`; a sentence is a window."""
    windows = text.spread(data.training, NUM_DIRECTIONS * BATCH, CONTEXT + 1)
    inputs = Inputs(windows, windows, windows)
    params = jax.jit(model.start)(jax.random.key(0))
    return costs.measure(
        Trained(params, model.loss, inputs, split=split),
        ((NUM_DIRECTIONS, BATCH),),
        turns=5,
        loss=lambda trained, params, windows: trained.logits(params, windows),
        families=("ZoAR, low rank", "ZoAR, Gaussian"),
    )


def measure(
    sizes: Sequence[str], methods: Sequence[str] | None, only: Sequence[str] | None, out: Path
) -> dict[str, Any]:
    """The content of the JSON file, which is written after every method and every timing.

    Args:
      sizes: names of `SIZES`; those that suit this machine if there is none.
      methods: some of `METHODS`, or None for all.
      only: `TRAINING` or `costs`, or None for both.
      out: the folder of the JSON file. What is not measured stays as it is there, also what other
        processes write meanwhile.
    """
    wanted = only or (TRAINING, COSTS)
    if not set(wanted) <= {TRAINING, COSTS}:
        raise ValueError(f"only must be {TRAINING} or {COSTS} where --scale is, got {only}.")
    found: dict[str, Any] = {}
    result: dict[str, Any] = {}
    for part in parts_found(sizes or sizes_here(), methods or METHODS, wanted):
        found = merged(found, part)
        result = kept(found, out)
    return result


def sizes_here() -> Sequence[str]:
    """Those that suit this machine; says so where some do not."""
    if jax.default_backend() != "cpu":
        return list(SIZES)
    others = ", ".join(name for name in SIZES if name not in MODEST)
    print(f"On a CPU: sizes {', '.join(MODEST)}; the others, {others}, want an accelerator.")
    return MODEST


def parts_found(
    sizes: Sequence[str], methods: Sequence[str], wanted: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Parts of the JSON file's ``scale``, as they are measured."""
    data = text.load()
    facts = {
        "context": CONTEXT,
        "text": {name: len(each) for name, each in data._asdict().items()},
        "unigram": tuning.tidy(text.unigram(data)),
    }
    steps = len(methods) * (TRAINING in wanted) + (COSTS in wanted)
    with tqdm(total=len(sizes) * steps) as bar:
        for size in sizes:
            config = SIZES[size]
            model = model_of(config)
            split = split_of(model)
            shape = {name: getattr(config, name) for name in ("width", "layers", "heads")}
            for name in methods if TRAINING in wanted else ():
                part = part_of(size, name, model.dimension)
                runs = on_task(part, task_of(model, data, part), contenders(split), bar)
                yield facts | {TRAINING: {size: shape | runs}, COSTS: {}}
            if COSTS in wanted:
                bar.set_description(f"{size}: costs")
                row = {
                    "environment": report.environment(),
                    "dimension": model.dimension,
                    "bytes": sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(model.shapes)),
                    "rows": costs_of(model, split, data),
                }
                yield facts | {TRAINING: {}, COSTS: {report.environment()["device"]: {size: row}}}
                bar.update()


def kept(found: dict[str, Any], out: Path) -> dict[str, Any]:
    """The JSON file's content with what was found, written there."""
    path = report.json_file("finetune", out)
    # Read this late, as other processes may have added sizes of their own.
    result = report.read("finetune", out) if path.exists() else {"parts": {}, "costs": {}}
    result["environment"] = report.environment()
    result["scale"] = merged(result.get("scale", {}), found)
    report.write_json(path, result)
    return result


def merged(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """What was measured earlier on the same text, and what was measured later in its place."""
    if any(earlier.get(name) != later[name] for name in ("context", "text")):
        return later
    training = dict(earlier[TRAINING])
    for size, runs in later[TRAINING].items():
        training[size] = with_rows_of(training.get(size), runs)
    by_device = dict(earlier[COSTS])
    for device, rows in later[COSTS].items():
        by_device[device] = in_order(by_device.get(device, {}) | rows, SIZES)
    return later | {TRAINING: in_order(training, SIZES), COSTS: by_device}


def with_rows_of(earlier: dict[str, Any] | None, later: dict[str, Any]) -> dict[str, Any]:
    """A size's runs with those of other methods that were run in the same way."""
    free = ("environment", "rows")
    if earlier is None or any(earlier.get(x) != later[x] for x in later if x not in free):
        return later
    rows = {row["method"]: row for row in (*earlier["rows"], *later["rows"])}
    return later | {"rows": list(in_order(rows, METHODS).values())}


def in_order(found: dict[str, Any], names: Any) -> dict[str, Any]:
    """What was found, by names in their order."""
    return {name: found[name] for name in names if name in found}


__all__ = ["METHODS", "SIZES", "TRAINING", "measure", "model_of", "task_of"]
