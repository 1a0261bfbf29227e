"""The tables of the newton case."""

import math
from typing import Any

from benchmarks.common import report, tuning


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    gap = result["gap"]
    return {
        "gap": report.reached([{"budget": gap["budget"]} | row for row in gap["rows"]]),
        "functions": report.matrix("method", "label", result["functions"]["rows"]),
        "starts": kept(result["starts"]["rows"]),
    }


def kept(rows: list[dict[str, Any]]) -> str:
    """The worst of final over first values, and how many runs ended above their start."""
    lines = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        for count in dict.fromkeys(row["num_directions"] for row in rows):
            runs = [r for r in rows if (r["problem"], r["num_directions"]) == (problem, count)]
            ratios = [math.inf if r["last"] is None else r["last"] / r["first"] for r in runs]
            above = sum(ratio > 1 for ratio in ratios)
            low, high = (report.number(tuning.finite(edge)) for edge in (min(ratios), max(ratios)))
            lines.append([problem, count, len(runs), low, high, above])
    header = ["problem", "K", "starts", "least final/first", "most", "ended above"]
    return report.table(header, lines)
