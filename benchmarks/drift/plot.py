"""The picture of the drift case."""

from typing import Any

import numpy as np

from benchmarks.common import report
from benchmarks.common.plots import legend_beside, plt

COLOURS = ("#4477aa", "#228833", "#cc3311", "#ddaa33")
DASHES = ("--", ":", "-.", (0, (8, 2)), (0, (1, 3)))


def figure_of(result: dict[str, Any]) -> Any:
    """Tracking error over the number of rounds, a panel for each speed, a line for each rule."""
    rows = result["rows"]
    speeds = list(dict.fromkeys(row["speed"] for row in rows))
    across = min(2, len(speeds))
    down = -(-len(speeds) // across)
    figure, panels = plt.subplots(
        down,
        across,
        figsize=(5 * across + 2, 3.6 * down),
        dpi=110,
        layout="constrained",
        squeeze=False,
    )
    for ax, speed in zip(panels.ravel(), speeds, strict=False):
        draw(ax, [row for row in rows if row["speed"] == speed])
        ax.set_title(f"the minimiser moves {speed:g} a query", fontsize=10)
    for ax in panels[-1]:
        ax.set_xlabel("rounds N")
    for ax in panels[:, 0]:
        ax.set_ylabel("tracking error: mean ‖θ − θ*‖")
    legend_beside(figure, panels[0, 0])
    return figure


def map_of(result: dict[str, Any]) -> Any:
    """Tracking error of the first rule over N and learning rate, a panel for each speed.

    The scores are those of the tuning seeds, where rates that nobody would choose were tried too.
    """
    rule = next((row["rule"] for row in result["rows"] if row["rule"]), None)
    rows = [
        row
        for row in result["rows"]
        if row["method"] == "zoar_1" or (row["method"] == "zoar" and row["rule"] == rule)
    ]
    speeds = list(dict.fromkeys(row["speed"] for row in rows))
    figure, panels = plt.subplots(
        len(speeds),
        1,
        figsize=(8.5, 2.3 * len(speeds) + 0.6),
        dpi=110,
        layout="constrained",
        squeeze=False,
    )
    for ax, speed in zip(panels[:, 0], speeds, strict=True):
        draw_map(ax, [row for row in rows if row["speed"] == speed])
        ax.set_title(f"the minimiser moves {speed:g} a query", fontsize=10)
    panels[-1, 0].set_xlabel("learning rate")
    figure.suptitle(f"tracking error, reuse: {rule} (×: diverged)", fontsize=11)
    return figure


def draw_map(ax, rows):
    """Draws one speed: an error in each cell that was tried, darker where it is smaller."""
    sizes = [row["history_size"] for row in rows]
    rates = sorted({trial["rate"] for row in rows for trial in row["grid"]})
    image = np.full((len(sizes), len(rates)), np.nan)
    for i, row in enumerate(rows):
        for trial in row["grid"]:
            j = rates.index(trial["rate"])
            lost = trial["score"] is None
            text = "×" if lost else report.number(trial["score"])
            ax.text(j, i, text, ha="center", va="center", fontsize=8)
            image[i, j] = np.nan if lost else np.log10(trial["score"])
    ax.imshow(image, cmap="Blues_r", aspect="auto", origin="lower", alpha=0.7)
    ax.set_xticks(range(len(rates)), [f"{rate:.2g}" for rate in rates])
    ax.set_yticks(range(len(sizes)), sizes)
    ax.set_ylabel("rounds N")


def draw(ax, rows):
    """Draws one speed: rules of reuse as lines over N, from ZoAR without reuse; others as points.

    Methods that reuse nothing are levels; a cross at the top marks runs that diverged.
    """
    reused = [row for row in rows if row["method"] == "zoar"]
    (alone,) = [row for row in rows if row["method"] == "zoar_1"]
    top = 1.25 * max(row["score"]["median"] for row in rows if not row["diverged"])
    labels = list(dict.fromkeys(row["label"] for row in reused))
    for i, (label, colour) in enumerate(zip(labels, COLOURS, strict=False)):
        line = [alone, *(row for row in reused if row["label"] == label)]
        lost = np.asarray([row["diverged"] > 0 for row in line])
        middle, low, high = (
            np.asarray([np.nan if row["diverged"] else row["score"][key] for row in line])
            for key in ("median", "least", "most")
        )
        # Shifted a little, so that they do not hide each other.
        where = np.asarray([row["history_size"] for row in line]) * 1.05 ** (i - 1.5)
        mark = {"color": colour, "marker": "os^D"[i], "capsize": 2}
        ax.errorbar(where, middle, (middle - low, high - middle), label=label, **mark)
        ax.plot(where[lost], np.full(lost.sum(), 0.97 * top), "x", color=colour, markersize=8)
    for row, marker in zip((r for r in rows if r["method"] == "zovh"), ("*", "P"), strict=False):
        place = 0.97 * top if row["diverged"] else row["score"]["median"]
        shape = {"marker": "x" if row["diverged"] else marker, "markersize": 9}
        where = 1.13 * row["history_size"]
        ax.plot(where, place, color="#aa3377", linestyle="", **shape)
        ax.plot([], [], marker, color="#aa3377", markersize=9, label=row["label"])
    others = [row for row in rows if row["method"] not in ("zoar", "zoar_1", "zovh")]
    for row, dashes in zip(others, DASHES, strict=False):
        height = top if row["diverged"] else row["score"]["median"]
        ax.axhline(height, color="#888888", linestyle=dashes, label=row["label"])
    ax.plot([], [], "kx", markersize=8, linestyle="", label="diverged")
    sizes = sorted({1, *(row["history_size"] for row in reused)})
    ax.set_xscale("log", base=2)
    ax.set_xticks(sizes, sizes)
    ax.set_ylim(0, top)
