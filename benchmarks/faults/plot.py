"""The picture of the faults case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import plt
from benchmarks.faults.tables import READ_ONLY, line


def figure_of(result: dict[str, Any]) -> Any:
    """At the left how many faults of each kind; at the right what missing values cost."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(14, 5), dpi=110, layout="constrained", width_ratios=(5, 6)
    )
    rows = [row for row in result["rows"] if row["kind"] != READ_ONLY]
    worst = result["setting"]["worst_ratio"]
    counts(left, rows, worst)
    costs(right, [row for row in rows if row["ratio"] is not None], worst)
    return figure


def counts(ax, rows, worst):
    """Draws the faults by kind, with what came of the runs."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))[::-1]
    lines = [line(kind, [r for r in rows if r["kind"] == kind], worst) for kind in kinds]
    ax.barh(kinds, [faults for _, _, faults, *_ in lines], color="#4477aa")
    for i, (_, _, faults, runs, lost, wrong, off, *_) in enumerate(lines):
        text = f" {faults} in {runs} runs: {lost} lost, {wrong} wrong, {off} off"
        ax.text(faults, i, text, va="center", fontsize=8)
    ax.set_xlim(0, 2 * max(faults for _, _, faults, *_ in lines))
    ax.set(title="faults, and runs that did not end as they must", xlabel="faults")


def costs(ax, rows, worst):
    """Draws final values over the clean run's: a dot for each optimiser, named if it is far off."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    for i, kind in enumerate(kinds):
        here = sorted((r for r in rows if r["kind"] == kind), key=lambda r: r["ratio"])
        ratios = np.asarray([row["ratio"] for row in here])
        where = i + np.linspace(-0.25, 0.25, len(here))  # side by side
        ax.plot(where, ratios, "o", color="#4477aa", markersize=5)
        ax.plot([i - 0.3, i + 0.3], [np.median(ratios)] * 2, color="black", linewidth=1.5)
        height = 0.0
        for x, row in zip(where, here, strict=True):
            if row["ratio"] > worst:
                height = max(row["ratio"], 1.5 * height)  # names do not cover each other
                ax.text(x - 0.06, height, row["optimizer"], fontsize=7, ha="right", va="center")
    for height, text in ((1, "clean run"), (worst, "limit")):
        ax.axhline(height, color="black", linestyle="--", linewidth=0.8)
        ax.text(-0.95, height, text, fontsize=8, va="bottom")
    ax.set_xticks(range(len(kinds)), [kind.replace(" out of", "\nout of") for kind in kinds])
    ax.set_xlim(-1, len(kinds) - 0.5)
    ax.set_yscale("log")
    ax.yaxis.set_major_formatter("{x:g}")
    ax.set(title="what missing values cost", ylabel="final value / that of the clean run")
