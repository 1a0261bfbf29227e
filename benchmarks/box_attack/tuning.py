"""The choice of settings, for every contender alike, and the table that keeps it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attack.attacker import attackable
from benchmarks.attack.rates import TUNING_DIGITS, TUNING_SEED
from benchmarks.box_attack.contenders import CONTENDERS
from benchmarks.box_attack.game import Outcome, keys_of, play
from benchmarks.common import report
from benchmarks.common.victim import Victim


def score(outcome: Outcome, budget: int) -> float:
    """The mean number of queries; an attack that failed counts the budget."""
    return float(np.where(outcome.success, outcome.queries, budget).mean())


def choose(
    name: str, victim: Victim, epsilon: float, budget: int, images: int
) -> list[dict[str, Any]]:
    """What each choice of settings needs on the tuning digits, in the order of the choices."""
    rows = attackable(victim, slice(0, TUNING_DIGITS), images)
    who, found = CONTENDERS[name], []
    for settings in who.choices:
        outcome = play(
            name, who.make(**settings), victim, epsilon, budget, rows, keys_of(TUNING_SEED, rows)
        )
        found.append(
            {
                "settings": settings,
                "mean_queries": score(outcome, budget),
                "successes": int(outcome.success.sum()),
            }
        )
    return found


def chosen(path: Path, victim_name: str, name: str) -> list[dict[str, Any]]:
    """The settings of a contender in the table: the published ones, and the best if others.

    Where nobody was tuned against a victim, those chosen against the standard one.

    Raises:
      ValueError: if the contender has not been tuned.
    """
    who = CONTENDERS[name]
    if len(who.choices) == 1:
        return list(who.choices)
    table = json.loads(path.read_text())["victims"] if path.exists() else {}
    try:
        grid = table.get(victim_name, table["standard"])["methods"][name]
    except KeyError:
        raise ValueError(
            f"{path} has no settings for {name} against the {victim_name} victim: make them with "
            f"python -m benchmarks box-attack --tune --victims {victim_name} --methods {name}"
        ) from None
    best = min(grid, key=lambda row: row["mean_queries"])["settings"]
    first = who.choices[0]
    return [best] if who.own or best == first else [first, best]


def keep(path: Path, victim_name: str, facts: dict[str, Any], name: str, grid: list) -> None:
    """Writes a contender's grid beside those of the others."""
    table = json.loads(path.read_text())["victims"] if path.exists() else {}
    methods = table.get(victim_name, {}).get("methods", {})
    table[victim_name] = {**facts, "seed": TUNING_SEED, "methods": methods | {name: grid}}
    report.write_json(path, {"victims": table})
