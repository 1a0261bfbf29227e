"""The campaign: every optimiser, every kind of fault."""

import dataclasses
import functools
import logging
import tempfile
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from benchmarks.common import report, tuning
from benchmarks.faults import calls, deaths, messages
from benchmarks.faults.subjects import FLOOR, MAKERS, K, Subject, Tally
from benchmarks.faults.workers import DIMENSION


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run.

    Attributes:
      optimizers: their names.
      budget: queries of a run; short_budget, of those with a journal.
      num_seeds: runs of each kind.
      num_cuts, num_kills: for each optimiser.
    """

    optimizers: tuple[str, ...]
    budget: int
    short_budget: int
    num_seeds: int
    num_cuts: int
    num_kills: int


FULL = Size(tuple(MAKERS), 400, 120, 5, 40, 11)
QUICK = Size(("zo_sgd", "zoar", "scalar_newton"), 160, 60, 1, 5, 1)
WORST_RATIO = 2.0
"""Of final values, above which runs with missing values are off."""


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    before = jax.config.read("jax_disable_most_optimizations")
    deaths.compile_fast(True)
    logger = logging.getLogger("zovh_jax")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # it would tell of every run's first fault
    try:
        rows = [
            row
            for name in tqdm(size.optimizers, desc="faults")
            for row in rows_of(Subject(name), size)
        ]
    finally:
        deaths.compile_fast(before)
        logger.setLevel(level)
    return {
        "environment": report.environment(),
        "setting": {
            "num_directions": K,
            "share": calls.SHARE,
            "timeout": calls.TIMEOUT,
            "max_pending": messages.MAX_PENDING,
            "worst_ratio": WORST_RATIO,
            "floor": FLOOR,
        },
        "dimension": DIMENSION,
        "budget": size.budget,
        "short_budget": size.short_budget,
        "seeds": list(range(size.num_seeds)),
        "rows": rows,
    }


def rows_of(subject: Subject, size: Size) -> list[dict[str, Any]]:
    """What came of one optimiser."""
    seeds = range(size.num_seeds)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, tallied in kinds(subject, size, seeds, folder).items():
            tally = tallied()
            if tally is not None:
                rows.append({"optimizer": subject.name, "kind": kind} | row(tally))
    return rows


def kinds(
    subject: Subject, size: Size, seeds: range, folder: str
) -> dict[str, Callable[[], Tally | None]]:
    """What runs each kind."""
    of_calls: dict[str, Callable[[], Tally | None]] = {
        name: functools.partial(calls.measure, subject, name, seeds, size.budget)
        for name in calls.KINDS
    }
    long, short = (subject, seeds, size.budget), (subject, size.short_budget, folder)
    return of_calls | {
        "told twice": lambda: messages.told_twice(*long, folder),
        "told late": lambda: messages.told_late(*long),
        "told in another order": lambda: messages.told_in_another_order(*long),
        "rounds out of order": lambda: messages.rounds_out_of_order(*long, folder),
        "torn journal": lambda: deaths.torn(*short, size.num_cuts),
        "kill -9": lambda: deaths.killed(*short, size.num_kills),
        "journal cut at every byte, read": lambda: deaths.read_at_every_byte(*short),
    }


def row(tally: Tally) -> dict[str, Any]:
    """The fields of a row."""
    fields = dataclasses.asdict(tally)
    ratios = fields.pop("ratios")
    ratio = tuning.tidy(float(np.median(ratios))) if ratios else None
    return fields | {"ratio": ratio, "notes": sorted(set(tally.notes))[:5]}
