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
