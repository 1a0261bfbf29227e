"""The picture of the bilevel case."""

from typing import Any

import numpy as np

from benchmarks.bilevel.tables import CEILING, NEAR, by_setting
from benchmarks.common.plots import legend_beside, plt

COLOURS = {
    "first_order": "#000000",
    "values": "#cc3311",
    "mixed": "#ee9900",
    "whole": "#4477aa",
    "pzobo": "#228833",
    "random": "#999999",
}


def figure_of(result: dict[str, Any]) -> Any:
    """Test accuracy over the cost, a panel for each task and setting."""
    settings = by_setting(result["rows"])
    across = min(3, len(settings))
    down = -(-len(settings) // across)
    figure, panels = plt.subplots(
        down,
        across,
        figsize=(4.4 * across + 2.6, 3.6 * down),
        dpi=110,
        layout="constrained",
        squeeze=False,
    )
    for ax, (name, rows) in zip(panels.ravel(), settings.items(), strict=False):
        draw(ax, rows)
        ax.set_title(name.replace("_", ", corruption "), fontsize=10)
    for ax in panels.ravel()[len(settings) :]:
        ax.set_axis_off()
    for ax in panels.ravel()[: len(settings)]:
        ax.set_xlabel("cost, in values")
    for ax in panels[:, 0]:
        ax.set_ylabel("test accuracy")
    longest = max(range(len(settings)), key=lambda i: len(list(settings.values())[i]))
    legend_beside(figure, panels.ravel()[longest])
    return figure


def draw(ax, rows):
    """Draws the mean over the seeds and their range, and a level just below the ceiling."""
    for row in rows:
        tests = np.asarray(row["curve"]["test"], float)
        colour = COLOURS[row["method"]]
        queries = row["curve"]["queries"]
        ax.plot(queries, tests.mean(0), color=colour, label=row["label"])
        ax.fill_between(queries, tests.min(0), tests.max(0), color=colour, alpha=0.12, linewidth=0)
        if row["method"] == CEILING:
            height = np.mean(row["test"]["each"]) - NEAR
            ax.axhline(height, color="black", ls="--", lw=0.9, label="a point below its end")
    ax.set_xscale("log")
