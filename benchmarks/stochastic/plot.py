"""The picture of the stochastic case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import columns_of, floats, plt, rows_of
from benchmarks.stochastic.tables import compared, label_of, ratio, settings_of, split, start_of

STYLES = {
    "poem": ("#ddaa33", "v"),
    "poem_average": ("#aa7700", "^"),
    "mechanic": ("#66ccee", "<"),
    "prodigy": ("#ee6677", ">"),
    "low_rank_newton": ("#9955bb", "D"),
    "diagonal_newton": ("#228833", "s"),
    "scalar_newton": ("#cc3311", "o"),
}
"""Colour and mark of the methods without a learning rate."""
COLOURS = {"first order": "#777777", "tuned": "#4477aa", "derivatives": "#000000"}
"""Of the others, by kind."""
KINDS = {
    "first order": "tuned, first order",
    "tuned": "tuned, others",
    "derivatives": "uses derivatives",
}
LEAST, LARGEST = 0.5, 30
"""Ratios beyond these are drawn at the edges."""


def figure_of(result: dict[str, Any]) -> Any:
    """Ratios to the best tuned method, by setting; the network's accuracy and policies' returns."""
    parts, games = split(result)
    losses = [row for rows in parts.values() for row in rows]
    panels = {
        ("test accuracy", setting): list(found.values())
        for setting, found in settings_of(parts.get("cnn", [])).items()
    } | {("return", setting): list(found.values()) for setting, found in settings_of(games).items()}
    height = max(6.0, 2.2 + 0.36 * len(compared(losses)))
    height = max(height, sum(1.0 + 0.23 * len(rows) for rows in panels.values()))
    widths = [9.0] * bool(losses) + [6.5] * bool(panels)
    figure = plt.figure(figsize=(sum(widths), height), dpi=100, layout="constrained")
    parts_of_figure = columns_of(figure, widths)
    if losses:
        draw_ratios(parts_of_figure[0].subplots(), losses)
    if panels:
        columns = rows_of(parts_of_figure[-1], [1.5 + 0.25 * len(r) for r in panels.values()])
        for part, ((measure, setting), rows) in zip(columns, panels.items(), strict=True):
            draw_tests(part.subplots(), f"{setting}: {measure} at the end", rows, measure)
    return figure


def draw_ratios(ax: Any, rows: list[dict[str, Any]]) -> None:
    """Draws final values over the best tuned method's, a line for each setting."""
    settings = compared(rows)
    where: dict[str, list[tuple[float, float]]] = {}
    for height, (found, best) in enumerate(settings.values()):
        for name, row in found.items():
            times = ratio(row, best)
            x = LARGEST if times is None else min(max(times, LEAST), LARGEST)
            where.setdefault(name if name in STYLES else row["kind"], []).append((x, height))
    labels = {row["method"]: row["label"] for row in rows}
    for kind, name in KINDS.items():
        if kind in where:
            mark = "|" if kind != "derivatives" else "x"
            x, y = np.asarray(where[kind]).T
            ax.plot(x, y, mark, color=COLOURS[kind], markersize=9 if mark == "|" else 6, label=name)
    for i, (name, (colour, mark)) in enumerate(STYLES.items()):
        if name in where:
            x, y = np.asarray(where[name]).T
            # One below the other, so that they do not hide each other.
            shift = 0.1 * (i - 3)
            how = {"color": colour, "markersize": 6, "markeredgecolor": "white"}
            ax.plot(x, y - shift, mark, label=labels[name], markeredgewidth=0.6, zorder=3, **how)
    ax.axvspan(1, 1.1, color="#228833", alpha=0.15, linewidth=0)
    ax.axvline(1, color="black", linewidth=0.9)
    ax.set_yticks(range(len(settings)), list(settings), fontsize=9)
    ax.set_ylim(len(settings) - 0.4, -0.6)
    ax.set_xscale("log")
    names = {LEAST: f"≤ {LEAST:g}", LARGEST: f"≥ {LARGEST:g}"}
    ticks = (LEAST, 0.7, 1, 1.5, 2, 3, 5, 10, LARGEST)
    ax.set_xticks(ticks, [names.get(t, f"{t:g}") for t in ticks])
    ax.set_xlim(LEAST / 1.1, LARGEST * 1.1)
    ax.minorticks_off()
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_xlabel("final objective / that of the best tuned first-order method (shaded: to 1.1)")
    ax.set_title("less is better; median of the seeds", fontsize=10)
    handles, labels_shown = ax.get_legend_handles_labels()
    ax.figure.legend(
        handles, labels_shown, loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )


def draw_tests(ax: Any, title: str, rows: list[dict[str, Any]], measure: str) -> None:
    """Draws what the answers are worth, the best at the top: median and range of the seeds."""
    rows = sorted(
        rows, key=lambda row: -np.inf if row["test"]["median"] is None else row["test"]["median"]
    )
    middle, low, high = (
        floats([row["test"][k] for row in rows]) for k in ("median", "least", "most")
    )
    for height, row in enumerate(rows):
        colour = STYLES[row["method"]][0] if row["method"] in STYLES else COLOURS[row["kind"]]
        ax.plot([low[height], high[height]], [height, height], color=colour, linewidth=2, alpha=0.5)
        ax.plot(middle[height], height, "o", color=colour)
    names = [label_of(row) for row in rows]
    ax.set_yticks(range(len(rows)), names, fontsize=8)
    for tick, row in zip(ax.get_yticklabels(), rows, strict=True):
        if row["method"] in STYLES:
            tick.set_color(STYLES[row["method"]][0])
            tick.set_fontweight("bold")
    if measure == "return":
        start = start_of(rows[0])["median"]
        ax.axvline(start, color="black", linestyle="--", linewidth=0.9)
        where = {"xytext": (3, 2), "textcoords": "offset points"}
        ax.annotate("start", (start, 0), xycoords=("data", "axes fraction"), fontsize=8, **where)
    ax.grid(axis="y", color="#eeeeee")
    ax.set_axisbelow(True)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.set_title(title, fontsize=10)
