"""The picture of the noise case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import floats, legend_beside, plt

COLOURS = (
    *("#4477aa", "#88ccee", "#aa3377", "#228833", "#ddaa33", "#cc3311", "#999999"),
    *("#000000", "#9955bb"),
)
MARKERS = "osv^D*PXh"
UNITS = {
    "additive": "standard deviation / f(start)",
    "multiplicative": "standard deviation / f(θ)",
    "discontinuous": "step / f(start)",
}


def figure_of(result: dict[str, Any]) -> Any:
    """Regret over the level, a row of panels for each problem, a column for each kind."""
    problems = list(result["start"])
    size = 4.5 * len(UNITS) + 2.5, 3.7 * len(problems)
    figure, panels = plt.subplots(
        len(problems),
        len(UNITS),
        figsize=size,
        dpi=110,
        layout="constrained",
        squeeze=False,
        sharey="row",
    )
    labels = list(dict.fromkeys(row["label"] for row in result["rows"]))
    for line, problem in zip(panels, problems, strict=True):
        for ax, kind in zip(line, UNITS, strict=True):
            draw(ax, result, problem, kind, labels)
        line[0].set_ylabel("regret: mean f(θ) over the last fifth")
    legend_beside(figure, panels[0, 0])
    return figure


def draw(ax, result, problem, kind, labels):
    """Draws one kind of noise: median and range of the seeds, without noise at the left.

    A cross above the start marks methods most of whose runs diverged.
    """
    rows = [r for r in result["rows"] if r["problem"] == problem and r["kind"] in ("none", kind)]
    levels = sorted({row["level"] for row in rows})
    for i, label in enumerate(labels):
        of_label = sorted((r for r in rows if r["label"] == label), key=lambda r: r["level"])
        middle, low, high = (
            floats([r["score"][k] for r in of_label]) for k in ("median", "least", "most")
        )
        # Side by side, so that ranges do not hide each other.
        where = np.arange(len(levels)) + 0.05 * (i - (len(labels) - 1) / 2)
        lost = np.isnan(middle)
        crosses = where[lost], np.full(lost.sum(), 1.5 * result["start"][problem])
        ax.plot(*crosses, "x", color=COLOURS[i], markersize=8)
        ax.errorbar(
            where,
            middle,
            (middle - low, high - middle),
            color=COLOURS[i],
            marker=MARKERS[i],
            markersize=5,
            capsize=2,
            linewidth=1.2,
            label=label,
        )
    ax.axhline(result["start"][problem], color="black", linestyle="--", linewidth=0.8)
    ax.text(0, result["start"][problem], "start", fontsize=8, va="bottom")
    ax.set_xticks(range(len(levels)), [f"{level:g}" if level else "none" for level in levels])
    ax.set(title=f"{problem}: {kind}", xlabel=UNITS[kind], yscale="log")
