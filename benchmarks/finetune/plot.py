"""The picture of the language model's case."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.common.plots import plt, queries_axis
from benchmarks.finetune.tables import TIMED, means, timed

STYLES = {
    "mezo": ("#4477aa", "-"),
    "zoar_1": ("#777777", "-"),
    "zoar": ("#777777", "--"),
    "zovh": ("#777777", ":"),
    "hizoo": ("#aa3377", "-"),
    "zoar_low_rank": ("#228833", "-"),
    "zoar_signs": ("#228833", "--"),
    "radazo": ("#66ccee", "-"),
    "fzoo": ("#aa7700", "-"),
    "poem": ("#ddaa33", "-"),
    "scalar_newton": ("#cc3311", "-"),
    "diagonal_newton": ("#cc3311", "--"),
    "low_rank_newton": ("#cc3311", ":"),
    "adam": ("#000000", ":"),
}
"""Colour and line of each method."""
COLUMNS = 3


def figure_of(result: dict[str, Any]) -> Any:
    """Held-out accuracy over forwards, the mean of the seeds, a panel a part; None without any.

    A last panel has one part over seconds on a CPU, where its steps were timed.
    """
    parts = result["parts"]
    if not parts:
        return None
    seconds = timed(result)
    panels = len(parts) + bool(seconds)
    columns = min(COLUMNS, panels)
    rows = math.ceil(panels / columns)
    figure, axes = plt.subplots(
        rows,
        columns,
        figsize=(5.2 * columns, 4.0 * rows + 1.2),
        dpi=100,
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[panels:]:
        ax.set_visible(False)
    shown: dict[str, Any] = {}
    for ax, (name, part) in zip(axes.flat, parts.items(), strict=False):
        draw(ax, part)
        ax.set_title(f"{name}: {part['dimension']:,} parameters", fontsize=10)
        if part.get("model", "minilm") == "minilm":
            ax.axhline(result["probe"], color="black", linewidth=0.8, linestyle=(0, (1, 3)))
        handles, labels = ax.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
        queries_axis(ax, part["budget"])
        ax.set_xlabel("forwards (bands: two standard errors; dotted: linear probe)", fontsize=9)
    if seconds:
        draw(axes.flat[len(parts)], parts[TIMED], seconds)
        axes.flat[len(parts)].set_title(f"{TIMED}, over seconds on a CPU", fontsize=10)
        axes.flat[len(parts)].set_xlabel("seconds", fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy on held-out sentences")
    figure.legend(
        shown.values(), shown.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9
    )
    return figure


def draw(ax: Any, part: dict[str, Any], units: Mapping[str, float] | None = None) -> None:
    """Draws the mean accuracy of each method.

    Args:
      ax: where.
      part: its rows.
      units: what a forward takes, by method: those without are left out. Forwards where None.
    """
    for row in part["rows"]:
        if units is not None and row["method"] not in units:
            continue
        colour, line = STYLES[row["method"]]
        middle, each = means(row), np.array(row["tests"]["each"], float)
        unit = 1 if units is None else units[row["method"]]
        queries = unit * np.asarray(row["tests"]["queries"])
        ax.plot(queries, middle, line, color=colour, label=row["label"])
        if len(each) > 1:
            band = 2 * each.std(0, ddof=1) / np.sqrt(len(each))
            ax.fill_between(
                queries, middle - band, middle + band, color=colour, alpha=0.08, linewidth=0
            )
    ax.grid(color="#eeeeee")
    ax.set_axisbelow(True)
