"""Where this library loses: from each case the comparisons that it does not win."""

from typing import Any

import numpy as np

from benchmarks.across import Read, Row, grouped, least, median, ours
from benchmarks.bilevel.tables import CEILING, by_setting, queries_to_near
from benchmarks.blackbox.tables import cell, expected, most_parameters, reached
from benchmarks.common import report
from benchmarks.stochastic.tables import compared, ratio, split

FAR = 1.3
"""From this ratio on a final value is called worse."""


def tables(read: Read) -> dict[str, str]:
    """Markdown tables by name: "attack" from the case attack, and so on."""
    return {name.replace("_", "-"): of(read(case)) for name, (case, of) in LOSSES.items()}


def derivatives(result: dict[str, Any]) -> str:
    """The best from values alone beside Adam on true gradients, at equal costs."""
    rows = [row for part in result["parts"].values() for row in part["rows"]]
    lines = []
    for (problem, batch), found in grouped(rows, "problem", "batch").items():
        known = [row for row in found if row["kind"] == "derivatives"]
        values = [row for row in found if row["kind"] != "derivatives"]
        if known and (over := median(best := least(values, "final"), "final")):
            times = over / median(known[0], "final")
            if times > FAR:
                cells = [number(best, "final"), number(known[0], "final"), report.number(times)]
                lines.append([f"{problem}, {batch}", best["label"], *cells])
    header = ["setting", "best from values", "its loss", "Adam on true gradients", "times"]
    return report.table(header, lines)


def blackbox_functions(result: dict[str, Any]) -> str:
    """Functions on which somebody else arrives sooner, or comes nearer, than `model_newton`."""
    targets, lines = result["setting"]["targets"], []
    _, there = most_parameters(result)
    for function, rows in grouped(there, "function").items():
        key = {id(row): _standing(row, targets) for row in rows}
        mine = next(row for row in rows if row["method"] == "model_newton")
        best = min(rows, key=lambda row: key[id(row)])
        if key[id(best)] < key[id(mine)]:
            cells = [cell(row, targets) for row in (mine, best)]
            lines.append([function, cells[0], best["label"], cells[1]])
    return report.table(["function", "model Newton", "best", "it needs"], lines)


def _standing(row: Row, targets: list[float]) -> tuple[float, float]:
    """Expected evaluations to the last target; then the median of the targets reached."""
    near = np.median([reached(run, targets) for run in row["instances"]])
    return expected(row, -1), float(near)


def newton(result: dict[str, Any]) -> str:
    """Problems where one of ours needs more queries, or ends higher, than the best tuned peer."""
    lines = []
    for what, field in ("gap", "score"), ("functions", "final"):
        for problem, rows in grouped(result[what]["rows"], "problem").items():
            peer = least((row for row in rows if not ours(row)), field)
            for row in filter(ours, rows):
                if (times := median(row, field) / median(peer, field)) > 1:
                    if what == "gap":
                        budget = result["gap"]["budget"]
                        cells = [f"{queries(r, budget)} queries" for r in (row, peer)]
                        times = min(times, budget / median(peer, field))
                        over = "> " if median(row, field) > budget else ""
                    else:
                        cells, over = [number(r, field) for r in (row, peer)], ""
                    shown = f"{over}{times:.3g}"
                    lines.append([problem, row["label"], cells[0], peer["label"], cells[1], shown])
    return report.table(["problem", "ours", "", "best tuned", "", "times"], lines)


def queries(row: Row, budget: int) -> str:
    """A median of queries."""
    return report.queries(row["score"]["median"], budget)


def number(row: Row, field: str) -> str:
    """A median."""
    return report.number(row[field]["median"])


def two_dimensions(result: dict[str, Any]) -> str:
    """Rosenbrock's function in two dimensions: `scalar_newton` and the fastest."""
    rows = [row for row in result["rows"] if row["part"] == "rosenbrock"]
    shown = [least(rows, "score"), *(row for row in rows if "scalar Newton" in row["label"])]
    lines = [[row["label"], queries(row, row["budget"])] for row in shown]
    return report.table(["method", "median queries to 0.01"], lines)


def stochastic_settings(result: dict[str, Any]) -> str:
    """Settings in which one of ours ends above `FAR` times the best tuned method."""
    losses, _ = split(result)
    labels: dict[str, None] = {}
    lines = []
    for rows in losses.values():
        for setting, (found, best) in compared(rows).items():
            mine = {row["label"]: ratio(row, best) for row in found.values() if ours(row)}
            labels |= dict.fromkeys(mine)
            if any(over is None or over > FAR for over in mine.values()):
                cells = [report.number(mine[label]) for label in labels]
                lines.append([setting, best["label"], number(best, "final"), *cells])
    return report.table(
        ["setting", "best tuned", "its loss", *(f"{m}, times" for m in labels)], lines
    )


def games(result: dict[str, Any]) -> str:
    """Returns of games that a rival plays best: the best, and ours."""
    _, rows = split(result)
    lines = []
    for problem, found in grouped(rows, "problem").items():
        best = max(found, key=lambda row: (row["test"]["median"], row["test"]["least"]))
        if not ours(best):
            for row in [best, *(row for row in found if ours(row))]:
                lines.append([problem, row["label"], report.spread(row, "test")])
    return report.table(["game", "method", "return: median (range)"], lines)


def attack(result: dict[str, Any]) -> str:
    """The attack with the fewest queries, and those of the Newton methods and of ZoVH."""
    rows = [row for row in result["methods"] if not row["control"]]
    best = min(rows, key=lambda row: (-row["successes"], median(row, "queries")))
    mine = [row for row in rows if "Newton" in row["label"] or row["label"] == "ZoVH"]
    budget = result["setting"]["budget"]
    lines = [
        [
            row["label"],
            f"{row['successes']} of {row['attacks']}",
            report.queries(row["queries"]["median"], budget),
        ]
        for row in [best, *(row for row in mine if row is not best)]
    ]
    return report.table(["method", "fooled", "median queries"], lines)


def bilevel_prices(result: dict[str, Any]) -> str:
    """What values cost where implicit differentiation, or a simpler method, has as much."""
    lines = []
    for name, rows in by_setting(result["rows"]).items():
        by = {row["method"]: row for row in rows}
        mine = next(row for row in rows if row["label"].startswith("hypergradient"))
        if CEILING in by:
            rival = by[CEILING]
            costs = [queries_to_near(row, rival) for row in (mine, rival)]
            cells = ["not reached" if cost is None else f"{cost:,}" for cost in costs]
            times = report.number(costs[0] / costs[1]) if costs[0] and costs[1] else "-"
            lines.append([name.replace("_", ", "), *cells, times])
    header = ["task", "values alone", "implicit differentiation", "times"]
    return report.table(header, lines)


def bilevel_few(result: dict[str, Any]) -> str:
    """Three hyper-parameters: every method's outer loss."""
    rows = [row for row in result["rows"] if row["task"] == "augmentation"]
    lines = [[row["label"], report.spread(row, "final")] for row in rows]
    return report.table(["method", "outer loss"], lines)


def speed(result: dict[str, Any]) -> str:
    """Targets that were missed."""
    lines = [
        [row["target"], row["generator"], f"{row['value']:.2f}", row["where"]]
        for row in result["targets"]
        if not row["met"]
    ]
    return report.table(["target", "numbers", "worst", "where"], lines)


def drift(result: dict[str, Any]) -> str:
    """Speeds at which no reuse of rounds is best of what is tuned, and the best with reuse."""
    lines = []
    tuned = [row for row in result["rows"] if row["learning_rate"] is not None]
    for speed, rows in grouped(tuned, "speed").items():
        best = least(rows, "score")
        reused = least((row for row in rows if row["history_size"] > 1), "score")
        if best is not reused:
            cells = [f"{row['label']}: {number(row, 'score')}" for row in (best, reused)]
            lines.append([speed, *cells])
    return report.table(["speed", "best tuned", "best with reuse"], lines)


def hessian_error(result: dict[str, Any]) -> str:
    """Errors of averaged Hessians, over the Hessian's norm, at the largest dimension."""
    first = [row for row in result["errors"] if row["sweep"] == "directions"]
    fewest = min(row["num_directions"] for row in first if row["num_directions"])
    names = ("zovh", "zovh_reuse", "cd", "zero")
    lines = []
    for problem, rows in grouped(first, "problem").items():
        found = {r["method"]: r for r in rows if r["num_directions"] in (fewest, 0)}
        lines.append([problem, *(f"{found[n]['median']:,.3g}" for n in names if n in found)])
    labels = [result["labels"][n] for n in names if n in found]
    return report.table(["function", *labels], lines)


def faults(result: dict[str, Any]) -> str:
    """Optimisers that missing values cost more than twice the clean run's final value."""
    lines = [
        [row["optimizer"], row["kind"], report.number(row["ratio"])]
        for row in result["rows"]
        if (row["ratio"] or 0) > result["setting"]["worst_ratio"]
    ]
    return report.table(["optimiser", "a tenth of the calls", "final value, times"], lines)


LOSSES = {
    "derivatives": ("stochastic", derivatives),
    "attack": ("attack", attack),
    "blackbox": ("blackbox", blackbox_functions),
    "newton": ("newton", newton),
    "two_dimensions": ("zo-sah", two_dimensions),
    "stochastic": ("stochastic", stochastic_settings),
    "games": ("stochastic", games),
    "bilevel": ("bilevel", bilevel_prices),
    "bilevel_few": ("bilevel", bilevel_few),
    "speed": ("speed", speed),
    "drift": ("drift", drift),
    "hessian_error": ("hessian-error", hessian_error),
    "faults": ("faults", faults),
}
"""Each table's case, and what makes it."""
