"""What the Hessian-error case reports: fitted slopes, and markdown tables."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from benchmarks.common import report
from benchmarks.hessian_error.measure import METHODS


def slopes(rows: list[dict], biases: list[dict], inverses: list[dict]) -> list[dict[str, Any]]:
    """The slopes that the paper has, and those of the methods."""
    fitted = []

    def fit(of, problem, against, points, claimed=None):
        x, y = np.log(np.array(points)).T
        slope = float(np.polyfit(x, y, 1)[0])
        fitted.append(
            {"of": of, "problem": problem, "against": against, "slope": slope, "claimed": claimed}
        )

    for problem in dict.fromkeys(row["problem"] for row in biases):
        points = [(r["radius"], r["relative"]) for r in biases if r["problem"] == problem]
        fit("bias", problem, "radius", points, claimed=1.0)
    for count in dict.fromkeys(row["num_directions"] for row in inverses):
        mine = [r for r in inverses if r["num_directions"] == count]
        for of in ("of_correction", "of_inverse"):
            points = [(row["dimension"], row[of]) for row in mine]
            fit(f"inverse gap, {of}, K = {count}", "quadratic", "dimension", points, claimed=-0.5)
    for sweep, field in (("count", "num_directions"), ("dimension", "dimension")):
        for problem in dict.fromkeys(row["problem"] for row in pick(rows, sweep=sweep)):
            for method in METHODS:
                mine = pick(rows, sweep=sweep, problem=problem, method=method)
                points = [(row[field], row["median"]) for row in mine]
                fit(method, problem, field, points)
    return fitted


def pick(rows: Iterable[dict[str, Any]], **fields: Any) -> list[dict[str, Any]]:
    """The rows with these fields."""
    return [row for row in rows if all(row[name] == value for name, value in fields.items())]


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of a result, by name."""
    names = (*METHODS, "trace_exact")
    return {
        "same_directions": across(result, "directions"),
        "same_queries": across(result, "queries"),
        "against_directions": along(result, "count", "num_directions", names),
        "against_radius": along(result, "radius", "radius", names),
        "against_dimension": along(result, "dimension", "dimension", names),
        "staleness": along(result, "step", "step", ("zovh", "zovh_reuse")),
        "slopes": claimed(result["slopes"]),
        "exponents": exponents(result),
        "trajectories": trajectories(result),
    }


def trajectories(result: dict[str, Any]) -> str:
    """Mean errors along descents, and how many times below CD's those of ZoVH are."""
    rows, labels = result["trajectories"], result["labels"]
    names = list(rows[0]["errors"])

    def mean(row, name):
        return row["errors"][name]["mean"]

    lines = [
        [
            row["problem"],
            f"{row['dimension']:,}",
            f"{row['radius']:g}",
            row["rounds"],
            row["points"],
            *(number(mean(row, name)) for name in names),
            *(f"{mean(row, 'cd') / mean(row, name):.1f}" for name in ("zovh", "zovh_reuse")),
        ]
        for row in rows
    ]
    methods = [labels[name] for name in names]
    ratios = ["CD over ZoVH", "over reuse"]
    return report.table(
        ["function or layer", "d", "radius μ", "rounds N", "points", *methods, *ratios], lines
    )


def across(result: dict[str, Any], sweep: str) -> str:
    """Median errors: methods down the side, functions and layers across."""
    rows = pick(result["errors"], sweep=sweep)
    places = list(dict.fromkeys((row["problem"], row["radius"]) for row in rows))
    lines = []
    for method, label in result["labels"].items():
        cells = [
            pick(rows, method=method, problem=problem, radius=radius)[0]
            for problem, radius in places
        ]
        k, queries = cells[0]["num_directions"], cells[0]["queries"]
        lines.append([label, k, queries, *(number(cell["median"]) for cell in cells)])
    header = [f"{problem}, μ = {radius:g}" for problem, radius in places]
    return report.table(["method", "directions", "queries", *header], lines)


def along(result: dict[str, Any], sweep: str, field: str, methods: Sequence[str]) -> str:
    """Median errors: functions and methods down the side, what is varied across."""
    rows, lines = pick(result["errors"], sweep=sweep), []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        for method, label in result["labels"].items():
            if method in methods:
                mine = pick(rows, problem=problem, method=method)
                lines.append([problem, label, *(number(row["median"]) for row in mine)])
    values = dict.fromkeys(row[field] for row in pick(rows, method=methods[0]))
    return report.table(["function", "method", *(f"{value:g}" for value in values)], lines)


def claimed(fits: list[dict[str, Any]]) -> str:
    """The fitted slopes for which the paper claims a number."""
    lines = [
        [
            fit["of"].replace("of_", "relative to the "),
            fit["problem"],
            fit["against"],
            f"{fit['slope']:.2f}",
            f"{fit['claimed']:g}",
        ]
        for fit in fits
        if fit["claimed"] is not None
    ]
    return report.table(["of", "function", "against", "slope", "claimed"], lines)


def exponents(result: dict[str, Any]) -> str:
    """The other fitted slopes: methods down the side, functions and what is varied across."""
    fits = pick(result["slopes"], claimed=None)
    axes = list(dict.fromkeys((fit["problem"], fit["against"]) for fit in fits))
    lines = []
    for method in dict.fromkeys(fit["of"] for fit in fits):
        cells = [
            pick(fits, of=method, problem=problem, against=against)[0] for problem, against in axes
        ]
        lines.append([result["labels"][method], *(f"{cell['slope']:.2f}" for cell in cells)])
    symbols = {"num_directions": "K", "dimension": "d"}
    header = [f"{problem}, {symbols[against]}" for problem, against in axes]
    return report.table(["method", *header], lines)


def number(x: float) -> str:
    """Three digits, or thousands in full."""
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"
