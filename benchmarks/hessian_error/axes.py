"""What the two pictures of the case share: a method's look, and axes of errors."""

from collections.abc import Mapping
from typing import Any

from benchmarks.common import plots
from benchmarks.hessian_error.tables import pick

Style = Mapping[str, tuple[str, str]]
"""Colour and marker by method."""
STYLE: Style = {
    "s1": ("#999999", "v"),
    "s2": ("#ccaa22", "^"),
    "s3": ("#228833", "s"),
    "cd": ("#66ccee", "D"),
    "zovh": ("#cc3311", "o"),
    "zovh_reuse": ("#4477aa", "P"),
    "trace": ("#aa3377", "x"),
    "trace_pairs": ("#882255", "+"),
    "trace_exact": ("black", "*"),
}
SHOWN = "rosenbrock"
"""The function of the panels that have room for one."""


def draw_medians(
    ax: Any, x: list[float], rows: list[dict[str, Any]], style: Style, labels: Mapping[str, str]
) -> None:
    """Draws a line of medians over x for each method that has rows."""
    for name, (colour, marker) in style.items():
        medians = [row["median"] for row in pick(rows, method=name)]
        if medians:
            ax.plot(x, medians, color=colour, marker=marker, label=labels[name])


def error_axes(ax: Any, xlabel: str, title: str) -> None:
    """Labels axes of errors, both logarithmic, and marks what the zero matrix scores."""
    plots.level(ax, 1, "zero matrix")
    ax.set(
        xscale="log", yscale="log", xlabel=xlabel, ylabel="relative Frobenius error", title=title
    )
