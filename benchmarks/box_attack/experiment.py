"""The comparison: every contender at its settings, on the same digits, against a victim."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from benchmarks.attack.attacker import attackable
from benchmarks.attack.rates import TUNING_DIGITS, successes
from benchmarks.box_attack.contenders import CONTENDERS
from benchmarks.box_attack.game import Outcome, keys_of, play
from benchmarks.box_attack.tuning import score
from benchmarks.common.victim import Victim

WITHIN = (10, 100, 500, 1000)


def compare(
    victim: Victim,
    epsilon: float,
    budget: int,
    settings: dict[str, list[dict[str, Any]]],
    images: int,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """A row for each contender and each of its settings.

    Args:
      victim: who is attacked, on held-out digits that are not for tuning.
      epsilon: how much a pixel may change.
      budget: queries an image may cost.
      settings: of the contenders by name, the published ones first where there are two.
      images: how many digits.
      seeds: each digit is attacked once for each.
    """
    digits = attackable(victim, slice(TUNING_DIGITS, None), images)
    rows = np.tile(digits, len(seeds))
    keys = jnp.concatenate([keys_of(seed, digits) for seed in seeds])
    entries = []
    for name, choices in settings.items():
        who = CONTENDERS[name]
        for i, choice in enumerate(choices):
            published = len(choices) > 1 and i == 0
            outcome = play(name, who.make(**choice), victim, epsilon, budget, rows, keys)
            entries.append(
                {
                    "method": name,
                    "label": who.label + (", as published" if published else ""),
                    "own": who.own,
                    "settings": choice,
                    **summary(outcome, budget),
                    "image": rows.tolist(),
                    "seed": np.repeat(seeds, len(digits)).tolist(),
                    "success": outcome.success.tolist(),
                    "queries_spent": outcome.queries.tolist(),
                }
            )
    return entries


def summary(outcome: Outcome, budget: int) -> dict[str, Any]:
    """What the table shows, from one value an attack."""
    counts = successes(outcome.queries, outcome.success, WITHIN)
    return {**counts, "mean_queries": score(outcome, budget)}
