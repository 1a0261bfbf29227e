"""The picture of the speed case."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLORS = ["#4c72b0", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3"]


def plot(result: dict[str, Any], path: Path) -> None:
    """Steps against their floor (left), and the price of random numbers (right)."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(13, 4.6), width_ratios=[2.4, 1], layout="constrained"
    )
    generator = result["pieces"][0]["generator"]
    rows = [row for row in result["steps"] if row["generator"] == generator]
    pieces = [piece for piece in result["pieces"] if piece["generator"] == generator]
    names = list(dict.fromkeys(map(label, rows)))
    width = 0.8 / len(names)
    where = np.arange(len(pieces))
    for i, (name, color) in enumerate(zip(names, COLORS, strict=False)):
        heights = [row["microseconds"] for row in rows if label(row) == name]
        ratios = [row["over_floor"] for row in rows if label(row) == name]
        bars = left.bar(where + (i + 0.5) * width - 0.4, heights, width, label=name, color=color)
        left.bar_label(bars, [f"{r:.1f}×" for r in ratios], fontsize=7, padding=1)
    floors = [piece["random"] + piece["objective"] for piece in pieces]
    left.hlines(floors, where - 0.42, where + 0.42, colors="black", linestyles="dashed")
    left.plot([], [], "k--", label="floor: random numbers once + K objectives")
    left.set_yscale("log")
    left.set_xticks(where, [piece["function"] for piece in pieces])
    left.set_ylabel("microseconds a step")
    settings = result["settings"]
    left.set_title(f"a step, d = {settings['dimension']:,}, K = {settings['num_directions']}")
    left.legend(fontsize=8, ncols=2, loc="upper left")
    left.set_ylim(top=left.get_ylim()[1] * 4)

    generators = result["generators"][::-1]
    bars = right.barh(
        [g["name"] for g in generators], [g["ns_per_number"] for g in generators], color="#4c72b0"
    )
    right.bar_label(bars, fmt="%.2f", padding=3)
    right.set_xlabel("nanoseconds a number")
    right.set_title("random numbers")
    right.margins(x=0.15)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def label(row: dict[str, Any]) -> str:
    kept = "" if row["history_size"] == 1 else ", stored" if row["store_directions"] else ", replay"
    return f"{row['method']} N={row['history_size']}{kept}"
