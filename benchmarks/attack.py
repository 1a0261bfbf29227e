"""Black-box attacks on a digit classifier: queries until the network is fooled.

`benchmarks.victim` says what is attacked, `benchmarks.attacker` how, and what is charged. Held-out
images that the network gets right are attacked once for every seed, with the same directions for
every method. Two controls are ZoAR, without and with reuse, at the learning rate η/λ of ZoVH: where
the dimension is far above the number of directions the two are nearly the same.

Learning rates come from ``benchmarks/results/attack_tuning.json``, which ``--tune`` makes: each
method has its own grid of half decades, extended until the best rate is inside it; the best has
the least mean number of queries, where an attack that fails counts its whole budget. Tuning uses
the first 300 held-out digits and a seed of its own, reports the other 700.

DIR/attack.json:
  environment   versions and machine
  setting       epsilon, num_directions, radius, damping, history_size, budget
  victim        its settings and held-out accuracy
  seeds         of the attacks
  methods       one entry a row of the table, in its order:
    method, label, learning_rate, control
    attacks, successes
    queries     {q25, median, q75}: queries to success; null where above the budget
    image, seed, label_true, success, queries_spent
                one value an attack; image counts from the first held-out digit
    margin      {queries, q25, median, q75}: the margin after so many queries, over the attacks;
                an attack that has ended holds its last one

attack_tuning.json:
  epsilon.E     for ±E: environment, setting, victim, seed, images, and methods.NAME:
    chosen      the learning rate
    grid        for each rate: rate, attacks, successes, median_queries (null where above the
                budget), mean_queries (failures at the budget)
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import attack_plot, report
from benchmarks.attacker import METHODS, Jobs, Outcome, Setting, run_attacks
from benchmarks.victim import Settings, Victim, load

HERE = Path(__file__).parent
TUNING_DIGITS = 300
TUNING_SEED = 1000
TUNING_IMAGES = 40
GRIDS = {"zo_sgd": (-4, 0), "zoar": (-4, 0), "zovh": (-6, -2), "zovh_reuse": (-6, -2)}
"""First and last half decade to try."""
LONGEST_GRID = 12
CONTROLS = {
    "zoar_no_reuse": ("zovh", "ZoAR, no reuse, at ZoVH's η/λ"),
    "zoar": ("zovh_reuse", "ZoAR at ZoVH + reuse's η/λ"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--epsilon", type=float, default=0.3, help="largest change of a pixel (0.3; ZoVH's: 0.2)")
    add("--budget", type=int, default=Setting.budget, help=f"queries an image ({Setting.budget})")
    add("--images", type=int, help="images attacked (quick: 32, full: 200)")
    add("--tune", action="store_true", help="tune the learning rates instead, for this epsilon")
    add("--tuning", type=Path, default=HERE / "results" / "attack_tuning.json", help="their file")
    add("--cache", type=Path, default=HERE.parent / ".cache", help="where the victim is kept")


def run(args: argparse.Namespace) -> None:
    setting = Setting(epsilon=args.epsilon, budget=args.budget)
    victim = load(args.cache, Settings())
    print(f"Victim: {victim.accuracy:.1%} of the held-out digits right; kept in {args.cache}")
    facts = {
        "environment": report.environment(),
        "setting": dataclasses.asdict(setting),
        "victim": {**dataclasses.asdict(victim.settings), "accuracy": victim.accuracy},
    }
    if args.tune:
        tune(victim, setting, facts, args.tuning, args.images or TUNING_IMAGES)
    else:
        seeds = range(3 if args.full else 1)
        images = args.images or (200 if args.full else 32)
        rates = tuned_rates(args.tuning, setting.epsilon)
        compare(victim, setting, facts, rates, images, seeds, args.out)


def compare(
    victim: Victim,
    setting: Setting,
    facts: dict[str, Any],
    rates: dict[str, float],
    images: int,
    seeds: range,
    out: Path,
) -> None:
    """Runs every method at its rate, and the controls; prints the table, writes the files."""
    rows = attackable(victim, slice(TUNING_DIGITS, None), images)
    rows, seed_of = np.tile(rows, len(seeds)), np.repeat(seeds, len(rows))
    entries, outcomes = [], {}
    plan = [(name, rates[name], label, False) for name, label in METHODS.items()]
    for name, (of, label) in CONTROLS.items():
        plan.append((name, tidy(rates[of] / setting.damping), label, True))
    for name, rate, label, control in plan:
        if (name, rate) not in outcomes:
            jobs = make_jobs(victim, rows, seed_of, np.full(len(rows), rate))
            outcomes[name, rate] = run_attacks(name, victim.logits, jobs, setting)
        outcome = outcomes[name, rate]
        entry = {"method": name, "label": label, "learning_rate": rate, "control": control}
        entry |= summary(outcome) | {"image": rows.tolist(), "seed": seed_of.tolist()}
        entry |= {
            "label_true": victim.labels[rows].tolist(),
            "success": outcome.success.tolist(),
            "queries_spent": outcome.queries.tolist(),
            "margin": margin_curve(outcome, setting),
        }
        entries.append(entry)

    print()
    print_table(entries, setting)
    report.write_json(out / "attack.json", {**facts, "seeds": list(seeds), "methods": entries})
    shown = [(entry, outcomes[entry["method"], entry["learning_rate"]]) for entry in entries]
    attack_plot.save(out / "attack.png", victim, setting, shown[: len(METHODS)])
    print(f"\nNumbers: {out / 'attack.json'}\nPicture: {out / 'attack.png'}")


def tune(victim: Victim, setting: Setting, facts: dict[str, Any], path: Path, images: int) -> None:
    """Tries every method's grid, extends it where the best is at an edge, writes the table."""
    rows = attackable(victim, slice(0, TUNING_DIGITS), images)
    methods = {}
    for name, (first, last) in GRIDS.items():
        tried: dict[int, dict[str, Any]] = {}
        wanted = list(range(first, last + 1))
        while wanted:
            exponents = np.repeat(wanted, len(rows))
            rates = np.asarray([half_decade(i) for i in exponents])
            repeated = np.tile(rows, len(wanted))
            jobs = make_jobs(victim, repeated, np.full(len(repeated), TUNING_SEED), rates)
            outcome = run_attacks(name, victim.logits, jobs, setting)
            tried |= {i: score(outcome, exponents == i, setting, i) for i in wanted}
            best = min(tried, key=lambda i: (tried[i]["mean_queries"], i))
            wanted = [i for i in (best - 1, best + 1) if i not in tried]
            if wanted and len(tried) >= LONGEST_GRID:
                raise RuntimeError(
                    f"{name} has its best learning rate at the edge of {LONGEST_GRID} half "
                    f"decades at epsilon={setting.epsilon}, budget={setting.budget}: raise either."
                )
        grid = [tried[i] for i in sorted(tried)]
        methods[name] = {"chosen": half_decade(best), "grid": grid}
        keys = ("rate", "successes", "median_queries", "mean_queries")
        print(f"\n{name}, chosen: {half_decade(best)}")
        print(report.table(keys, [[shown(row[k]) for k in keys] for row in grid]))

    table = json.loads(path.read_text()) if path.exists() else {"epsilon": {}}
    entry = {**facts, "seed": TUNING_SEED, "images": images, "methods": methods}
    table["epsilon"][str(setting.epsilon)] = entry
    report.write_json(path, table)
    print(f"\nLearning rates: {path}")


def tuned_rates(path: Path, epsilon: float) -> dict[str, float]:
    """Every method's learning rate from the tuned table."""
    tables = json.loads(path.read_text())["epsilon"] if path.exists() else {}
    if str(epsilon) not in tables:
        raise ValueError(
            f"epsilon={epsilon} has no learning rates in {path}, which has "
            f"{', '.join(tables) or 'none'}: make them with "
            f"python -m benchmarks attack --tune --epsilon {epsilon}"
        )
    methods = tables[str(epsilon)]["methods"]
    return {name: methods[name]["chosen"] for name in METHODS}


def attackable(victim: Victim, part: slice, count: int) -> np.ndarray:
    """The first ``count`` held-out digits of ``part`` that the network gets right."""
    right = np.arange(len(victim.labels))[part]
    right = right[(victim.predictions == victim.labels)[right]]
    if not 1 <= count <= len(right):
        raise ValueError(f"images must be from 1 to {len(right)} here, got {count}")
    return right[:count]


def make_jobs(victim: Victim, rows: np.ndarray, seeds: np.ndarray, rates: np.ndarray) -> Jobs:
    """One attack for each row, with the directions that its seed and image give."""
    fold = jax.vmap(lambda seed, row: jax.random.fold_in(jax.random.key(seed), row))
    return Jobs(
        jnp.asarray(victim.images[rows]),
        jnp.asarray((victim.labels[rows] + 1) % 10),
        jnp.asarray(rates, jnp.float32),
        fold(jnp.asarray(seeds), jnp.asarray(rows)),
    )


def quartiles(queries: np.ndarray, success: np.ndarray) -> list[int | None]:
    """Quartiles of queries to success; None where one lies among the attacks that failed."""
    censored = np.where(success, queries, np.inf)
    values = np.quantile(censored, (0.25, 0.5, 0.75), method="inverted_cdf")
    return [int(v) if np.isfinite(v) else None for v in values]


def summary(outcome: Outcome) -> dict[str, Any]:
    counts = {"attacks": len(outcome.success), "successes": int(outcome.success.sum())}
    q25, median, q75 = quartiles(outcome.queries, outcome.success)
    return counts | {"queries": {"q25": q25, "median": median, "q75": q75}}


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


def margin_curve(outcome: Outcome, setting: Setting) -> dict[str, list[float]]:
    """Quartiles of the margin over the attacks, after 80 numbers of rounds on a log scale."""
    rounds = np.unique(np.geomspace(1, setting.rounds, 80).astype(int)) - 1
    q25, median, q75 = np.quantile(outcome.margins[:, rounds], (0.25, 0.5, 0.75), axis=0).tolist()
    spent = (rounds * setting.queries_a_round + 1).tolist()
    return {"queries": spent, "q25": q25, "median": median, "q75": q75}


def print_table(entries: list[dict[str, Any]], setting: Setting) -> None:
    rows = []
    for entry in entries:
        above = f"> {setting.budget}"
        q25, median, q75 = (above if q is None else str(q) for q in entry["queries"].values())
        spread = f"{q25} to {q75}"
        counts = (entry["attacks"], entry["successes"])
        rows.append((entry["label"], shown(entry["learning_rate"]), *counts, median, spread))
    print(f"Queries until the network is fooled, ε = {setting.epsilon}, checks included:\n")
    header = ("method", "learning rate", "attacks", "successes", "median queries", "quartiles")
    print(report.table(header, rows))
    tuned = [entry for entry in entries if not entry["control"]]
    attacks, successes = (sum(entry[key] for entry in tuned) for key in ("attacks", "successes"))
    print(
        f"\nAt ε = {setting.epsilon}, {attacks - successes} of the {attacks} attacks (controls "
        f"aside) failed within {setting.budget} queries."
    )


def half_decade(exponent: int) -> float:
    """…, 0.1, 0.3, 1, 3, …"""
    return float(f"{10 ** (exponent / 2):.1g}")


def tidy(rate: float) -> float:
    """The rate without the last digits of a division."""
    return float(f"{rate:.6g}")


def shown(number: Any) -> str:
    return "-" if number is None else f"{number:g}"
