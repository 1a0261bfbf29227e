"""The picture of the populations case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import floats, legend_beside, plt

COLOURS = ("#4477aa", "#228833", "#cc3311", "#000000", "#ee9900", "#aa3377", "#88ccee", "#999999")


def figure_of(result: dict[str, Any]) -> Any:
    """Held-out loss over queries, and over the seconds that these took."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.6), dpi=110, layout="constrained")
    cost = {(row["library"], row["method"]): row["microseconds"] for row in result["costs"]}
    for row, colour in zip(result["worth"], COLOURS, strict=False):
        curves = np.stack([floats(one) for one in row["loss"]])
        queries = np.asarray(row["queries"])
        seconds = queries * cost[row["library"], row["method"]] / 1e6
        label = f"{row['library']} {row['method']}"
        for ax, where in ((left, queries), (right, seconds)):
            ax.plot(where, np.median(curves, 0), color=colour, label=label)
            ax.fill_between(where, curves.min(0), curves.max(0), color=colour, alpha=0.12, lw=0)
    left.set(xlabel="queries", ylabel="held-out loss", yscale="log")
    right.set(xlabel="seconds of a network's steps as measured in the costs", yscale="log")
    legend_beside(figure, left)
    return figure
