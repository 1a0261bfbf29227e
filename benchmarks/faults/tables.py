"""The tables of the faults case."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.common import report

READ_ONLY = "journal cut at every byte, read"
"""A kind without runs, which the sums leave out."""


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Faults and what came of them, by kind and by optimiser."""
    rows, worst = result["rows"], result["setting"]["worst_ratio"]
    done = [row for row in rows if row["kind"] != READ_ONLY]
    kinds = list(dict.fromkeys(row["kind"] for row in done))
    read = [row for row in rows if row["kind"] == READ_ONLY]
    header = ["kind", "optimisers", "faults", "runs", "lost", "wrong", "off", "ratio", "worst"]
    lines = [line(kind, [r for r in done if r["kind"] == kind], worst) for kind in kinds]
    lines += [line("all of these", done, worst), line(READ_ONLY, read, worst)]
    names = list(dict.fromkeys(row["optimizer"] for row in rows))
    by_name = [line(name, [r for r in done if r["optimizer"] == name], worst) for name in names]
    return {
        "kinds": report.table(header, lines),
        "optimisers": report.table(
            ["optimiser", *header[2:]], [[name, *rest[1:]] for name, *rest in by_name]
        ),
    }


def line(name: str, rows: Sequence[dict[str, Any]], worst_ratio: float) -> list[Any]:
    """A line: sums, and the median and the largest of the ratios."""
    ratios = [row["ratio"] for row in rows if row["ratio"] is not None]
    total = {key: sum(row[key] for row in rows) for key in ("faults", "runs", "lost", "wrong")}
    middle = [report.number(float(f(ratios))) for f in (np.median, np.max)] if ratios else ["", ""]
    return [
        name,
        len({row["optimizer"] for row in rows}),
        *total.values(),
        off(rows, worst_ratio),
        *middle,
    ]


def off(rows: Sequence[dict[str, Any]], worst_ratio: float) -> int:
    """Runs that end elsewhere than they must, and optimisers that missing values cost too much."""
    return sum(row["off"] + ((row["ratio"] or 0) > worst_ratio) for row in rows)
