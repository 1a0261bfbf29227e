"""The picture of the newton case."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {
    "zo_sgd_near": "#77aadd",
    "zoar": "#228833",
    "zo_sgd_hadamard": "#4477aa",
    "zoar_hadamard": "#88cc66",
    "scalar_newton": "#ee3377",
    "scalar_newton_16": "#aa1144",
    "diagonal_newton": "#ddaa33",
    "low_rank_newton": "#9955bb",
}


def plot(result: dict[str, Any], path: Path) -> None:
    """Curves on the quadratics, curves on the functions, and what came of the starts."""
    parts = [result["gap"], result["functions"]]
    problems = [list(dict.fromkeys(row["problem"] for row in part["rows"])) for part in parts]
    width = max(map(len, problems)) * 3.6 + 2
    figure = plt.figure(figsize=(width, 11), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=(1, 1, 0.9))
    draw_curves(top, parts[0], problems[0], parts[0]["fraction"])
    draw_curves(middle, parts[1], problems[1])
    draw_starts(bottom, result["starts"]["rows"])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def floats(values: list[float | None]) -> np.ndarray:
    return np.asarray([np.nan if v is None else v for v in values])


def draw_curves(figure, part, problems, fraction=None):
    """The value over the start's: median and range of the seeds; tuned peers are dashed."""
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    for ax, problem in zip(panels, problems, strict=True):
        for row in part["rows"]:
            if row["problem"] != problem:
                continue
            curve, colour = row["curve"], COLOURS[row["method"]]
            middle, low, high = (floats(curve[key]) for key in ("median", "least", "most"))
            start = middle[0]
            dashes = "-" if "newton" in row["method"] else "--"
            how = {"color": colour, "linestyle": dashes, "label": row["label"]}
            ax.plot(curve["queries"], middle / start, **how)
            band = {"color": colour, "alpha": 0.12, "linewidth": 0}
            ax.fill_between(curve["queries"], low / start, high / start, **band)
        if fraction:
            ax.axhline(fraction, color="black", linewidth=0.8, linestyle=":")
        floor = fraction / 3 if fraction else None
        ax.set(title=f"{problem}, d = {part['dimension']:,}", xlabel="queries", yscale="log")
        ax.set_ylim(floor, 2)
        if fraction:
            ax.set(xscale="log", xlim=(part["budget"] / 200, part["budget"]))
        else:
            ax.set_xlim(0, part["budget"])
            ax.set_xticks(np.linspace(0, part["budget"], 3))
            ax.xaxis.set_major_formatter("{x:,.0f}")
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("f(θ) / f(start)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right center", frameon=False, fontsize=9)


def draw_starts(figure, rows):
    """The final value over the first, over the scale of the start."""
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    for ax, problem in zip(panels, problems, strict=True):
        for count, mark in zip(
            dict.fromkeys(row["num_directions"] for row in rows), "os", strict=False
        ):
            runs = [r for r in rows if (r["problem"], r["num_directions"]) == (problem, count)]
            ratios = floats([r["last"] for r in runs]) / floats([r["first"] for r in runs])
            how = {"fillstyle": "none", "color": COLOURS["scalar_newton"], "label": f"K = {count}"}
            ax.plot([r["scale"] for r in runs], ratios, mark, **how)
        ax.axhline(1, color="black", linewidth=0.8, linestyle="--")
        ax.set(title=f"scalar Newton, starts: {problem}", xlabel="scale of the start", xscale="log")
        ax.set_ylim(0, 1.1)
        ax.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("final f / first f")
    panels[0].legend(frameon=False)
