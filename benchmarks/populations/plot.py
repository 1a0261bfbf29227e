"""The picture of the populations case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import floats, plt

COLOURS = (
    *("#4477aa", "#228833", "#99cc66", "#cc3311", "#000000"),
    *("#ee9900", "#aa3377", "#88ccee", "#999999"),
)


def figure_of(result: dict[str, Any]) -> Any:
    """Held-out loss over queries; and what a step costs, over the forwards alone."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.6), dpi=110, layout="constrained")
    cost = {(row["library"], row["method"]): row["times_forwards"] for row in result["costs"]}
    names = [f"{row['library']} {row['method']}" for row in result["worth"]]
    for row, name, colour in zip(result["worth"], names, COLOURS, strict=False):
        curves = np.stack([floats(one) for one in row["loss"]])
        left.plot(row["queries"], np.median(curves, 0), color=colour, label=name)
        left.fill_between(
            row["queries"], curves.min(0), curves.max(0), color=colour, alpha=0.12, linewidth=0
        )
        times = cost[row["library"], row["method"]]
        right.barh(name, times, color=colour)
        right.text(times, name, f" {times:.2g}", va="center")
    left.set(xlabel="queries", ylabel="held-out loss", yscale="log")
    left.yaxis.set_minor_formatter("{x:g}")
    left.yaxis.set_major_formatter("{x:g}")
    right.invert_yaxis()
    right.set(xlabel="a step, over the forwards alone", xscale="log")
    right.axvline(1, color="black", linestyle="--", linewidth=0.9)
    right.margins(x=0.12)
    return figure
