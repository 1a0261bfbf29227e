"""What the pictures share. A case's picture is a function from its result to a figure."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # pictures go to files: no screen is needed

from matplotlib import pyplot as plt


def save(figure: Any, path: Path) -> None:
    """Writes the figure as a PNG, its axes open above and at the right, and closes it."""
    for ax in figure.axes:
        if not ax.images:  # those keep their frames
            ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)


def rows_of(figure: Any, heights: Sequence[float]) -> list[Any]:
    """Parts of the figure, one above the other."""
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)
    return [part for (part,) in parts]


def columns_of(figure: Any, widths: Sequence[float]) -> list[Any]:
    """Parts of the figure side by side."""
    return list(figure.subfigures(1, len(widths), width_ratios=widths, squeeze=False)[0])


def floats(values: Sequence[float | None]) -> np.ndarray:
    """Numbers from JSON, with NaN where it has null."""
    return np.asarray([np.nan if value is None else value for value in values])


def legend_beside(figure: Any, *axes: Any, **options: Any) -> None:
    """Names the lines of ``axes``, which those of the other panels share, beside all panels."""
    handles: dict[str, Any] = {}
    for ax in axes:
        for handle, name in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(name, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside right center", frameon=False, **options
    )


def level(ax: Any, height: float, text: str) -> None:
    """Draws a dashed line with its name at the left."""
    ax.axhline(height, color="black", linestyle="--", linewidth=0.9)
    ax.annotate(
        text,
        (0, height),
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=8,
    )


def draw_curve(ax: Any, curve: dict[str, Any], start: float, **how: Any) -> None:
    """Draws the values over queries: the median as a line, the range of the seeds as a band."""
    middle, low, high = (floats(curve[key]) / start for key in ("median", "least", "most"))
    ax.plot(curve["queries"], middle, **how)
    ax.fill_between(curve["queries"], low, high, color=how["color"], alpha=0.12, linewidth=0)


def queries_axis(ax: Any, budget: int) -> None:
    """Labels the horizontal axis with three numbers of queries."""
    ax.set_xlim(0, budget)
    ax.set_xticks(np.linspace(0, budget, 3))
    ax.xaxis.set_major_formatter("{x:,.0f}")
