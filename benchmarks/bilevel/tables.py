"""The tables of the bilevel case."""

from typing import Any

import numpy as np

from benchmarks.common import report

CEILING = "first_order"
NEAR = 0.01
"""How far below the ceiling's accuracy is near: a point."""


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A table for each task and setting: what was spent, and what it gave."""
    references = by_setting(result["references"])
    return {
        name: table(rows, references[name]) for name, rows in by_setting(result["rows"]).items()
    }


def by_setting(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by task and setting, such as cleaning_0.5."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(f"{row['task']}_{row['setting']}".strip("_"), []).append(row)
    return found


def table(rows: list[dict[str, Any]], references: list[dict[str, Any]]) -> str:
    """What x is worth that is not learnt, then the contenders."""
    header = ["method", "differentiates", "rate", "steps"]
    header += ["values of inner", "of outer", "derivatives", "all"]
    header += ["outer loss", "test accuracy", "near the best at", "times the first's"]
    lines = [
        [
            reference["label"],
            *6 * ["-"],
            "0",
            report.spread(reference | {"diverged": 0}, "final"),
            percent(reference["test"]),
            "-",
            "-",
        ]
        for reference in references
    ]
    ceiling = next((row for row in rows if row["method"] == CEILING), references[-1])
    near = [queries_to_near(row, ceiling) for row in rows]
    for row, queries in zip(rows, near, strict=True):
        lines.append(
            [
                row["label"],
                row["access"],
                report.plain(row["learning_rate"]),
                row["steps"],
                *(f"{row['spent'][kind]:,}" for kind in ("inner", "outer", "derivatives")),
                f"{sum(row['spent'].values()):,}",
                report.spread(row, "final"),
                percent(row["test"]),
                "not reached" if queries is None else f"{queries:,}",
                report.number(queries / near[0]) if queries and near[0] else "-",
            ]
        )
    return report.table(header, lines)


def queries_to_near(row: dict[str, Any], ceiling: dict[str, Any]) -> int | None:
    """The cost from which on the mean accuracy stays within a point of the ceiling's last one.

    The ceiling is implicit differentiation, or where that cannot be, the x that is right.
    """
    below = np.mean(row["curve"]["test"], 0) < np.mean(ceiling["test"]["each"]) - NEAR
    if below[-1]:
        return None
    return row["curve"]["queries"][len(below) - int(np.argmax(below[::-1])) if below.any() else 0]


def percent(values: dict[str, Any]) -> str:
    """The mean and the range of accuracies."""
    return f"{np.mean(values['each']):.1%} ({values['least']:.1%} to {values['most']:.1%})"
