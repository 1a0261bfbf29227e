"""The picture of the speed case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import plt, rows_of
from benchmarks.speed.tables import functions, generators

COLOURS = ["#4c72b0", "#55a868", "#c44e52", "#8172b3", "#937860", "#da8bc3", "#8c8c8c"]
OURS = ["#4c72b0", "#55a868", "#8172b3"]
"""By generator, where our steps stand beside other libraries'."""
LIBRARIES = {
    "reference": "#c44e52",
    "evosax": "#dd8452",
    "nevergrad": "#8c8c8c",
    "scipy": "#64b5cd",
}


def figure_of(result: dict[str, Any]) -> Any:
    """Steps over their floor, the price of numbers and of compiling, other libraries' queries."""
    heights = [4.4, 3.4] + [4.8] * bool(result["others"])
    figure = plt.figure(figsize=(17, sum(heights)), dpi=110, layout="constrained")
    parts = rows_of(figure, heights)
    draw_all_steps(parts[0], result)
    left, right = parts[1].subplots(1, 2)
    draw_generators(left, result["generators"])
    draw_compilation(right, result.get("compile"))
    if result["others"]:
        draw_others(parts[2].subplots(), result)
    return figure


def draw_all_steps(part, result):
    """Draws a panel of steps for each generator."""
    panels = part.subplots(1, len(generators(result)), sharey=True, squeeze=False)[0]
    for ax, generator in zip(panels, generators(result), strict=True):
        draw_steps(ax, result, generator)
    panels[0].set_yscale("log")
    panels[0].set_ylabel("microseconds a step")
    settings = result["settings"]
    part.suptitle(
        f"a step over its floor: d = {settings['dimension']:,}, K = {settings['num_directions']}"
    )
    handles, names = panels[0].get_legend_handles_labels()
    part.legend(handles, names, loc="outside right center", frameon=False, fontsize=9)


def draw_steps(ax, result, generator):
    """Draws microseconds a compiled step with one generator, and its floor."""
    pieces = [piece for piece in result["pieces"] if piece["generator"] == generator]
    rows = [
        row
        for row in result["steps"]
        if row["generator"] == generator and row["queries"] == result["settings"]["num_directions"]
    ]
    names = list(dict.fromkeys(row["step"] for row in rows))
    width, where = 0.86 / len(names), np.arange(len(pieces))
    every = dict.fromkeys(row["step"] for row in result["steps"])
    colours = dict(zip(every, COLOURS, strict=False))
    for i, name in enumerate(names):
        ours = [row for row in rows if row["step"] == name]
        heights = [row["microseconds"] for row in ours]
        bars = ax.bar(
            where + (i + 0.5) * width - 0.43, heights, width, label=name, color=colours[name]
        )
        labels = [f"{row['over_floor']:.1f}×" for row in ours]
        white = {"facecolor": "white", "edgecolor": "none", "pad": 0.3}
        ax.bar_label(bars, labels, fontsize=7, padding=3, rotation=90, bbox=white)
    floors = [piece["random"] + piece["objective"] for piece in pieces]
    ax.hlines(floors, where - 0.46, where + 0.46, colors="black", linestyles="dashed")
    ax.plot([], [], "k--", label="floor: directions once\n+ K objectives")
    ax.set_xticks(where, [piece["function"] for piece in pieces])
    ax.set_title(generator)
    ax.margins(y=0.12)


def draw_generators(ax, rows):
    """Draws nanoseconds a number."""
    rows = rows[::-1]
    names, prices = zip(*((row["name"], row["ns_per_number"]) for row in rows), strict=True)
    bars = ax.barh(names, prices, color=COLOURS[0])
    ax.bar_label(bars, fmt="%.2f", padding=3)
    ax.set(xlabel="nanoseconds a number", title="random numbers")
    ax.margins(x=0.15)


def draw_compilation(ax, part):
    """Draws how many times as long compiling takes as what stands beside it, where measured."""
    ax.set_title("compiling a step")
    if part is None:
        ax.text(0.5, 0.5, "not measured yet", ha="center", transform=ax.transAxes)
        ax.set_axis_off()
        return
    model = part["model"]
    rows = [(f"100 leaves over one, {row['generator']}", row["ratio"]) for row in part["steps"]]
    rows.append((f"MeZO, {model['leaves']} leaves, over two forwards", model["ratio"]))
    names, ratios = zip(*rows[::-1], strict=True)
    bars = ax.barh(names, ratios, color=COLOURS[1])
    ax.bar_label(bars, fmt="%.1f×", padding=3)
    ax.set_xlabel("ratio of CPU seconds")
    ax.margins(x=0.15)


def draw_others(ax, result):
    """Draws microseconds a query of ours, with every generator, and of the other libraries."""
    bars = bars_beside(result)
    width, where = 0.94 / len(bars), np.arange(len(functions(result)))
    for i, (name, (colour, heights, notes)) in enumerate(bars.items()):
        at = where + (i + 0.5) * width - 0.47
        ax.bar(at, heights, width * 0.92, color=colour)
        for x, height, note in zip(at, heights, notes, strict=True):
            ax.text(x, height * 1.1, note, ha="center", va="bottom", fontsize=7, rotation=90)
            ax.text(x, 0.12, name, rotation=90, ha="center", va="bottom", fontsize=6, color="white")
    ax.set_yscale("log")
    ax.set_ylim(0.1, 2.5 * max(max(heights) for _, heights, _ in bars.values()))
    ax.set_xticks(where, functions(result))
    ax.set_ylabel("microseconds a query")
    last = generators(result)[-1]
    ax.set_title(
        f"a query against other libraries' (×: over the nearest of ours, {last} if it can)"
    )


def bars_beside(result: dict[str, Any]) -> dict[str, tuple[str, list[float], list[str]]]:
    """Colour, heights and notes of every bar, by name; a height for each function."""
    bars: dict[str, tuple[str, list[float], list[str]]] = {}

    def add(name: str, colour: str, row: dict[str, Any], note: str) -> None:
        _, heights, notes = bars.setdefault(name, (colour, [], []))
        heights.append(row["microseconds"] / row["queries"])
        notes.append(note)

    against = {row["against"] for row in result["others"]}
    colours = dict(zip(generators(result), OURS, strict=False))
    for row in result["steps"]:
        if row["step"] in against:
            name = f"{row['step']}, {row['generator'].split()[0]}"
            add(name, colours[row["generator"]], row, "")
    for row in result["others"]:
        library = "ZoVH authors" if row["library"] == "reference" else row["library"]
        ratio = list(row["query_ratios"].values())[-1]
        add(f"{library}: {row['method']}", LIBRARIES[row["library"]], row, f"{ratio:.1f}×")
    return bars
