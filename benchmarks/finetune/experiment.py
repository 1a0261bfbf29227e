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
from benchmarks.finetune import costs, reviews
from benchmarks.finetune.contenders import CONTENDERS, kind_of
from benchmarks.finetune.trained import TRAINED, Trained, everything, head

LENGTH = 32
"""Tokens of a sentence; three in ten are longer and cut."""
SEEDS = (0, 1, 2, 3, 4)
"""Of the reported runs."""
ALL = 0
"""The size of a batch of all sentences."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Runs of some methods on the same parameters.

    Attributes:
      trained: which, a name of `TRAINED` or a size of `scale`.
      batch: sentences a forward; all training sentences where it is `ALL`.
      methods: names of contenders.
      budget: forwards of a run, each of a batch.
      radius: of the tuned methods.
      first_radius: of the methods without a learning rate.
      curvature: where the grid of learning rates starts, as of a Hessian with such eigenvalues.
      seeds: of the reported runs.
      checkpoints: how often a run is tested.
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

    def setting_of(self, name: str) -> Setting:
        """The setting of a method."""
        radius = self.radius if CONTENDERS[name].tuned else self.first_radius
        return Setting(num_directions=8, radius=radius)


HEAD = (
    *("mezo", "zoar_1", "zoar", "zovh", "radazo", "fzoo"),
    *("poem", "scalar_newton", "low_rank_newton", "diagonal_newton"),
    "adam",
)
FEW = ("mezo", "zoar_low_rank", "zoar_signs", "scalar_newton")
COSTS = "costs"
"""The part that times steps."""
FULL = {
    "head, all sentences": Part("head", ALL, HEAD, 2_000, 1e-2, 1e-2),
    "head, batches of 256": Part("head", 256, HEAD, 10_000, 1e-2, 1e-2),
    "everything": Part("everything", 16, FEW, 5_000),
    "adapters": Part("adapters", 16, FEW, 5_000),
    "biases": Part("biases", 16, FEW, 5_000),
    "scales": Part("scales", 16, FEW, 5_000),
}
QUICK = {
    "head, all sentences": Part(
        "head", ALL, ("zoar", "scalar_newton", "adam"), 1_000, 1e-2, 1e-2, seeds=(0, 1, 2)
    ),
}
SIZES = ((8, 4), (8, 16), (8, 64))
"""K and the sentences a query of the costs."""
LARGE = ((32, 16), (128, 32))
"""Likewise on an accelerator."""


def measure(full: bool, only: Sequence[str] | None, earlier: dict[str, Any]) -> dict[str, Any]:
    """The content of the JSON file.

    Args:
      full: all parts, or a quick choice.
      only: some of them.
      earlier: what an earlier run has measured; kept where it is not measured again.
    """
    every: dict[str, Part] = FULL if full else QUICK
    wanted = only or (*every, COSTS)
    parts = {name: part for name, part in every.items() if name in wanted}
    if not parts and COSTS not in wanted:
        raise ValueError(f"only must name parts of {', '.join([*every, COSTS])}; got {only}.")
    data = reviews.load(LENGTH)
    with tqdm(total=sum(len(part.methods) for part in parts.values())) as bar:
        measured = {name: on_part(part, data, bar) for name, part in parts.items()}
    environment = report.environment()
    result = {
        "environment": environment,
        "length": LENGTH,
        "sentences": {name: len(each.labels) for name, each in data.sets().items()},
        "probe": earlier.get("probe") or probe(data),
        "parts": earlier.get("parts", {}) | measured,
        "costs": earlier.get("costs", {}),
    }
    if COSTS in wanted:
        rows = costs.measure(everything(data), sizes(full), turns=5 if full else 3)
        row = {"environment": environment, "length": LENGTH, "rows": rows}
        result["costs"] = result["costs"] | {environment["device"]: row}
    return result


def sizes(full: bool) -> tuple[tuple[int, int], ...]:
    """Those of the costs, on this machine."""
    if jax.default_backend() != "cpu":
        return LARGE
    return SIZES if full else SIZES[:1]


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
    task = task_of(TRAINED[part.trained](data), data, part)
    return on_task(part, task, CONTENDERS, bar) | {"batch": part.batch or len(data.training.labels)}


def on_task(
    part: Part, task: tuning.Task, methods: Mapping[str, Method], bar: Any
) -> dict[str, Any]:
    """The settings of a part, and a row for each of its methods on a task."""
    rows = []
    for name in part.methods:
        bar.set_description(f"{part.trained}: {methods[name].label}")
        # On a GPU products are rounded more than small perturbations of weights are worth.
        with jax.default_matmul_precision("highest"):
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

    def loss(params, inputs, labels):
        logits = trained.logits(params, inputs)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    def query(params, key, spent, level):
        if part.batch == ALL:
            return loss(params, training, labels)
        rows = jax.random.randint(key, (part.batch,), 0, len(labels))
        return loss(params, training[rows], labels[rows])

    def accuracy(params):
        return jnp.mean(jnp.argmax(trained.logits(params, held_out), 1) == data.held_out.labels)

    return tuning.Task(
        query=query,
        measure=lambda params, spent, level: loss(params, validation, data.validation.labels),
        start=lambda key: trained.params,
        dimension=sum(leaf.size for leaf in jax.tree.leaves(trained.params)),
        curvature=part.curvature,
        budget=part.budget,
        checkpoints=part.checkpoints,
        worst=lambda first, level: 2 * first,
        test=accuracy,
        # Small batches leave most of an accelerator idle.
        together=1 if part.batch == ALL or jax.default_backend() == "cpu" else tuning.TOGETHER,
    )
