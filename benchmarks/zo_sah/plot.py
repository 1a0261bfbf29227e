"""The picture of the zo-sah case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import draw_curve, floats, plt, queries_axis
from benchmarks.zo_sah.problems import TARGET
from benchmarks.zo_sah.tables import NETWORKS

COLOURS = ("#aa1144", "#ee6677", "#4477aa", "#77aadd", "#228833", "#ddaa33", "#9955bb", "#888888")
VARIED = {"T": "T, steps in the same planes", "m/d": "m/d", "κ": "κ", "q": "q"}


def figure_of(result: dict[str, Any]) -> Any:
    """Queries to targets, losses over queries, what options change, and errors of fits."""
    parts: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in result["rows"]:
        parts.setdefault(row["part"], {}).setdefault(row["problem"], []).append(row)
    panels = [
        *((draw_reached, rows, problem) for problem, rows in parts["rosenbrock"].items()),
        *((draw_losses, rows, problem) for problem, rows in parts["logistic"].items()),
        *(
            (draw_losses, rows, problem)
            for part in NETWORKS
            for problem, rows in parts.get(part, {}).items()
        ),
        *((draw_varied, parts[part], part) for part in VARIED if part in parts),
        (draw_fits, result["fits"], "Hessians of planes"),
    ]
    down = -(-len(panels) // 3)
    figure, axes = plt.subplots(
        down, 3, figsize=(16, 4.6 * down), dpi=90, layout="constrained", squeeze=False
    )
    for ax, (draw, rows, title) in zip(axes.ravel(), panels, strict=False):
        draw(ax, rows, title)
    for ax in axes.ravel()[len(panels) :]:
        ax.remove()
    return figure


def draw_reached(ax, rows, title):
    """Draws the queries of each run, a line for each method; a cross where it never got there."""
    for place, row in enumerate(rows):
        queries = floats(row["score"]["each"])
        there = queries <= row["budget"]
        spread = place + np.linspace(-0.25, 0.25, len(queries))
        how = {"color": COLOURS[place % len(COLOURS)], "linestyle": ""}
        ax.plot(queries[there], spread[there], "o", markersize=4, **how)
        ax.plot(np.full(np.sum(~there), row["budget"]), spread[~there], "x", **how)
    ax.axvline(200, color="black", linewidth=0.8, linestyle=":")
    ax.set(title=f"{title}: queries to {TARGET:g}", xlabel="queries", xscale="log")
    ax.set_yticks(range(len(rows)), [row["label"] for row in rows], fontsize=8)
    ax.invert_yaxis()


def draw_losses(ax, rows, title):
    """Draws values over queries."""
    for row, colour in zip(rows, COLOURS, strict=False):
        draw_curve(ax, row["curve"], 1.0, color=colour, label=row["label"])
    above = "loss" if rows[0]["part"] in NETWORKS else "loss above its minimum"
    ax.set(title=f"{title}, d = {rows[0]['dimension']:,}", xlabel="queries", ylabel=above)
    ax.set_yscale("log")
    queries_axis(ax, rows[0]["budget"])
    ax.legend(frameon=False, fontsize=7)


def draw_varied(ax, problems, part):
    """Draws final values over the option that varies."""
    for (problem, rows), colour in zip(problems.items(), COLOURS[::2], strict=False):
        values = [row[part] for row in rows]
        middle, low, high = (
            floats([row["final"][name] for row in rows]) for name in ("median", "least", "most")
        )
        ax.errorbar(
            values, middle, (middle - low, high - middle), color=colour, marker="o", capsize=2,
            label=problem,
        )  # fmt: skip
    ax.set(title=VARIED[part], xlabel=part, ylabel="final loss above its minimum")
    ax.set(xscale="log", yscale="log")
    ax.set_xticks(values, [f"{value:g}" for value in values])
    ax.set_xticks([], minor=True)
    ax.legend(frameon=False, fontsize=8)


def draw_fits(ax, rows, title):
    """Draws errors over the age of the planes."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    for problem, colour in zip(problems, COLOURS[::2], strict=False):
        of_problem = [row for row in rows if row["problem"] == problem]
        for name, dashes in (("fit", "-"), ("kept", "--"), ("fresh", ":")):
            errors = floats([row[name] for row in of_problem])
            ages = [row["age"] for row in of_problem]
            label = f"{problem}: {name}"
            ax.plot(ages, errors, color=colour, linestyle=dashes, label=label)
    ax.set(title=title, xlabel="steps since the draw", ylabel="relative error", yscale="log")
    ax.set_ylim(bottom=1e-7)  # room for the names
    ax.legend(frameon=False, fontsize=7)
