"""The tables of the synthetic case."""

from typing import Any

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    found = {name: part["rows"] for name, part in result["experiments"].items()}
    return {
        "functions": report.matrix("method", "label", tuned(found["functions"])),
        "long": report.matrix("method", "label", tuned(found["long"])),
        "curvature": report.matrix("method", "label", tuned(found["curvature"])),
        "controls": controls(result["experiments"]),
        "baselines": report.matrix(
            "baseline", "baseline", found["baselines"], "{problem}, {label}"
        ),
        "reuse": report.matrix("rounds N", "history_size", found["reuse"], "{problem}, {label}"),
        "radius": report.matrix("method", "label", found["radius"], "{problem}, μ = {radius}"),
        "speedups": speedups(result["experiments"]["functions"]),
        "rates": rates(tuned(found["functions"]) + tuned(found["curvature"])),
    }


def tuned(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of methods that have their own learning rates: no controls."""
    return [row for row in rows if "control" not in row]


def controls(parts: dict[str, Any]) -> str:
    """Final values of ZoVH beside those of ZoAR at η/λ."""
    lines = []
    for part in parts.values():
        where = {(row["problem"], row["method"]): row for row in tuned(part["rows"])}
        for row in part["rows"]:
            if "control" in row:
                zovh = where[row["problem"], row["control"]]
                a, b = zovh["final"]["median"], row["final"]["median"]
                apart = "" if a is None or b is None else f"{100 * (a / b - 1):+.2g} %"
                name = f"{row['problem']}, {part['budget']} queries"
                lines.append([name, zovh["label"], report.number(a), report.number(b), apart])
    return report.table(["problem", "method", "final", "ZoAR at η/λ", "difference"], lines)


VANILLA = ("zo_sgd", "zo_sgd_near")
"""Plain descent at the papers' radius and at a small one."""


def speedups(part: dict[str, Any]) -> str:
    """How many times fewer queries than plain descent, at either radius, to its final value.

    Along the median curves, straight between checkpoints.
    """
    rows = tuned(part["rows"])
    found = {(row["problem"], row["method"]): row for row in rows}
    goals = [
        (problem, found[problem, name])
        for name in VANILLA
        for problem in part["start"]
        if (problem, name) in found
    ]
    lines = [
        [
            label,
            *(times(found[problem, name]["curve"], goal["curve"]) for problem, goal in goals),
        ]
        for name, label in {row["method"]: row["label"] for row in rows}.items()
    ]
    heads = [f"{problem}, {goal['label']}" for problem, goal in goals]
    return report.table(["times fewer queries", *heads], lines)


def times(curve: dict[str, Any], other: dict[str, Any]) -> str:
    """The other's queries over those that this curve takes to the other's last value."""
    goal, spent, values = other["median"][-1], curve["queries"], curve["median"]
    for i, value in enumerate(values):
        if value is not None and value <= goal:
            if i == 0:
                return "-"
            before = values[i - 1]
            part = (before - goal) / (before - value)
            return f"{other['queries'][-1] / (spent[i - 1] + part * (spent[i] - spent[i - 1])):.1f}"
    return "< 1"


def rates(rows: list[dict[str, Any]]) -> str:
    """The learning rates that were chosen, by method and problem."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    labels = list(dict.fromkeys(row["label"] for row in rows))
    found = {(row["label"], row["problem"]): row for row in rows}
    lines = []
    for label in labels:
        chosen = [found[label, problem] for problem in problems]
        if any(row["learning_rate"] is None for row in chosen):
            continue
        marks = ["" if row["interior"] else " (edge)" for row in chosen]
        pairs = zip(chosen, marks, strict=True)
        lines.append([label, *(f"{row['learning_rate']:.2g}{mark}" for row, mark in pairs)])
    return report.table(["learning rate", *problems], lines)
