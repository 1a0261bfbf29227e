"""The picture of the speed case."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLORS = ["#4c72b0", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c"]
LIBRARIES = {
    "reference": "#c44e52",
    "evosax": "#dd8452",
    "nevergrad": "#8c8c8c",
    "scipy": "#64b5cd",
}


def plot(result: dict[str, Any], path: Path) -> None:
    """Steps against their floor, the price of random numbers, and other libraries' queries."""
    figure = plt.figure(figsize=(13, 9.4 if result["others"] else 4.8), layout="constrained")
    grid = figure.add_gridspec(2 if result["others"] else 1, 2, width_ratios=(2.4, 1))
    draw_steps(figure.add_subplot(grid[0, 0]), result)
    draw_generators(figure.add_subplot(grid[0, 1]), result["generators"])
    if result["others"]:
        draw_others(figure.add_subplot(grid[1, :]), result)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def draw_steps(ax, result):
    """Microseconds a compiled step with the first generator, and its floor."""
    generator = result["pieces"][0]["generator"]
    pieces = [piece for piece in result["pieces"] if piece["generator"] == generator]
    rows = [
        row
        for row in result["steps"]
        if row["generator"] == generator and row["loop"] == "compiled" and row["queries"] == 3
    ]
    names = list(dict.fromkeys(row["step"] for row in rows))
    width, where = 0.8 / len(names), np.arange(len(pieces))
    for i, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        ours = [row for row in rows if row["step"] == name]
        heights = [row["microseconds"] for row in ours]
        bars = ax.bar(where + (i + 0.5) * width - 0.4, heights, width, label=name, color=color)
        ax.bar_label(bars, [f"{row['over_floor']:.1f}×" for row in ours], fontsize=7, padding=1)
    floors = [piece["random"] + piece["objective"] for piece in pieces]
    ax.hlines(floors, where - 0.42, where + 0.42, colors="black", linestyles="dashed")
    ax.plot([], [], "k--", label="floor: random numbers once + K objectives")
    ax.set_yscale("log")
    ax.set_xticks(where, [piece["function"] for piece in pieces])
    ax.set_ylabel("microseconds a step")
    settings = result["settings"]
    ax.set_title(
        f"a step over its floor: d = {settings['dimension']:,}, K = {settings['num_directions']}, "
        f"{generator}"
    )
    ax.legend(fontsize=8, ncols=2, loc="upper left")
    ax.set_ylim(top=ax.get_ylim()[1] * 4)


def draw_generators(ax, generators):
    generators = generators[::-1]
    names, prices = zip(*((g["name"], g["ns_per_number"]) for g in generators), strict=True)
    bars = ax.barh(names, prices, color=COLORS[0])
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.set_xlabel("nanoseconds a number")
    ax.set_title("random numbers")
    ax.margins(x=0.15)


def draw_others(ax, result):
    """Microseconds a query of ours, with both generators, and of the other libraries."""
    functions = list(dict.fromkeys(piece["function"] for piece in result["pieces"]))
    bars: dict[str, tuple[str, list[float], list[str]]] = {}
    against = dict.fromkeys(row["against"] for row in result["others"])
    generators = list(dict.fromkeys(piece["generator"] for piece in result["pieces"]))
    for row in result["steps"]:
        if row["step"] in against and row["loop"] == "compiled":
            name = f"{row['step']}, {row['generator'].split()[0]}"
            color = COLORS[0] if row["generator"] == generators[0] else COLORS[1]
            add(bars, name, color, row["microseconds"] / row["queries"], "")
    for row in result["others"]:
        library = "ZoVH authors" if row["library"] == "reference" else row["library"]
        ratio = f"{row['query_ratios'][generators[0]]:.1f}×"
        name = f"{library}: {row['method']}"
        add(bars, name, LIBRARIES[row["library"]], row["microseconds"] / row["queries"], ratio)
    width, where = 0.9 / len(bars), np.arange(len(functions))
    for i, (name, (color, heights, ratios)) in enumerate(bars.items()):
        at = where + (i + 0.5) * width - 0.45
        ax.bar(at, heights, width * 0.92, color=color)
        for x, height, ratio in zip(at, heights, ratios, strict=True):
            ax.text(x, height * 1.06, ratio, ha="center", fontsize=7)
        for x in at:
            ax.text(x, 0.62, name, rotation=90, ha="center", va="bottom", fontsize=6, color="white")
    ax.set_yscale("log")
    ax.set_ylim(bottom=0.5)
    ax.set_xticks(where, functions)
    ax.set_ylabel("microseconds a query")
    ax.set_title(
        f"a query against other libraries' (in blue ours with {generators[0]}, in green with "
        f"{generators[-1]}; ×: over the nearest of ours, in blue)"
    )


def add(bars, name, color, height, note):
    _, heights, notes = bars.setdefault(name, (color, [], []))
    heights.append(height)
    notes.append(note)
