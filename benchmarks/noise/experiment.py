"""Regrets under noise: problems, kinds and levels, runs."""

import dataclasses
from typing import Any

import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import tuning
from benchmarks.common.methods import METHODS, NOISY, Setting
from benchmarks.common.tuning import SEEDS

PROBLEMS = {
    "quadratic, condition 100": zo.problems.quadratic(100.0),
    "rosenbrock": zo.problems.rosenbrock(),
}
KINDS = {"additive": True, "multiplicative": False, "discontinuous": True}
"""The kinds of noise, and whether their levels are fractions of f at the start."""
COMPARED = ("zo_sgd", "mezo", "radazo_reuse", "zoar_1", "zoar", "zovh", "hizoo", *NOISY)


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run."""

    dimension: int
    budget: int
    problems: tuple[str, ...]
    levels: tuple[float, ...]
    methods: tuple[str, ...]


FULL = Size(1_000, 9_000, tuple(PROBLEMS), (0.0, 1e-4, 1e-3, 1e-2, 1e-1), COMPARED)
QUICK = Size(100, 1_500, tuple(PROBLEMS)[:1], (0.0, 1e-3, 1e-1), ("zo_sgd", "mezo", "zoar", "zovh"))


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    setting = Setting()
    plan = [(p, kind, m) for p in size.problems for kind in KINDS for m in size.methods]
    start: dict[str, float] = {}
    rows = []
    for problem, kind, name in tqdm(plan, desc="noise"):
        f = PROBLEMS[problem]
        start[problem] = tuning.tidy(float(f(f.start(size.dimension))))
        trial = tuning.Trial((METHODS | NOISY)[name], setting, task_of(f, kind, size))
        for level in size.levels:
            if level == 0 and kind != next(iter(KINDS)):
                continue  # no noise is the same of any kind
            scaled = level * start[problem] if KINDS[kind] else level
            row = {
                "problem": problem,
                "kind": kind if level else "none",
                "level": level,
                "method": name,
            }
            rows.append(row | trial.measure(SEEDS, level=scaled, curve=False))
    return {
        **tuning.facts(setting),
        "dimension": size.dimension,
        "budget": size.budget,
        "start": start,
        "rows": rows,
    }


def task_of(problem: zo.problems.Problem, kind: str, size: Size) -> tuning.Task:
    """The task of minimising a function that is seen through noise of the run's level."""
    quiet = tuning.of_problem(problem, size.dimension, budget=size.budget)
    return dataclasses.replace(
        quiet,
        query=lambda x, key, spent, level: zo.problems.noisy(problem, kind, level)(x, key),
        score=lambda values: float(np.mean(values[-(len(values) // 5) :])),
        worst=lambda first, level: 2 * first,  # noise alone leads a little above the start
    )
