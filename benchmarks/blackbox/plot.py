"""The pictures of the blackbox case: shares of (function, instance, target) over evaluations."""

from typing import Any

import numpy as np

from benchmarks.blackbox.experiment import FUNCTIONS
from benchmarks.blackbox.tables import parts
from benchmarks.common.plots import legend_beside, plt

COLOURS = {
    "model_newton": "#aa1144",
    "quasi_newton": "#ee7733",
    "low_rank_newton": "#9955bb",
    "diagonal_newton": "#ddaa33",
    "scalar_newton": "#ee3377",
    "cma": "#4477aa",
    "sep_cma": "#004488",
    "vd_cma": "#33bbee",
    "cobyqa": "#228833",
    "newuoa": "#99aa00",
    "l_bfgs": "#777777",
    "spsa": "#88ccee",
    "openai_es": "#bb8855",
}
UNIMODAL = (1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)
GROUPS = {
    "all functions": range(1, 25),
    "unimodal": UNIMODAL,
    "multimodal": [number for number in range(1, 25) if number not in UNIMODAL],
}

Rows = list[dict[str, Any]]
Panel = tuple[str, int, Rows, Rows]
"""A title, the dimension, rows, and what is published for their functions."""


def few_parameters(result: dict[str, Any]) -> list[list[Panel]]:
    """Panels of all functions, and of groups of them."""
    return [
        [
            (
                f"{group}, d = {dimension}",
                dimension,
                [row for row in rows if row["number"] in numbers],
                [row for row in published(result, dimension) if row["number"] in numbers],
            )
            for group, numbers in GROUPS.items()
        ]
        for (noise, dimension), rows in parts(result).items()
        if noise == "none" and dimension not in FUNCTIONS
    ]


def many_parameters(result: dict[str, Any]) -> list[list[Panel]]:
    """A panel for each dimension that has fewer functions."""
    line: list[Panel] = [
        (f"d = {dimension}", dimension, rows, published(result, dimension))
        for (noise, dimension), rows in parts(result).items()
        if noise == "none" and dimension in FUNCTIONS
    ]
    return [line] if line else []


def noisy(result: dict[str, Any]) -> list[list[Panel]]:
    """Lines of panels by noise, of dimensions."""
    lines: dict[str, list[Panel]] = {}
    for (noise, dimension), rows in parts(result).items():
        if noise != "none":
            title = f"{noise} noise, d = {dimension}"
            lines.setdefault(noise, []).append((title, dimension, rows, []))
    return list(lines.values())


def published(result: dict[str, Any], dimension: int) -> Rows:
    """What is published for the functions in a dimension."""
    return [row for row in result["published"] if row["dimension"] == dimension]


def figure_of(lines: list[list[Panel]]) -> Any:
    """Lines of panels."""
    columns = max(len(line) for line in lines)
    figure, grid = plt.subplots(
        len(lines),
        columns,
        figsize=(4.3 * columns + 2, 4 * len(lines)),
        dpi=100,
        squeeze=False,
        layout="constrained",
        sharey=True,
    )
    for axes, line in zip(grid, lines, strict=True):
        for ax, panel in zip(axes, line, strict=False):
            profile(ax, *panel)
        axes[0].set_ylabel("targets reached")
        for ax in axes[len(line) :]:
            ax.axis("off")
    legend_beside(figure, *grid.flat)
    return figure


def profile(ax: Any, title: str, dimension: int, rows: Rows, best: Rows) -> None:
    """Draws the share of the targets that each method has reached."""
    for method in dict.fromkeys(row["method"] for row in rows):
        own = [row for row in rows if row["method"] == method]
        counts = [n for row in own for run in row["instances"] for n in run]
        how = {"color": COLOURS[method], "label": own[0]["label"]}
        draw(ax, counts, dimension, **how)
    counts = [n for row in best for n in row["evaluations"]]
    draw(ax, counts, dimension, color="black", linestyle=":", label="best 2009, published")
    most = max((row["budget"] for row in rows), default=dimension) / dimension
    ax.set(title=title, xscale="log", xlabel="evaluations / d", xlim=(0.5, most), ylim=(0, 1))


def draw(ax: Any, counts: list[float | None], dimension: int, **how: Any) -> None:
    """Draws the share of the counts that are at most so large."""
    if counts:
        reached = np.sort([n for n in counts if n is not None]) / dimension
        ax.step(reached, np.arange(1, len(reached) + 1) / len(counts), where="post", **how)
