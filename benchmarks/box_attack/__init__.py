"""Untargeted black-box attacks at the corners of the ε-box, ours beside published ones.

`benchmarks.box_attack.game` says what is sent and charged, `rivals` and `ours` how it is chosen.
There are two victims: the network of the case `attack`, and one that was trained against attacks
(`robust`). Settings come from ``benchmarks/results/box-attack-tuning.json``, which ``--tune`` makes
on the first 300 held-out digits with a seed of their own; reports use the other 700. A victim that
nobody was tuned against meets the settings that were chosen against the standard one. Rivals whose
published settings were not the best have a row for each.

DIR/box-attack.json:
  environment    versions and machine
  budget         queries an image may cost
  victims        one entry a victim:
    name         "standard" or "robust"
    epsilon      how much a pixel may change
    images       how many digits were attacked for each seed
    seeds        of the attacks
    trained      its settings
    accuracy     on the held-out digits
    under_pgd    that on the same digits after projected gradient descent, 100 steps; null where not
                 measured
    methods      one entry a row:
      method, label, own, settings
      attacks, successes
      queries    {q25, median, q75}: queries to success; null where above the budget
      mean_queries  where an attack that failed counts the budget
      fooled     [{within, share}]: the share of attacks that succeeded within so many queries
      image, seed, success, queries_spent
                 one value an attack; image counts from the first held-out digit

box-attack-tuning.json:
  victims.NAME   epsilon, budget, images, seed, environment, and methods.CONTENDER, a list of
                 {settings, mean_queries, successes}
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from benchmarks.box_attack import experiment, plot, robust, tuning
from benchmarks.box_attack.contenders import CONTENDERS
from benchmarks.box_attack.tables import tables
from benchmarks.common import cache, report, victim

TUNING = Path(__file__).parents[1] / "results" / "box-attack-tuning.json"
PICTURES = {"box-attack": plot.figure_of}
IMAGES = 60
SEEDS = 3
VICTIMS = ("standard", "robust")
EPSILON = 0.3
TUNED_ON = {
    "standard": {"images": 32, "budget": 200},
    "robust": {"images": 32, "budget": 1000},  # within 200 hardly a digit is fooled
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this case."""
    add = parser.add_argument
    add("--budget", type=int, default=1000, help="queries an image may cost (1000)")
    add("--images", type=int, help=f"digits attacked (quick: 32, full: {IMAGES})")
    add("--seeds", type=int, help=f"attacks on each digit (quick: 1, full: {SEEDS})")
    add("--victims", nargs="+", choices=VICTIMS, help="quick: standard, full: both")
    add("--methods", nargs="+", choices=CONTENDERS, metavar="METHOD", help=", ".join(CONTENDERS))
    add("--tune", action="store_true", help="choose the settings instead")
    add("--tuning", type=Path, default=TUNING, help="their file")
    add("--cache", type=Path, default=cache.FOLDER, help="where the victims are kept")


def load(name: str, folder: Path) -> tuple[victim.Victim, dict[str, Any]]:
    """A victim, and what the result says of it."""
    if name == "standard":
        found, under_pgd = victim.load(folder), None
    else:
        found, under_pgd = robust.load(folder)
    facts = {
        "name": name,
        "epsilon": EPSILON,
        "trained": dataclasses.asdict(found.settings),
        "accuracy": found.accuracy,
        "under_pgd": under_pgd,
    }
    print(
        f"The {name} victim: {found.accuracy:.1%} of the held-out digits right"
        + (f", {under_pgd:.1%} under projected gradient descent" if under_pgd else "")
    )
    return found, facts


def run(args: argparse.Namespace) -> None:
    """Compares the contenders, or chooses their settings."""
    names = args.methods or tuple(CONTENDERS)
    victims = args.victims or (VICTIMS if args.full else VICTIMS[:1])
    if args.tune:
        tune(args, names, victims)
        return
    seeds = range(args.seeds or (SEEDS if args.full else 1))
    played: list[dict[str, Any]] = []
    for which in victims:
        settings = {name: tuning.chosen(args.tuning, which, name) for name in names}
        found, facts = load(which, args.cache)
        images = args.images or (IMAGES if args.full else 32)
        rows = experiment.compare(found, EPSILON, args.budget, settings, images, seeds)
        played.append(facts | {"images": images, "seeds": [*seeds], "methods": rows})
    result = {
        "environment": report.environment(),
        "budget": args.budget,
        "victims": with_earlier(played, args.budget, args.out),
    }
    report.finish("box-attack", result, tables, PICTURES, args.out)


def with_earlier(played: list[dict[str, Any]], budget: int, out: Path) -> list[dict[str, Any]]:
    """The victims of this run, and of an earlier one in the same folder those that this left out.

    An earlier run counts if its budget was the same.
    """
    found = {entry["name"]: entry for entry in played}
    if report.json_file("box-attack", out).exists():
        earlier = report.read("box-attack", out)
        if earlier["budget"] == budget:
            found = {entry["name"]: entry for entry in earlier["victims"]} | found
    return [found[name] for name in VICTIMS if name in found]


def tune(args: argparse.Namespace, names: tuple[str, ...], victims: tuple[str, ...]) -> None:
    """Tries all settings on the tuning digits; writes the table."""
    for which in victims:
        found, _ = load(which, args.cache)
        facts = {"epsilon": EPSILON, **TUNED_ON[which], "environment": report.environment()}
        for name in names:
            if len(CONTENDERS[name].choices) > 1:
                grid = tuning.choose(name, found, EPSILON, **TUNED_ON[which])
                tuning.keep(args.tuning, which, facts, name, grid)
                for row in sorted(grid, key=lambda row: row["mean_queries"]):
                    print(f"{name} {row['settings']}: {row['mean_queries']:.1f}")
    print(f"\nSettings: {args.tuning}")


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
