"""The learning rates: their search, and the table that keeps them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.attack.attacker import Outcome, Setting, attackable, make_jobs, run_attacks
from benchmarks.common import report
from benchmarks.common.grid import LONGEST, Grid
from benchmarks.common.victim import Victim

TUNING_DIGITS = 300
"""The first held-out digits are for tuning, the others for the comparison."""
TUNING_SEED = 1000
IMAGES = 20
GUESSES: dict[str, int | None] = {
    "zo_sgd": -2,
    "zo_signsgd": -3,
    "zo_adamm": -3,
    "radazo": -3,
    "hizoo": -2,
    "zo_sah_1": 4,
    "zoar": -2,
    "zoar_hadamard": -2,
    "zoar_hadamard_8": -1,
    "scalar_newton_16": None,
    "zovh_1": -4,
    "zovh": -4,
}
"""The methods of the table, and the half decade around which to look for their learning rates;
None for those that have none."""


def tune(
    victim: Victim,
    setting: Setting,
    facts: dict[str, Any],
    path: Path,
    images: int,
    names: Sequence[str],
) -> None:
    """Tries rates around each method's guess until the best is inside; writes the table."""
    rows = attackable(victim, slice(0, TUNING_DIGITS), images)
    for name in names:
        guess = GUESSES[name]
        if guess is None:
            continue
        grid = searched(name, victim, setting, rows, guess)
        if not grid.interior:
            raise RuntimeError(
                f"{name} has its best learning rate at the edge of {LONGEST} half decades at "
                f"epsilon={setting.epsilon}, budget={setting.budget}: raise either."
            )
        chosen = half_decade(grid.best)
        keep_rates(path, facts, images, name, {"chosen": chosen, "grid": grid.in_order})
        keys = ("rate", "successes", "median_queries", "mean_queries")
        print(f"\n{name}, chosen: {chosen}")
        print(report.table(keys, [[report.plain(row[k]) for k in keys] for row in grid.in_order]))
    print(f"\nLearning rates: {path}")


def searched(name: str, victim: Victim, setting: Setting, rows: np.ndarray, guess: int) -> Grid:
    """The grid of a method's rates, grown until the best is inside or the grid too long."""

    def attempt(wanted: list[int]) -> dict[int, dict[str, Any]]:
        exponents = np.repeat(wanted, len(rows))
        rates = np.asarray([half_decade(i) for i in exponents])
        repeated = np.tile(rows, len(wanted))
        jobs = make_jobs(victim, repeated, np.full(len(repeated), TUNING_SEED), rates)
        outcome = run_attacks(name, victim.logits, jobs, setting)
        return {i: score(outcome, exponents == i, setting, i) for i in wanted}

    grid = Grid(attempt, "mean_queries")
    grid.grow(guess, spacing=1, ahead=1)
    return grid


def score(outcome: Outcome, rows: np.ndarray, setting: Setting, exponent: int) -> dict[str, Any]:
    """A learning rate's line in the tuned table."""
    queries, success = outcome.queries[rows], outcome.success[rows]
    return {
        "rate": half_decade(exponent),
        "attacks": len(success),
        "successes": int(success.sum()),
        "median_queries": quartiles(queries, success)[1],
        "mean_queries": float(np.where(success, queries, setting.budget).mean()),
    }


def quartiles(queries: np.ndarray, success: np.ndarray) -> list[int | None]:
    """Quartiles of queries to success; None where one lies among the attacks that failed."""
    censored = np.where(success, queries, np.inf)
    values = np.quantile(censored, (0.25, 0.5, 0.75), method="inverted_cdf")
    return [int(v) if np.isfinite(v) else None for v in values]


def successes(queries: np.ndarray, success: np.ndarray, within: Sequence[int]) -> dict[str, Any]:
    """How many attacks succeeded, in how many queries, and which share ``within`` so many."""
    q25, median, q75 = quartiles(queries, success)
    return {
        "attacks": len(success),
        "successes": int(success.sum()),
        "queries": {"q25": q25, "median": median, "q75": q75},
        "fooled": [
            {"within": most, "share": float((success & (queries <= most)).mean())}
            for most in within
        ],
    }


def keep_rates(path: Path, facts: dict[str, Any], images: int, name: str, entry: dict) -> None:
    """Writes a method's rates, beside those of others that were tuned on the same facts."""
    try:
        table = read(path)
    except ValueError as error:
        print(f"{error}: making it again.")
        table = {}
    key = str(facts["setting"]["epsilon"])
    old = table.get(key, {"methods": {}})
    facts = {**facts, "seed": TUNING_SEED, "images": images}
    same = not differing(old, facts) and all(
        old[part] == facts[part] for part in ("seed", "images")
    )
    others = old["methods"] if same else {}
    table[key] = {**facts, "methods": others | {name: entry}}
    report.write_json(path, {"epsilon": table})


def read(path: Path) -> dict[str, Any]:
    """The tables of a file by their epsilon; none if there is no file.

    Raises:
      ValueError: for a file that is no such table.
    """
    try:
        return json.loads(path.read_text())["epsilon"] if path.exists() else {}
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is not a table of learning rates") from None


def tuned_rates(path: Path, facts: dict[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """The methods' learning rates from the tuned table, if it was made for these attacks.

    Args:
      path: the table's.
      facts: ``setting`` and ``victim`` of the attacks to come.
      names: of the methods.
    """
    epsilon = facts["setting"]["epsilon"]
    remedy = f"python -m benchmarks attack --tune --epsilon {epsilon} --tuning {path}"
    try:
        tables = read(path)
    except ValueError as error:
        raise ValueError(f"{error}: make it anew with {remedy}") from None
    table = tables.get(str(epsilon), {"methods": {}})
    missing = [n for n in names if n not in table["methods"] and GUESSES[n] is not None]
    if missing:
        raise ValueError(
            f"epsilon={epsilon} has no learning rates for {', '.join(missing)} in {path}, which "
            f"has epsilon={', '.join(tables) or 'none'}: make them with {remedy}"
        )
    # How many queries an attack may cost changes what is reported, hardly which rate is best.
    changes = [change for change in differing(table, facts) if not change.startswith("budget")]
    if changes:
        raise ValueError(
            f"the learning rates in {path} were tuned for other attacks ({', '.join(changes)}): "
            f"make them anew with {remedy}"
        )
    chosen = {name: found["chosen"] for name, found in table["methods"].items()}
    return {name: chosen[name] if GUESSES[name] is not None else None for name in names}


def differing(table: dict[str, Any], facts: dict[str, Any]) -> list[str]:
    """What of the setting and of the victim's settings is another in a table from a file."""
    now = {**facts["setting"], **facts["victim"]}
    then = {**table.get("setting", {}), **table.get("victim", {})}
    # A network trained elsewhere may get a digit more or less right: it is the same victim.
    now.pop("accuracy", None)
    now = json.loads(json.dumps(now))  # tuples as lists
    return [f"{k}={then.get(k)!r}, now {now[k]!r}" for k in now if then.get(k) != now[k]]


def half_decade(exponent: int) -> float:
    """10^(exponent/2) to one digit: 0.1, 0.3, 1, 3, 10."""
    return float(f"{10 ** (exponent / 2):.1g}")
