"""Black-box attacks on a digit classifier: queries until the network is fooled.

`benchmarks.common.victim` says what is attacked, `benchmarks.attack.attacker` how, and what is
charged. Held-out
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
  picture       one digit, the first that every method fools, or else the one that most do:
    image, label_true, pixels (rows of two hexadecimal digits a pixel)
    attacks     of the methods that need the fewest queries: method, queries, predicted (the class),
                adversarial (the image that was sent last, as ``pixels``)
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
from pathlib import Path

from benchmarks.attack import experiment, plot, rates
from benchmarks.attack.attacker import Setting
from benchmarks.attack.rates import GUESSES
from benchmarks.attack.tables import tables
from benchmarks.common import cache, report
from benchmarks.common.victim import Settings, load

QUICK = ("zo_sgd", "zoar", "zoar_hadamard_8", "zovh_1", "zovh")
TUNING = Path(__file__).parents[1] / "results" / "attack_tuning.json"
PICTURES = {"attack": plot.figure_of}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of this case."""
    add = parser.add_argument
    add("--epsilon", type=float, default=0.3, help="largest change of a pixel (0.3; ZoVH's: 0.2)")
    add("--budget", type=int, default=Setting.budget, help=f"queries an image ({Setting.budget})")
    add("--images", type=int, help="images attacked in each run (quick: 32, full: 10)")
    add("--methods", nargs="+", choices=GUESSES, metavar="METHOD", help=f"of {', '.join(GUESSES)}")
    add("--tune", action="store_true", help="tune the learning rates instead, for this epsilon")
    add("--tuning", type=Path, default=TUNING, help="their file")
    add("--cache", type=Path, default=cache.FOLDER, help="where the victim is kept")


def run(args: argparse.Namespace) -> None:
    """Compares the methods, or tunes their learning rates."""
    setting = Setting(epsilon=args.epsilon, budget=args.budget)
    victim = load(args.cache, Settings())
    print(f"Victim: {victim.accuracy:.1%} of the held-out digits right; kept in {args.cache}")
    facts = {
        "environment": report.environment(),
        "setting": dataclasses.asdict(setting),
        "victim": {**dataclasses.asdict(victim.settings), "accuracy": victim.accuracy},
    }
    if args.tune:
        images, names = args.images or rates.IMAGES, args.methods or tuple(GUESSES)
        rates.tune(victim, setting, facts, args.tuning, images, names)
        return
    seeds = range(10 if args.full else 1)
    images = args.images or (10 if args.full else 32)
    names = args.methods or tuple(GUESSES if args.full else QUICK)
    chosen = rates.tuned_rates(args.tuning, facts, names)
    result = facts | experiment.compare(victim, setting, chosen, images, seeds)
    print(f"\nQueries until the network is fooled, ε = {setting.epsilon}, checks included:")
    report.finish("attack", result, tables, PICTURES, args.out)
    tuned = [entry for entry in result["methods"] if not entry["control"]]
    attacks, successes = (sum(entry[key] for entry in tuned) for key in ("attacks", "successes"))
    print(
        f"\nAt ε = {setting.epsilon}, {attacks - successes} of the {attacks} attacks (controls "
        f"aside) failed within {setting.budget} queries."
    )


__all__ = ["PICTURES", "add_arguments", "run", "tables"]
