"""How much noise each method stands: what is left after equal queries, by kind and level.

Two problems in d = 10³ from a standard normal start, a quadratic with condition number 100 and
Rosenbrock's function, are seen through noise (`zo.problems.noisy`), new at every point and step:

- additive: f + level·z, z standard normal;
- multiplicative: f·(1 + level·z);
- discontinuous: f rounded to a multiple of the level.

Additive and discontinuous levels are fractions of f at the start. The learning rate is tuned anew
for each method, problem, kind and level, on another seed, by what the method is judged by: the
regret, the mean noise-free value over the last fifth of the run (both functions are 0 at their
least). Every query is charged.

DIR/noise.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size
  dimension, budget (queries of a run)
  seeds         of the reported runs; tuning_seeds, of the others
  start         {problem: f at the start}
  rows          for each problem, kind, level and method:
    problem, kind, level, method, label, queries_per_step
    learning_rate, interior (whether rates on both sides are worse), grid: [{rate, score, diverged}]
    queries_spent, diverged (how many runs ended above twice their start)
    score       the regret: {median, least, most, each} over the seeds
    final       the noise-free value at the end, likewise
"""

import argparse
import dataclasses
from typing import Any

import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks import report, tuning
from benchmarks.methods import METHODS, Setting

SEEDS = (0, 1, 2)
PROBLEMS = {
    "quadratic, condition 100": zo.problems.quadratic(100.0),
    "rosenbrock": zo.problems.rosenbrock(),
}
KINDS = {"additive": True, "multiplicative": False, "discontinuous": True}
"""The kinds of noise, and whether their levels are fractions of f at the start."""
COMPARED = ("zo_sgd", "mezo", "radazo_reuse", "zoar_1", "zoar", "zovh", "hizoo")


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything is run."""

    dimension: int
    budget: int
    problems: tuple[str, ...]
    levels: tuple[float, ...]
    methods: tuple[str, ...]


FULL = Size(1_000, 9_000, tuple(PROBLEMS), (0.0, 1e-4, 1e-3, 1e-2, 1e-1), COMPARED)
QUICK = Size(100, 1_500, tuple(PROBLEMS)[:1], (0.0, 1e-3, 1e-1), ("zo_sgd", "mezo", "zoar", "zovh"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # the common options are all


def run(args: argparse.Namespace) -> None:
    result = experiment(FULL if args.full else QUICK)
    for text in tables(result).values():
        print(f"\n{text}")
    report.write_json(args.out / "noise.json", result)
    from benchmarks.noise_plot import plot

    plot(result, args.out / "noise.png")
    print(f"\nNumbers: {args.out / 'noise.json'}\nPicture: {args.out / 'noise.png'}")


def experiment(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    setting = Setting()
    plan = [(p, kind, m) for p in size.problems for kind in KINDS for m in size.methods]
    start, rows = {}, []
    for problem, kind, name in tqdm(plan, desc="noise"):
        f = PROBLEMS[problem]
        start[problem] = tuning.tidy(float(f(f.start(size.dimension))))
        trial = tuning.Trial(METHODS[name], setting, task_of(f, kind, size))
        for level in size.levels:
            if level == 0 and kind != next(iter(KINDS)):
                continue  # no noise is the same of any kind
            scaled = level * start[problem] if KINDS[kind] else level
            row = {"problem": problem, "kind": kind if level else "none", "level": level}
            row |= {"method": name} | trial.measure(SEEDS, level=scaled, curve=False)
            rows.append(row)
    return {
        "environment": report.environment(),
        "setting": dataclasses.asdict(setting),
        "dimension": size.dimension,
        "budget": size.budget,
        "seeds": list(SEEDS),
        "tuning_seeds": tuning.tuning_seeds(),
        "start": start,
        "rows": rows,
    }


def task_of(problem: zo.problems.Problem, kind: str, size: Size) -> tuning.Task:
    quiet = tuning.of_problem(problem, size.dimension, budget=size.budget)
    return dataclasses.replace(
        quiet,
        query=lambda x, key, spent, level: zo.problems.noisy(problem, kind, level)(x, key),
        score=lambda values: float(np.mean(values[-(len(values) // 5) :])),
        worst=lambda first, level: 2 * first,  # noise alone leads a little above the start
    )


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A table for each problem: its regrets, by method (across) and noise (down)."""
    shown = {}
    for problem in result["start"]:
        rows = [row for row in result["rows"] if row["problem"] == problem]
        labels = list(dict.fromkeys(row["label"] for row in rows))
        kinds = ["none", *KINDS]
        noises = sorted(
            {(row["kind"], row["level"]) for row in rows}, key=lambda n: (kinds.index(n[0]), n[1])
        )
        found = {(row["kind"], row["level"], row["label"]): row for row in rows}
        lines = []
        for kind, level in noises:
            cells = report.bold_least([found[kind, level, label] for label in labels], "score")
            lines.append([f"{kind} {level:g}" if level else kind, *cells])
        name = problem.split(",")[0]
        shown[name] = report.table([f"{problem}: noise", *labels], lines)
    return shown


__all__ = ["add_arguments", "run", "tables"]
