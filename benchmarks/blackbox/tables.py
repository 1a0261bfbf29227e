"""The tables of the blackbox case."""

import math
from typing import Any

import numpy as np

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    return {
        f"d{part['dimension']}": of_part(part, result["setting"]["targets"])
        for part in result["dimensions"]
    } | {"solved": solved(result)}


def of_part(part: dict[str, Any], targets: list[float]) -> str:
    """Expected evaluations to the last target; in brackets the median of what was reached."""
    methods = list(dict.fromkeys(row["label"] for row in part["rows"]))
    lines = []
    for function in dict.fromkeys(row["function"] for row in part["rows"]):
        rows = {row["label"]: row for row in part["rows"] if row["function"] == function}
        lines.append([function, *(cell(rows[m], targets) if m in rows else "" for m in methods)])
    return report.table(["function", *methods], lines)


def cell(row: dict[str, Any], targets: list[float]) -> str:
    """Evaluations spent over the number of runs that arrived (ERT), and how many did not."""
    last = [run[-1] for run in row["instances"]]
    hits = [n for n in last if n is not None]
    if not hits:
        best = np.median([reached(run, targets) for run in row["instances"]])
        return "above 100" if math.isinf(best) else f"({best:.0e})"
    expected = (sum(hits) + row["budget"] * (len(last) - len(hits))) / len(hits)
    missed = f" ({len(hits)} of {len(last)})" if len(hits) < len(last) else ""
    return f"{expected:,.0f}{missed}"


def reached(run: list[int | None], targets: list[float]) -> float:
    """The least target that a run reached; infinite for none."""
    return min(
        (target for target, n in zip(targets, run, strict=True) if n is not None),
        default=math.inf,
    )


def solved(result: dict[str, Any]) -> str:
    """How many runs get to the last target within so many evaluations."""
    shares = (10, 50, 100, 200, 500)
    lines = []
    for part in result["dimensions"]:
        for label in dict.fromkeys(row["label"] for row in part["rows"]):
            last = [
                run[-1] for row in part["rows"] if row["label"] == label for run in row["instances"]
            ]
            counts = [
                sum(n is not None and n <= share * part["dimension"] for n in last)
                for share in shares
            ]
            lines.append([label, part["dimension"], *counts, len(last)])
    return report.table(["method", "d", *(f"{share} d" for share in shares), "of"], lines)
