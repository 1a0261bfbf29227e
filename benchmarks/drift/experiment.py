"""Tracking errors on a bowl that moves: contenders, tasks, runs."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import tuning
from benchmarks.common.methods import METHODS, NOISY, Method, Setting, zoar, zovh
from benchmarks.common.tuning import SEEDS

NUM_TUNING_SEEDS = 3
RULES = {
    "uniform": zo.reuse.uniform(),
    "levels": zo.reuse.levels(),
    "discounted 0.7": zo.reuse.discounted(0.7),
    "adaptive": zo.reuse.adaptive(),
    "importance": zo.reuse.importance(),
}
DIMENSION = 100


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run."""

    budget: int
    speeds: tuple[float, ...]
    histories: tuple[int, ...]
    rules: tuple[str, ...]


FULL = Size(6_000, (1e-3, 3e-3, 1e-2, 3e-2), (2, 4, 8, 16), tuple(RULES))
QUICK = Size(2_000, (1e-3, 1e-2), (4,), ("uniform", "adaptive"))


@dataclasses.dataclass(frozen=True)
class Contender:
    """A method with a rule and a number of rounds."""

    name: str
    method: Method
    rule: str | None
    history_size: int


def contenders(size: Size) -> list[Contender]:
    """Methods without reuse or without a rate, ZoAR with every rule and history, and ZoVH."""
    found = [Contender(name, METHODS[name], None, 1) for name in ("zo_sgd", "mezo", "zoar_1")]
    for rule in size.rules:
        method = zoar(f"ZoAR, {rule}", history=True, reuse=RULES[rule])
        found += [Contender("zoar", method, rule, n) for n in size.histories]
        if rule in ("uniform", "adaptive"):
            method = zovh(f"ZoVH, {rule}", history=True, reuse=RULES[rule])
            found.append(Contender("zovh", method, rule, 4))
    return found + [Contender(name, method, None, 1) for name, method in NOISY.items()]


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    rows, task = [], task_of(size.budget)
    for who in tqdm(contenders(size), desc="drift"):
        setting = Setting(history_size=who.history_size)
        trial = tuning.Trial(who.method, setting, task)
        for speed in size.speeds:
            row = {
                "speed": speed,
                "method": who.name,
                "rule": who.rule,
                "history_size": who.history_size,
            }
            measured = trial.measure(
                SEEDS, level=speed, curve=False, num_tuning_seeds=NUM_TUNING_SEEDS
            )
            rows.append(row | measured)
    facts = tuning.facts(Setting(), NUM_TUNING_SEEDS)
    del facts["setting"]["history_size"]  # each row has its own
    return {
        **facts,
        "dimension": DIMENSION,
        "budget": size.budget,
        "rows": rows,
    }


def task_of(budget: int) -> tuning.Task:
    """The task of following the bowl, which has speed 1: its time is the level times queries."""
    bowl = zo.problems.quadratic()
    moving = zo.problems.drifting(bowl, 1.0, key=jax.random.key(42))

    def distance(x, spent, speed):
        return jnp.linalg.norm(x - moving.minimizer(DIMENSION, speed * spent))

    return tuning.Task(
        query=lambda x, key, spent, speed: moving(x, speed * spent),
        measure=distance,
        start=lambda key: bowl.start(DIMENSION, key),
        dimension=DIMENSION,
        curvature=1.0,
        budget=budget,
        checkpoints=100,
        score=lambda values: float(np.mean(values[len(values) // 2 :])),
        worst=lambda first, speed: first + speed * budget,
    )
