"""The picture of sizes: loss, time and memory against the number of parameters."""

from typing import Any

import numpy as np

from benchmarks.common.plots import floats, plt
from benchmarks.finetune.costs import MEZO
from benchmarks.finetune.plot import STYLES
from benchmarks.finetune.tables import FORWARD

PROGRAMS = {
    FORWARD: ("#000000", ":"),
    "ZoAR, low rank": ("#228833", "-"),
    "ZoAR, Gaussian": ("#777777", "--"),
    MEZO: ("#4477aa", "-"),
}
"""Colour and line of each program."""
RATIO = "temporaries over the parameters' bytes"


def figure_of(result: dict[str, Any]) -> Any:
    """Three panels, or None where no size was measured."""
    scale = result.get("scale")
    if not scale:
        return None
    figure, axes = plt.subplots(1, 3, figsize=(15.6, 5.4), dpi=100, layout="constrained")
    loss, time, memory = axes
    draw_loss(loss, scale)
    device, sizes = most_sizes(scale["costs"])
    draw_costs(time, sizes, lambda row, size: row["seconds"])
    draw_costs(memory, sizes, lambda row, size: row["temporaries"] / size["bytes"])
    for ax, title in ((loss, "loss reached"), (time, f"seconds a step, {device}"), (memory, RATIO)):
        ax.set_title(title, fontsize=10)
        ax.set_xscale("log")
        ax.set_xlim(5e4, 2e8)
        ax.set_xlabel("parameters")
        ax.grid(color="#eeeeee")
        ax.set_axisbelow(True)
        ax.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=8
        )
    return figure


def draw_loss(ax: Any, scale: dict[str, Any]) -> None:
    """The held-out loss at the end of each method: the seeds' median, and their range.

    What ends above where it began, as runs do that diverge, leaves the panel.
    """
    training = scale["training"].values()
    ends = [scale["unigram"]]
    labels = {row["method"]: row["label"] for found in training for row in found["rows"]}
    for name, label in labels.items():
        rows = [(f["dimension"], r) for f in training for r in f["rows"] if r["method"] == name]
        sizes = [size for size, _ in rows]
        middle, low, high = (
            floats([row["test"][each] for _, row in rows]) for each in ("median", "least", "most")
        )
        ends += [min(r["test"]["median"] or np.inf, r["tests"]["median"][0]) for _, r in rows]
        colour, line = STYLES[name]
        ax.plot(sizes, middle, line, color=colour, label=label, marker="o", markersize=4)
        ax.vlines(sizes, low, high, color=colour, linewidth=1)
    ax.axhline(
        scale["unigram"],
        color="black",
        linewidth=0.8,
        linestyle=(0, (1, 3)),
        label="each byte's frequency alone",
    )
    ax.set_ylim(min(ends) - 0.2, max(ends) + 0.2)
    ax.set_ylabel("held-out loss, nats a byte")


def most_sizes(costs: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The device on which most sizes were timed, the last of equals, and these."""
    return max(reversed(costs.items()), key=lambda item: len(item[1]), default=("not timed", {}))


def draw_costs(ax: Any, sizes: dict[str, Any], what: Any) -> None:
    """A cost of each program, on two logarithmic axes."""
    found = {name: row["rows"] for name, row in sizes.items()}
    for program, (colour, line) in PROGRAMS.items():
        points = np.array(
            [
                (sizes[name]["dimension"], what(row, sizes[name]))
                for name, rows in found.items()
                for row in rows
                if row["program"] == program
            ]
        ).reshape(-1, 2)
        counts = {
            r["sentences"] for rows in found.values() for r in rows if r["program"] == program
        }
        label = f"{program}, {', '.join(map(str, sorted(counts)))} windows" if counts else program
        ax.plot(*points.T, line, color=colour, label=label, marker="o", markersize=4)
    ax.set_yscale("log")
