"""The tables of the zo-sah case."""

from typing import Any

from benchmarks.common import report

VARIED = {"T": "T", "m/d": "m", "κ": "clip", "q": "dimension"}
"""The parts that vary an option, and the names of their tables."""
REACHING = ("rosenbrock", "quadratics")
"""The parts that are about queries, not values."""
NETWORKS = ("network", "larger")
"""The parts that have a test."""


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for row in result["rows"]:
        parts.setdefault(row["part"], []).append(row)
    found = {}
    for part, rows in parts.items():
        name = VARIED.get(part, part)
        if part == "rosenbrock":
            found[name] = starts(rows)
        elif part in REACHING:
            found[name] = report.reached(rows)
        elif part in NETWORKS:
            found[name] = classifiers(rows)
        else:
            found[name] = report.matrix(part if part in VARIED else "method", "label", rows)
    found["rates"] = rates(result["rows"])
    found["fits"] = fits(result["fits"])
    return found


def starts(rows: list[dict[str, Any]]) -> str:
    """Queries to the minimum: median and range over the starts, and in how many it was reached."""
    lines = []
    for row in rows:
        each, budget = row["score"]["each"], row["budget"]
        there = [queries for queries in each if queries is not None and queries <= budget]
        cells = [report.queries(row["score"][name], budget) for name in ("median", "least", "most")]
        lines.append([row["label"], *cells, f"{len(there)} of {len(each)}"])
    return report.table(["method", "median queries", "least", "most", "reached"], lines)


def classifiers(rows: list[dict[str, Any]]) -> str:
    """Final losses and accuracies of the network."""
    losses = report.bold_least(rows, "final")
    accuracies = report.bold_least(rows, "test", most=True)
    lines = zip([row["label"] for row in rows], losses, accuracies, strict=True)
    return report.table(["method", "loss", "held-out accuracy"], list(lines))


def rates(rows: list[dict[str, Any]]) -> str:
    """The learning rates that were found, and where rates on one side were not tried."""
    lines = []
    for row in rows:
        if row["learning_rate"] is not None:
            edge = "" if row["interior"] else " (edge)"
            rate = f"{row['learning_rate']:.2g}{edge}"
            lines.append([row["part"], row["problem"], row["label"], rate])
    return report.table(["part", "problem", "method", "learning rate"], lines)


def fits(rows: list[dict[str, Any]]) -> str:
    """Errors of the planes' Hessians by age."""
    lines = [
        [row["problem"], row["age"], *(report.number(row[n]) for n in ("fit", "kept", "fresh"))]
        for row in rows
    ]
    header = ["problem", "steps since the draw", "fit, 2 values", "kept, 0", "differences, 8"]
    return report.table(header, lines)
