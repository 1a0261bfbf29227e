"""The tables of the newton case."""

import math
from typing import Any

from benchmarks.common import report, tuning


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    return {
        "gap": reached(result["gap"]),
        "functions": report.matrix("method", "label", result["functions"]["rows"]),
        "starts": kept(result["starts"]["rows"]),
    }


def reached(part: dict[str, Any]) -> str:
    """Queries until the gap is small: methods down the side, problems across; the least is bold."""
    problems = list(dict.fromkeys(row["problem"] for row in part["rows"]))
    labels = list(dict.fromkeys(row["label"] for row in part["rows"]))
    found = {(row["label"], row["problem"]): row["score"]["median"] for row in part["rows"]}
    lines = []
    for label in labels:
        cells = [label]
        for problem in problems:
            queries = found[label, problem]
            least = min(found[each, problem] for each in labels)
            text = f"{queries:,.0f}" if queries <= part["budget"] else f"> {part['budget']:,}"
            cells.append(f"**{text}**" if queries == least else text)
        lines.append(cells)
    return report.table(["method", *problems], lines)


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
