"""The picture of the populations case."""

from typing import Any

import numpy as np
from matplotlib.ticker import LogLocator

from benchmarks.common.plots import floats, plt

COLOURS = (
    *("#4477aa", "#228833", "#99cc66", "#cc3311", "#000000"),
    *("#ee9900", "#aa3377", "#88ccee", "#999999"),
)


def figure_of(result: dict[str, Any]) -> Any:
    """Held-out loss over queries; what a step costs; what a device has of it."""
    figure, axes = plt.subplots(1, 3, figsize=(17, 4.6), dpi=110, layout="constrained")
    left, right, share = axes
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
    shares(share, result, dict(zip(names, COLOURS, strict=False)))
    return figure


def shares(ax: Any, result: dict[str, Any], colours: dict[str, str]) -> None:
    """A device's operations and temporaries where most share a step, over those of one alone."""
    most = max(result["settings"]["devices"])
    alone = {
        (row["library"], row["method"]): row for row in result["devices"] if row["devices"] == 1
    }
    rows = [row for row in result["devices"] if row["devices"] == most]
    for i, row in enumerate(rows):
        one = alone[row["library"], row["method"]]
        if not one["temporary_bytes"]:
            continue
        name = f"{row['library']} {row['method']}"
        colour = colours.get(name.removesuffix(", psum"))
        at = [row[key] / one[key] for key in ("operations", "temporary_bytes")]
        face = "none" if name.endswith(", psum") else colour
        size = 14 - i  # those at one place are all seen
        ax.plot(*at, "o", color=colour, markerfacecolor=face, markersize=size, markeredgewidth=1.6)
    for line in (ax.axvline, ax.axhline):
        line(1 / most, color="black", linestyle="--", linewidth=0.9)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"operations of one of {most} devices, over one device's",
        ylabel="temporaries, over one device's",
        title='dashed: an equal share; open: reduce="psum"',
    )
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
