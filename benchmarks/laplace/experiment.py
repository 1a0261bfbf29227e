"""Posteriors of every structure at every number of queries."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.common import report, tuning
from benchmarks.laplace import scores
from benchmarks.laplace.contenders import CONTENDERS, Found, entries, estimator, exact
from benchmarks.laplace.tasks import Kind, Task, load

RADII = (0.01, 0.03, 0.1, 0.3)
"""All that are tried."""
NEAR, TINY = 1.05, 1e-3
"""Divergences count as equal up to this factor, and so many nats."""
LABELS = {"map": "MAP", "exact": "exact Hessian"} | {n: c.label for n, c in CONTENDERS.items()}
TUNING_SEED, TUNING_BUDGET = 1_000, 1_000
"""The split, and the queries, that the radius of a structure is chosen with."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run."""

    kinds: tuple[Kind, ...]
    budgets: tuple[int, ...]
    seeds: int
    samples: int
    contenders: tuple[str, ...] = tuple(CONTENDERS)


KINDS = (
    Kind("breast cancer, last layer", "cancer", 48, False, 200),
    Kind("digits, last layer", "digits", 6, False, 400),
    Kind("breast cancer, network", "cancer", 4, True, 200),
    Kind("digits, network", "digits", 6, True, 400),
)
FULL = Size(KINDS, (100, 1_000, 10_000, 100_000), 3, 100)
QUICK = Size(KINDS[:2], (100, 1_000), 1, 50)


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    tasks, rows = [], []
    for kind in tqdm(size.kinds, desc="tasks"):
        facts, found = of_kind(kind, size)
        tasks.append(facts)
        rows += found
    return {
        "environment": report.environment(),
        "setting": {
            "budgets": size.budgets,
            "seeds": size.seeds,
            "samples": size.samples,
            "tuning_seed": TUNING_SEED,
        },
        "tasks": tasks,
        "rows": rows,
    }


def of_kind(kind: Kind, size: Size) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What a task is, and its rows."""
    held_back = load(kind, TUNING_SEED)
    tasks = [load(kind, seed) for seed in range(size.seeds)]
    d = held_back.dimension

    def row(method: str, found: list[dict[str, float]], budget=0, queries=0, radius=None):
        names = {"task": kind.title, "method": method, "label": LABELS[method]}
        cost = {"budget": budget, "queries": queries, "radius": radius}
        spread = {key: tuning.each(np.array([f[key] for f in found])) for key in found[0]}
        return names | cost | spread

    rows = [row("map", [scores.of_map(task) for task in tasks])]
    rows.append(row("exact", [scores.of_posterior(t, exact(t, size.samples)) for t in tasks]))
    for name in size.contenders:
        contender = CONTENDERS[name]
        pairs = contender.runs(size.budgets, d, kind.whole)
        if not pairs:
            continue
        made = {n: estimator(held_back.mask, contender.make(n), size.samples) for n in pairs}
        tuned_with = min((n for n, b in pairs.items() if b >= TUNING_BUDGET), default=max(pairs))
        radius = best_radius(made[tuned_with], held_back)
        for n, budget in pairs.items():
            found = [
                scores.of_posterior(task, asked(made[n], task, radius, seed))
                for seed, task in enumerate(tasks)
            ]
            rows.append(row(name, found, budget, 2 * n + 1, radius))
    facts = {
        "task": kind.title,
        "dimension": d,
        "entries": entries(d),
        "examples": kind.train_size,
        "test_examples": len(held_back.split.test_labels),
        "prior_precisions": [tuning.tidy(task.prior_precision) for task in tasks],
    }
    return facts, rows


def best_radius(run: Callable[..., Found], task: Task) -> float:
    """The largest radius with which the posterior is as near to the exact one as with the best."""
    found = [asked(run, task, radius, TUNING_SEED) for radius in RADII]
    distances = np.array([scores.divergence(task, f.precision) for f in found])
    near = distances <= NEAR * np.nanmin(distances) + TINY
    return max(radius for radius, good in zip(RADII, near, strict=True) if good)


def asked(run: Callable[..., Found], task: Task, radius: float, seed: int) -> Found:
    """A posterior from values of a task's loss."""
    data = task.split.inputs, task.split.labels
    return run(task.params, *data, task.prior_precision, radius, jax.random.key(seed))
