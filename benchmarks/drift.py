"""How well each method follows an objective that moves while it is asked.

A bowl, ½‖θ − θ*(t)‖² in d = 100, whose minimiser moves along a line at constant speed; time is
counted in queries. A method starts away from it (standard normal) and is judged by the tracking
error: the mean of ‖θ − θ*‖ over the second half of the run. The learning rate is tuned for each
method and speed by the same, on another seed. What is asked: how many rounds are worth reusing, and
whether rules that distrust old rounds (`zo.reuse`) help.

DIR/drift.json:
  environment   versions and machine
  setting       num_directions, radius, damping
  dimension, budget (queries of a run)
  seeds         of the reported runs; tuning_seeds, of the others
  rows          for each speed and contender:
    speed       distance that the minimiser moves in the time of a query
    method, rule (of reuse; null without), history_size (rounds, 1: no reuse), label
    queries_per_step, learning_rate, interior (whether rates on both sides are worse),
    grid: [{rate, score, diverged}]; queries_spent
    diverged    how many runs ended further from the minimiser than standing still ever would
    score       the tracking error: {median, least, most, each} over the seeds
    final       the distance at the end, likewise
"""

import argparse
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks import report, tuning
from benchmarks.methods import METHODS, Method, Setting, zoar, zovh

SEEDS = (0, 1, 2)
NUM_TUNING_SEEDS = 3
RULES = {
    "uniform": zo.reuse.uniform(),
    "discounted 0.7": zo.reuse.discounted(0.7),
    "adaptive": zo.reuse.adaptive(),
    "importance": zo.reuse.importance(),
}
DIMENSION = 100


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything is run."""

    budget: int
    speeds: tuple[float, ...]
    histories: tuple[int, ...]
    rules: tuple[str, ...]


FULL = Size(6_000, (1e-3, 3e-3, 1e-2, 3e-2), (2, 4, 8, 16), tuple(RULES))
QUICK = Size(2_000, (1e-3, 1e-2), (4,), ("uniform", "adaptive"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # the common options are all


def run(args: argparse.Namespace) -> None:
    result = experiment(FULL if args.full else QUICK)
    for text in tables(result).values():
        print(f"\n{text}")
    report.write_json(args.out / "drift.json", result)
    from benchmarks.drift_plot import plot

    plot(result, args.out / "drift.png")
    print(f"\nNumbers: {args.out / 'drift.json'}\nPicture: {args.out / 'drift.png'}")


@dataclasses.dataclass(frozen=True)
class Contender:
    """A method with a rule and a number of rounds."""

    name: str
    method: Method
    rule: str | None
    history_size: int


def contenders(size: Size) -> list[Contender]:
    """Methods without reuse, ZoAR with every rule and history, and ZoVH."""
    found = [Contender(name, METHODS[name], None, 1) for name in ("zo_sgd", "mezo", "zoar_1")]
    for rule in size.rules:
        method = zoar(f"ZoAR, {rule}", history=True, reuse=RULES[rule])
        found += [Contender("zoar", method, rule, n) for n in size.histories]
        if rule in ("uniform", "adaptive"):
            method = zovh(f"ZoVH, {rule}", history=True, reuse=RULES[rule])
            found.append(Contender("zovh", method, rule, 4))
    return found


def experiment(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    rows, task = [], task_of(size.budget)
    tuned = {"num_tuning_seeds": NUM_TUNING_SEEDS}
    for who in tqdm(contenders(size), desc="drift"):
        setting = Setting(history_size=who.history_size)
        trial = tuning.Trial(who.method, setting, task)
        for speed in size.speeds:
            row = {"speed": speed, "method": who.name, "rule": who.rule}
            row |= {"history_size": who.history_size}
            rows.append(row | trial.measure(SEEDS, level=speed, curve=False, **tuned))
    shared = dataclasses.asdict(Setting())
    del shared["history_size"]
    return {
        "environment": report.environment(),
        "setting": shared,
        "dimension": DIMENSION,
        "budget": size.budget,
        "seeds": list(SEEDS),
        "tuning_seeds": tuning.tuning_seeds(NUM_TUNING_SEEDS),
        "rows": rows,
    }


def task_of(budget: int) -> tuning.Task:
    """``level`` is the speed: the bowl has speed 1, its time is speed times queries."""
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


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Tracking errors: contenders down the side, speeds across."""
    rows = result["rows"]
    speeds = list(dict.fromkeys(row["speed"] for row in rows))
    names = list(dict.fromkeys((row["label"], row["history_size"]) for row in rows))
    found = {(row["label"], row["history_size"], row["speed"]): row for row in rows}
    columns = [report.bold_least([found[(*name, s)] for name in names], "score") for s in speeds]
    lines = [[label, size, *cells] for (label, size), *cells in zip(names, *columns, strict=True)]
    return {"drift": report.table(["method", "rounds N", *(f"speed {s:g}" for s in speeds)], lines)}


__all__ = ["add_arguments", "run", "tables"]
