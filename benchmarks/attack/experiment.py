"""The comparison: every method at its learning rate, on the same digits, and two controls."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.attack.attacker import (
    Outcome,
    Setting,
    attackable,
    make_jobs,
    perturbed,
    run_attacks,
)
from benchmarks.attack.rates import TUNING_DIGITS, quartiles, successes
from benchmarks.common.methods import CONTROLS, METHODS
from benchmarks.common.tuning import tidy
from benchmarks.common.victim import Victim

WITHIN = (500, 1000, 2000, 4000)
MOST_PICTURED = 5


class Contender(NamedTuple):
    """A row of the table: a method at a learning rate, None for one that has none."""

    method: str
    rate: float | None
    label: str
    control: bool


def contenders(rates: dict[str, float | None], setting: Setting) -> list[Contender]:
    """The methods at their rates, then the controls: ZoAR at η/λ of ZoVH."""
    found = [Contender(name, rate, METHODS[name].label, False) for name, rate in rates.items()]
    for of, name in CONTROLS.items():
        rate = rates.get(of)
        if rate:
            label = f"{METHODS[name].label}, at η/λ of {METHODS[of].label}"
            found.append(Contender(name, tidy(rate / setting.damping), label, True))
    return found


def compare(
    victim: Victim,
    setting: Setting,
    rates: dict[str, float | None],
    images: int,
    seeds: Sequence[int],
) -> dict[str, Any]:
    """Runs every method and control; returns what the result holds besides the circumstances."""
    digits = attackable(victim, slice(TUNING_DIGITS, None), images)
    rows, seed_of = np.tile(digits, len(seeds)), np.repeat(seeds, len(digits))
    entries: list[dict[str, Any]] = []
    outcomes: dict[tuple[str, float | None], Outcome] = {}
    for who in contenders(rates, setting):
        same = who.method, who.rate
        if same not in outcomes:
            jobs = make_jobs(victim, rows, seed_of, np.full(len(rows), who.rate or 1.0))
            outcomes[same] = run_attacks(who.method, victim.logits, jobs, setting)
        outcome = outcomes[same]
        entries.append(
            {
                "method": who.method,
                "label": who.label,
                "learning_rate": who.rate,
                "control": who.control,
                **summary(outcome.queries, outcome.success, seed_of),
                "image": rows.tolist(),
                "seed": seed_of.tolist(),
                "label_true": victim.labels[rows].tolist(),
                "success": outcome.success.tolist(),
                "queries_spent": outcome.queries.tolist(),
                "margin": margin_curve(outcome, setting),
            }
        )
    tuned = {name: outcomes[name, rate] for name, rate in rates.items()}
    return {
        "images": images,
        "seeds": list(seeds),
        "picture": picture(victim, setting, rows, tuned),
        "methods": entries,
    }


def picture(
    victim: Victim, setting: Setting, rows: np.ndarray, outcomes: dict[str, Outcome]
) -> dict[str, Any]:
    """One attacked digit, and what the methods with the fewest queries made of it."""
    fooled = np.sum([outcome.success for outcome in outcomes.values()], axis=0)
    attack = int(np.argmax(fooled))
    best_last = sorted(outcomes, key=lambda name: -outcomes[name].queries.mean())
    original = victim.images[rows[attack]]
    attacks = []
    for name in best_last[-MOST_PICTURED:]:
        outcome = outcomes[name]
        sent = perturbed(original, outcome.delta[attack], setting.epsilon)
        attacks.append(
            {
                "method": name,
                "queries": int(outcome.queries[attack]),
                "predicted": int(np.argmax(victim.logits(sent))),
                "adversarial": as_hex(np.asarray(sent)),
            }
        )
    return {
        "image": int(rows[attack]),
        "label_true": int(victim.labels[rows[attack]]),
        "pixels": as_hex(original),
        "attacks": attacks,
    }


def as_hex(image: np.ndarray) -> list[str]:
    """An image in [0, 1] as rows of two hexadecimal digits a pixel."""
    return [row.tobytes().hex() for row in np.round(255 * image).astype(np.uint8)]


def summary(queries: np.ndarray, success: np.ndarray, seeds: np.ndarray) -> dict[str, Any]:
    """What the table shows, from one value an attack."""
    runs = [
        {
            "seed": int(seed),
            "successes": int(success[seeds == seed].sum()),
            "median_queries": quartiles(queries[seeds == seed], success[seeds == seed])[1],
        }
        for seed in np.unique(seeds)
    ]
    return {**successes(queries, success, WITHIN), "runs": runs}


def margin_curve(outcome: Outcome, setting: Setting) -> dict[str, list[float]]:
    """Quartiles of the margin over the attacks, after 80 numbers of queries on a log scale."""
    queries = np.unique(np.geomspace(1, setting.budget, 80).astype(int))
    latest = [
        margins[np.searchsorted(checked, queries, side="right") - 1]
        for margins, checked in zip(outcome.margins, outcome.checked, strict=True)
    ]
    q25, median, q75 = np.quantile(latest, (0.25, 0.5, 0.75), axis=0).tolist()
    return {"queries": queries.tolist(), "q25": q25, "median": median, "q75": q75}
