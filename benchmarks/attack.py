"""Black-box attacks on a digit classifier: queries until the network is fooled.

`benchmarks.victim` says what is attacked, `benchmarks.attacker` how, and what is charged. Held-out
images that the network gets right are attacked once in every run (seed), with the same directions
for all methods that draw alike. Two controls are ZoAR, without and with reuse, at the learning rate
η/λ of ZoVH: where the dimension is far above the number of directions the two are nearly the same.
This is Table 1 of the ZoVH paper, with more methods, with learning rates tuned for each, and with
queries counted instead of steps.

Learning rates come from ``benchmarks/results/attack_tuning.json``, which ``--tune`` makes: half
decades around a guess, extended until the best is inside; the best has the least mean number of
queries, where an attack that fails counts its whole budget. Tuning uses the first 300 held-out
digits and a seed of its own, reports the other 700.

DIR/attack.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size, epsilon, budget
  victim        its settings and held-out accuracy
  images, seeds how many images were attacked in each run, and the runs' seeds
  methods       one entry a row of the table, in its order:
    method, label, learning_rate, control
    attacks, successes
    queries     {q25, median, q75}: queries to success; null where above the budget
    fooled      [{within, share}]: the share of attacks that succeeded within so many queries
    runs        [{seed, successes, median_queries}]: of each run; null above the budget
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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import attack_plot, report
from benchmarks.attacker import Jobs, Outcome, Setting, run_attacks
from benchmarks.methods import CONTROLS, METHODS
from benchmarks.victim import Settings, Victim, load

HERE = Path(__file__).parent
TUNING_DIGITS = 300
TUNING_SEED = 1000
TUNING_IMAGES = 20
GUESSES = {
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
QUICK = ("zo_sgd", "zoar", "zoar_hadamard_8", "zovh_1", "zovh")
LONGEST_GRID = 12
WITHIN = (500, 1000, 2000, 4000)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--epsilon", type=float, default=0.3, help="largest change of a pixel (0.3; ZoVH's: 0.2)")
    add("--budget", type=int, default=Setting.budget, help=f"queries an image ({Setting.budget})")
    add("--images", type=int, help="images attacked in each run (quick: 32, full: 10)")
    add("--methods", nargs="+", choices=GUESSES, metavar="METHOD", help=f"of {', '.join(GUESSES)}")
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
        images = args.images or TUNING_IMAGES
        tune(victim, setting, facts, args.tuning, images, args.methods or GUESSES)
    else:
        seeds = range(10 if args.full else 1)
        images = args.images or (10 if args.full else 32)
        names = args.methods or tuple(GUESSES if args.full else QUICK)
        rates = tuned_rates(args.tuning, facts, names)
        compare(victim, setting, facts, rates, images, seeds, args.out)


def compare(
    victim: Victim,
    setting: Setting,
    facts: dict[str, Any],
    rates: dict[str, float | None],
    images: int,
    seeds: range,
    out: Path,
) -> None:
    """Runs every method at its rate, and the controls; prints the table, writes the files."""
    digits = attackable(victim, slice(TUNING_DIGITS, None), images)
    rows, seed_of = np.tile(digits, len(seeds)), np.repeat(seeds, len(digits))
    entries, outcomes = [], {}
    plan = [(name, rate, METHODS[name].label, False) for name, rate in rates.items()]
    for of, name in CONTROLS.items():
        if rates.get(of):
            label = f"{METHODS[name].label}, at η/λ of {METHODS[of].label}"
            plan.append((name, tidy(rates[of] / setting.damping), label, True))
    for name, rate, label, control in plan:
        if (name, rate) not in outcomes:
            jobs = make_jobs(victim, rows, seed_of, np.full(len(rows), rate or 1.0))
            outcomes[name, rate] = run_attacks(name, victim.logits, jobs, setting)
        outcome = outcomes[name, rate]
        entry = {"method": name, "label": label, "learning_rate": rate, "control": control}
        entry |= summary(outcome.queries, outcome.success, seed_of)
        entry |= {
            "image": rows.tolist(),
            "seed": seed_of.tolist(),
            "label_true": victim.labels[rows].tolist(),
            "success": outcome.success.tolist(),
            "queries_spent": outcome.queries.tolist(),
            "margin": margin_curve(outcome, setting),
        }
        entries.append(entry)
    result = {**facts, "images": images, "seeds": list(seeds), "methods": entries}
    report.write_json(out / "attack.json", result)
    print(f"\nQueries until the network is fooled, ε = {setting.epsilon}, checks included:\n")
    print(tables(result)["methods"])
    tuned = [entry for entry in entries if not entry["control"]]
    attacks, successes = (sum(entry[key] for entry in tuned) for key in ("attacks", "successes"))
    print(
        f"\nAt ε = {setting.epsilon}, {attacks - successes} of the {attacks} attacks (controls "
        f"aside) failed within {setting.budget} queries."
    )
    shown = [(entry, outcomes[entry["method"], entry["learning_rate"]]) for entry in tuned]
    attack_plot.save(out / "attack.png", victim, setting, shown)
    print(f"\nNumbers: {out / 'attack.json'}\nPicture: {out / 'attack.png'}")


def tune(
    victim: Victim,
    setting: Setting,
    facts: dict[str, Any],
    path: Path,
    images: int,
    names: Sequence[str],
) -> None:
    """Tries rates around each method's guess until the best is inside, writes the table."""
    rows = attackable(victim, slice(0, TUNING_DIGITS), images)
    for name in names:
        if GUESSES[name] is None:
            continue
        tried: dict[int, dict[str, Any]] = {}
        wanted = [GUESSES[name] + i for i in (-1, 0, 1)]
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
        keep_rates(path, facts, images, name, {"chosen": half_decade(best), "grid": grid})
        keys = ("rate", "successes", "median_queries", "mean_queries")
        print(f"\n{name}, chosen: {half_decade(best)}")
        print(report.table(keys, [[shown(row[k]) for k in keys] for row in grid]))
    print(f"\nLearning rates: {path}")


def keep_rates(path: Path, facts: dict[str, Any], images: int, name: str, entry: dict) -> None:
    """Writes a method's rates, beside those of others that were tuned on the same facts."""
    table = json.loads(path.read_text()) if path.exists() else {"epsilon": {}}
    key = str(facts["setting"]["epsilon"])
    old = table["epsilon"].get(key, {"methods": {}})
    facts = {**facts, "seed": TUNING_SEED, "images": images}
    same = not differing(old, facts) and all(
        old[part] == facts[part] for part in ("seed", "images")
    )
    others = old["methods"] if same else {}
    table["epsilon"][key] = {**facts, "methods": others | {name: entry}}
    report.write_json(path, table)


def tuned_rates(path: Path, facts: dict[str, Any], names: Sequence[str]) -> dict[str, float | None]:
    """The methods' learning rates from the tuned table, if it was made for these attacks.

    Args:
      path: the table's.
      facts: ``setting`` and ``victim`` of the attacks to come.
      names: of the methods.
    """
    epsilon = facts["setting"]["epsilon"]
    tables = json.loads(path.read_text())["epsilon"] if path.exists() else {}
    table = tables.get(str(epsilon), {"methods": {}})
    remedy = f"python -m benchmarks attack --tune --epsilon {epsilon} --tuning {path}"
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


def summary(queries: np.ndarray, success: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
    """What the table shows, from one value an attack."""
    q25, median, q75 = quartiles(queries, success)
    runs = [
        {
            "seed": int(seed),
            "successes": int(success[seeds == seed].sum()),
            "median_queries": quartiles(queries[seeds == seed], success[seeds == seed])[1],
        }
        for seed in np.unique(seeds)
    ]
    return {
        "attacks": len(success),
        "successes": int(success.sum()),
        "queries": {"q25": q25, "median": median, "q75": q75},
        "fooled": [
            {"within": most, "share": float((success & (queries <= most)).mean())}
            for most in WITHIN
        ],
        "runs": runs,
    }


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
    """Quartiles of the margin over the attacks, after 80 numbers of queries on a log scale."""
    queries = np.unique(np.geomspace(1, setting.budget, 80).astype(int))
    latest = [
        margins[np.searchsorted(checked, queries, side="right") - 1]
        for margins, checked in zip(outcome.margins, outcome.checked, strict=True)
    ]
    q25, median, q75 = np.quantile(latest, (0.25, 0.5, 0.75), axis=0).tolist()
    return {"queries": queries.tolist(), "q25": q25, "median": median, "q75": q75}


def tables(result: dict[str, Any]) -> dict[str, str]:
    """``methods``: a row for each method and control."""
    budget = result["setting"]["budget"]

    def count(queries):
        return f"> {budget}" if queries is None else str(queries)

    rows = []
    for entry in result["methods"]:
        q25, median, q75 = (count(q) for q in entry["queries"].values())
        medians = [run["median_queries"] for run in entry["runs"]]
        medians.sort(key=lambda q: budget + 1 if q is None else q)
        row = [entry["label"], shown(entry["learning_rate"])]
        row += [f"{entry['successes']} of {entry['attacks']}"]
        row += [
            f"{fooled['share']:.0%}" for fooled in entry["fooled"] if fooled["within"] <= budget
        ]
        row += [median, f"{q25} to {q75}"]
        if len(medians) > 1:
            row += [f"{count(medians[0])} to {count(medians[-1])}"]
        rows.append(row)
    within = [f"≤ {f['within']}" for f in result["methods"][0]["fooled"] if f["within"] <= budget]
    header = ["method", "learning rate", "fooled", *within, "median queries", "quartiles"]
    if len(result["seeds"]) > 1:
        header += [f"medians of {len(result['seeds'])} runs"]
    return {"methods": report.table(header, rows)}


def half_decade(exponent: int) -> float:
    """…, 0.1, 0.3, 1, 3, …"""
    return float(f"{10 ** (exponent / 2):.1g}")


def tidy(rate: float) -> float:
    """The rate without the last digits of a division."""
    return float(f"{rate:.6g}")


def shown(number: Any) -> str:
    return "-" if number is None else f"{number:g}"
