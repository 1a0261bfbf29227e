"""What the Hessian-error case reports: fitted slopes, and markdown tables."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks import report
from benchmarks.hessian_measure import METHODS


def slopes(rows: list[dict], biases: list[dict], inverses: list[dict]) -> list[dict[str, Any]]:
    """Every slope that the paper has, and those of the methods."""
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
    rows, labels = result["errors"], result["labels"]
    places = list(dict.fromkeys((r["problem"], r["radius"]) for r in pick(rows, sweep="queries")))
    header = [f"{problem}, μ = {radius:g}" for problem, radius in places]

    def across(sweep):
        lines = []
        for method, label in labels.items():
            cells = [
                pick(rows, sweep=sweep, method=method, problem=problem, radius=radius)[0]
                for problem, radius in places
            ]
            k, queries = cells[0]["num_directions"], cells[0]["queries"]
            lines.append([label, k, queries, *(number(cell["median"]) for cell in cells)])
        return report.table(["method", "directions", "queries", *header], lines)

    def along(sweep, field, methods):
        lines: dict[tuple[str, str], list[str]] = {}
        for row in pick(rows, sweep=sweep):
            if row["method"] in methods:
                line = lines.setdefault((row["problem"], labels[row["method"]]), [])
                line.append(number(row["median"]))
        values = dict.fromkeys(r[field] for r in pick(rows, sweep=sweep, method=methods[0]))
        return report.table(
            ["function", "method", *(f"{v:g}" for v in values)],
            [[*which, *cells] for which, cells in lines.items()],
        )

    claimed = [
        [
            line["of"].replace("of_", "relative to the "),
            line["problem"],
            line["against"],
            f"{line['slope']:.2f}",
            f"{line['claimed']:g}",
        ]
        for line in result["slopes"]
        if line["claimed"] is not None
    ]
    fits = [line for line in result["slopes"] if line["claimed"] is None]
    axes = list(dict.fromkeys((line["problem"], line["against"]) for line in fits))
    exponents = []
    for method in dict.fromkeys(line["of"] for line in fits):
        cells = [
            pick(fits, of=method, problem=problem, against=against)[0] for problem, against in axes
        ]
        exponents.append([labels[method], *(f"{cell['slope']:.2f}" for cell in cells)])
    symbols = {"num_directions": "K", "dimension": "d"}
    names = (*METHODS, "trace_exact")
    return {
        "same_directions": across("directions"),
        "same_queries": across("queries"),
        "against_directions": along("count", "num_directions", names),
        "against_radius": along("radius", "radius", names),
        "against_dimension": along("dimension", "dimension", names),
        "staleness": along("step", "step", ("zovh", "zovh_reuse")),
        "slopes": report.table(["of", "function", "against", "slope", "claimed"], claimed),
        "exponents": report.table(
            ["method", *(f"{problem}, {symbols[against]}" for problem, against in axes)], exponents
        ),
    }


def number(x: float) -> str:
    """Three digits, or thousands in full."""
    return f"{x:.3g}" if x < 1000 else f"{x:,.0f}"
