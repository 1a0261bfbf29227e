"""The tables of the blackbox case."""

import math
from typing import Any

import numpy as np

from benchmarks.blackbox.functions import NAMES
from benchmarks.common import report

SHOWN = 1e2, 1.0, 1e-2, 1e-8
"""Targets with tables of their own."""
SHARES = 10, 20, 50, 100, 200, 500
"""Evaluations a dimension at which runs are looked at."""


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    targets = result["setting"]["targets"]
    found = {}
    for (noise, dimension), rows in parts(result).items():
        best = {
            row["number"]: row["evaluations"]
            for row in result["published"]
            if row["dimension"] == dimension and noise == "none"
        }
        name = f"d{dimension}" if noise == "none" else f"{noise} d{dimension}"
        for target in SHOWN:
            found[f"{name} to {target:g}"] = expectations(rows, best, targets, target)
        found[f"{name} rounds"] = rounds(rows, targets)
    noises = dict.fromkeys(noise for noise, _ in parts(result))
    for noise in noises:
        name = "" if noise == "none" else f"{noise} "
        found[f"{name}solved"] = shares(result, noise, lambda run: run[-1:])
        found[f"{name}profile"] = shares(result, noise, lambda run: run)
    return found


def parts(result: dict[str, Any]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """Rows by noise and dimension."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in result["rows"]:
        found.setdefault((row["noise"], row["dimension"]), []).append(row)
    return found


def most_parameters(result: dict[str, Any]) -> tuple[int, list[dict[str, Any]]]:
    """The most dimensions in which there are all functions, and the rows there, without noise."""
    there = {
        dimension: rows
        for (noise, dimension), rows in parts(result).items()
        if noise == "none" and {row["number"] for row in rows} == set(NAMES)
    }
    return max(there.items(), key=lambda part: part[0])


def expectations(
    rows: list[dict[str, Any]],
    best: dict[int, list[float | None]],
    targets: list[float],
    target: float,
) -> str:
    """Expected evaluations to a target, and the least that are published."""
    place = targets.index(target)
    columns = {"best 2009": {n: published(counts[place]) for n, counts in best.items()}}
    for label, own in by_label(rows).items():
        columns[label] = {row["number"]: cell(row, targets, place) for row in own}
    if not best:
        del columns["best 2009"]
    return of_functions(rows, columns)


def rounds(rows: list[dict[str, Any]], targets: list[float]) -> str:
    """Expected rounds of parallel evaluations to the last target."""
    columns = {
        label: {row["number"]: in_rounds(row) for row in own}
        for label, own in by_label(rows).items()
    }
    solved = {n for column in columns.values() for n, text in column.items() if text != "-"}
    return of_functions([row for row in rows if row["number"] in solved], columns)


def of_functions(rows: list[dict[str, Any]], columns: dict[str, dict[int, str]]) -> str:
    """A table of functions by columns."""
    names = {row["number"]: row["function"] for row in rows}
    lines = [
        [name, *(column.get(number, "") for column in columns.values())]
        for number, name in names.items()
    ]
    return report.table(["function", *columns], lines)


def by_label(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows of every method, by its label."""
    return {
        label: [row for row in rows if row["label"] == label]
        for label in dict.fromkeys(row["label"] for row in rows)
    }


def published(count: float | None) -> str:
    """A published number of evaluations."""
    return "-" if count is None else f"{count:,.0f}"


def expected(row: dict[str, Any], place: int) -> float:
    """Evaluations spent over the number of runs that arrived (ERT); infinite where none did."""
    spent = [row["budget"] if run[place] is None else run[place] for run in row["instances"]]
    hits = sum(run[place] is not None for run in row["instances"])
    return sum(spent) / hits if hits else math.inf


def cell(row: dict[str, Any], targets: list[float], place: int = -1) -> str:
    """Expected evaluations, and how many runs arrived; or what the median run reached."""
    runs = row["instances"]
    hits = sum(run[place] is not None for run in runs)
    if not hits:
        best = np.median([reached(run, targets) for run in runs])
        return "above 100" if math.isinf(best) else f"({best:.0e})"
    missed = f" ({hits} of {len(runs)})" if hits < len(runs) else ""
    return f"{expected(row, place):,.0f}{missed}"


def in_rounds(row: dict[str, Any]) -> str:
    """Expected rounds to the last target."""
    count = expected(row, -1) / row["parallel"]
    return "-" if math.isinf(count) else f"{math.ceil(count):,}"


def reached(run: list[int | None], targets: list[float]) -> float:
    """The least target that a run reached; infinite for none."""
    return min(
        (target for target, n in zip(targets, run, strict=True) if n is not None),
        default=math.inf,
    )


def shares(result: dict[str, Any], noise: str, which: Any) -> str:
    """Percentages, within so many evaluations, of the targets that ``which`` picks from a run."""
    lines = []
    for (kind, dimension), rows in parts(result).items():
        if kind != noise:
            continue
        for label, own in by_label(rows).items():
            hits = np.array(
                [
                    np.inf if n is None else n
                    for row in own
                    for run in row["instances"]
                    for n in which(run)
                ]
            )
            counts = sorted({len(row["instances"]) for row in own})
            budget = own[0]["budget"] / dimension
            percent = [
                f"{100 * np.mean(hits <= share * dimension):.0f} %" if share <= budget else ""
                for share in SHARES
            ]
            lines.append(
                [
                    label,
                    dimension,
                    len(own),
                    " to ".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))),
                    *percent,
                ]
            )
    header = ["method", "d", "functions", "instances", *(f"{share} d" for share in SHARES)]
    return report.table(header, lines)
