"""The parts of the case: what is trained, by which methods, on how many forwards; and the runs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm

from benchmarks.common import report, tuning
from benchmarks.common.methods import Method, Setting
from benchmarks.finetune import costs, prompted, reviews, trained
from benchmarks.finetune.contenders import CONTENDERS, contenders, kind_of
from benchmarks.finetune.trained import Trained, head

LENGTH = 32
"""Tokens of a sentence for MiniLM; three in ten are longer and cut."""
SEEDS = (0, 1, 2, 3, 4)
"""Of the reported runs."""
MINILM, SMOLLM2 = "minilm", "smollm2"
TRAINED = {MINILM: trained.TRAINED, SMOLLM2: prompted.TRAINED}
"""What is trained of each model."""
BEHIND = ", SmolLM2"
"""Stands behind a device's name where its costs are SmolLM2's."""
ALL = 0
"""The size of a batch of all sentences."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Runs of some methods on the same parameters.

    Attributes:
      trained: what, a name of `TRAINED` of the model, or a size of `scale`.
      batch: sentences a forward; all training sentences where it is `ALL`.
      methods: names of contenders.
      budget: forwards of a run, each of a batch.
      radius: of the tuned methods.
      first_radius: of the methods without a learning rate.
      curvature: where the grid of learning rates starts, as of a Hessian with such eigenvalues.
      seeds: of the reported runs.
      checkpoints: how often a run is tested.
      model: a key of `TRAINED`.
      precision: of products on an accelerator, as of ``jax.default_matmul_precision``. Less than
        the highest rounds values by more than small perturbations of MiniLM's weights are worth.
    """

    trained: str
    batch: int
    methods: tuple[str, ...]
    budget: int
    radius: float = 1e-3
    first_radius: float = 1e-3
    curvature: float = 0.1
    seeds: tuple[int, ...] = SEEDS
    checkpoints: int = 10
    model: str = MINILM
    precision: str = "highest"

    def setting_of(self, name: str) -> Setting:
        """The setting of a method."""
        radius = self.radius if CONTENDERS[name].tuned else self.first_radius
        return Setting(num_directions=8, radius=radius)


HEAD = (
    *("mezo", "zoar_1", "zoar", "zovh", "hizoo", "radazo", "fzoo"),
    *("poem", "scalar_newton", "low_rank_newton", "diagonal_newton"),
    "adam",
)
FEW = ("mezo", "zoar_low_rank", "zoar_signs", "scalar_newton")
SIGNS, LOW_RANK = (("mezo", f"zoar_{name}", "scalar_newton") for name in ("signs", "low_rank"))
BRIEFLY: dict[str, Any] = {"seeds": SEEDS[:3], "checkpoints": 5}
OF_SMOLLM2: dict[str, Any] = BRIEFLY | {"model": SMOLLM2, "precision": "default"}
COSTS = "costs"
"""The part that times steps."""
FULL = {
    "head, all sentences": Part("head", ALL, HEAD, 2_000, 1e-2, 1e-2),
    "head, batches of 256": Part("head", 256, HEAD, 10_000, 1e-2, 1e-2),
    "everything": Part("everything", 16, FEW, 5_000),
    "adapters": Part("adapters", 16, SIGNS, 5_000, **BRIEFLY),
    "biases": Part("biases", 16, SIGNS, 5_000, **BRIEFLY),
    "scales": Part("scales", 16, SIGNS, 5_000, **BRIEFLY),
    "SmolLM2, everything": Part("everything", 16, LOW_RANK, 2_000, **OF_SMOLLM2),
    "SmolLM2, adapters": Part("adapters", 16, LOW_RANK, 2_000, **OF_SMOLLM2),
}
QUICK = {
    "head, all sentences": Part(
        "head", ALL, ("zoar", "scalar_newton", "adam"), 1_000, 1e-2, 1e-2, seeds=(0, 1, 2)
    ),
    "SmolLM2, adapters": Part(
        "adapters", 16, FEW[:2], 200, **OF_SMOLLM2 | {"seeds": SEEDS[:1], "checkpoints": 1}
    ),
}
SIZES = ((8, 4), (8, 16), (8, 64))
"""K and the sentences a query of the costs."""
LARGE = ((32, 16), (128, 32))
"""Likewise on an accelerator."""
LARGE_MODEL = ((8, 16), (32, 16))
"""Likewise for SmolLM2: full directions are K copies of it, which must fit."""


def measure(
    full: bool, only: Sequence[str] | None, earlier: dict[str, Any], model: str = MINILM
) -> dict[str, Any]:
    """The content of the JSON file.

    Args:
      full: all parts, or a quick choice.
      only: some of them.
      earlier: what an earlier run has measured; kept where it is not measured again, and is of
        another model or ``only`` is given.
      model: whose parts, a key of `TRAINED`.
    """
    if not only:
        earlier = of_others(earlier, model)
    chosen: dict[str, Part] = FULL if full else QUICK
    every = {name: part for name, part in chosen.items() if part.model == model}
    wanted = only or (*every, COSTS)
    parts = {name: part for name, part in every.items() if name in wanted}
    if set(wanted) - {*every, COSTS}:
        raise ValueError(f"only must name parts of {', '.join([*every, COSTS])}; got {only}.")
    data = data_of(model)
    with tqdm(total=sum(len(part.methods) for part in parts.values())) as bar:
        measured = {name: on_part(part, data, bar) for name, part in parts.items()}
    environment = report.environment()
    result = {
        "environment": environment,
        "length": LENGTH,
        "sentences": {name: len(each.labels) for name, each in data.sets().items()},
        "probe": earlier.get("probe") or (probe(data) if model == MINILM else None),
        "parts": earlier.get("parts", {}) | measured,
        "costs": earlier.get("costs", {}),
    }
    if COSTS in wanted:
        everything = TRAINED[model]["everything"](data)
        rows = costs.measure(everything, sizes(full, model), turns=5 if full else 3)
        row = {"environment": environment, "length": length_of(data), "rows": rows}
        device = environment["device"] + (BEHIND if model == SMOLLM2 else "")
        result["costs"] = result["costs"] | {device: row}
    return result


def of_others(earlier: dict[str, Any], model: str) -> dict[str, Any]:
    """What an earlier run has measured of other models, and the probe where it is of another."""
    if not earlier:
        return earlier
    of_smollm2 = model == SMOLLM2
    return {
        "probe": earlier.get("probe") if of_smollm2 else None,
        "parts": {k: x for k, x in earlier["parts"].items() if x.get("model", MINILM) != model},
        "costs": {k: x for k, x in earlier["costs"].items() if k.endswith(BEHIND) != of_smollm2},
    }


def data_of(model: str) -> reviews.Data:
    """The sentences as tokens of a model; their order is the same for all."""
    if model == MINILM:
        return reviews.load(LENGTH)
    return reviews.load(prompted.LENGTH, tokenized=prompted.tokenized)


def length_of(data: reviews.Data) -> int:
    """Tokens of a sentence."""
    return data.training.tokens.shape[1]


def sizes(full: bool, model: str = MINILM) -> tuple[tuple[int, int], ...]:
    """Those of the costs, on this machine."""
    if jax.default_backend() != "cpu":
        return LARGE if model == MINILM else LARGE_MODEL
    return SIZES if full and model == MINILM else SIZES[:1]


def probe(data: reviews.Data) -> float:
    """The accuracy of logistic regression on sentences' vectors."""
    training, validation, held_out = map(np.asarray, head(data).inputs)
    tried = [
        LogisticRegression(C=10.0**i, max_iter=5_000).fit(training, data.training.labels)
        for i in range(-4, 1)
    ]
    best = max(tried, key=lambda model: model.score(validation, data.validation.labels))
    return float(best.score(held_out, data.held_out.labels))


def on_part(part: Part, data: reviews.Data, bar: Any) -> dict[str, Any]:
    """The settings of a part, and a row for each method."""
    trained = TRAINED[part.model][part.trained](data)
    runs = on_task(part, task_of(trained, data, part), contenders(trained.split), bar)
    return runs | {
        "model": part.model,
        "length": length_of(data),
        "batch": part.batch or len(data.training.labels),
    }


def on_task(
    part: Part, task: tuning.Task, methods: Mapping[str, Method], bar: Any
) -> dict[str, Any]:
    """The settings of a part, and a row for each of its methods on a task."""
    rows = []
    for name in part.methods:
        bar.set_description(f"{part.trained}: {methods[name].label}")
        with jax.default_matmul_precision(part.precision):
            trial = tuning.Trial(methods[name], part.setting_of(name), task)
            measured = trial.measure(part.seeds)
        rows.append({"method": name, "kind": kind_of(name)} | measured)
        bar.update()
    return {
        "environment": report.environment(),
        "trained": part.trained,
        "batch": part.batch,
        "dimension": task.dimension,
        "budget": part.budget,
        "precision": part.precision,
        "radius": part.radius,
        "first_radius": part.first_radius,
        "num_directions": 8,
        "seeds": list(part.seeds),
        "tuning_seeds": tuning.tuning_seeds(),
        "rows": rows,
    }


def task_of(trained: Trained, data: reviews.Data, part: Part) -> tuning.Task:
    """The cross-entropy of batches that are new in every step, and the same in all its queries.

    The validation sentences' is what is noted and tuned for; what is tested is the accuracy on the
    held-out ones.
    """
    training, validation, held_out = trained.inputs
    labels = jnp.asarray(data.training.labels)

    def loss(logits, labels):
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def query(params, key, spent, level):
        if part.batch == ALL:
            return loss(trained.logits(params, training), labels)
        rows = jax.random.randint(key, (part.batch,), 0, len(labels))
        return loss(trained.logits(params, training[rows]), labels[rows])

    def validated(params, spent, level):
        return loss(trained.logits_of_many(params, validation), data.validation.labels)

    def accuracy(params):
        logits = trained.logits_of_many(params, held_out)
        return jnp.mean(jnp.argmax(logits, 1) == data.held_out.labels)

    return tuning.Task(
        query=query,
        measure=validated,
        start=lambda key: trained.params,
        dimension=sum(leaf.size for leaf in jax.tree.leaves(trained.params)),
        curvature=part.curvature,
        budget=part.budget,
        checkpoints=part.checkpoints,
        worst=lambda first, level: 2 * first,
        test=accuracy,
        together=1 if part.batch == ALL else tuning.together(),
    )
