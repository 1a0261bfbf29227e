"""The picture of the papers case: where the product descends, reuse, equal curves, floors."""

from typing import Any

import numpy as np

from benchmarks.common.plots import floats, plt

COLOURS = ("#cc3311", "#4477aa", "#228833", "#aa3377")


def figure_of(result: dict[str, Any]) -> Any:
    """Six panels."""
    figure, panels = plt.subplots(2, 3, figsize=(15, 8.4), dpi=110, layout="constrained")
    shapes = list(
        dict.fromkeys((row["num_directions"], row["dimension"]) for row in result["descent"])
    )
    for ax, shape in zip((panels[0, 0], panels[0, 1]), (shapes[0], shapes[-1]), strict=True):
        draw_descent(ax, shape, result)
    draw_reinforce(panels[0, 2], result["reinforce"])
    draw_onset(panels[1, 0], result)
    draw_map(figure, panels[1, 1], result["onset"])
    draw_floors(panels[1, 2], result)
    return figure


def draw_descent(ax, shape, result):
    """Factors over steepness, a line for each form."""
    n, d = shape
    rows = [row for row in result["descent"] if (row["num_directions"], row["dimension"]) == shape]
    for form, colour in zip(dict.fromkeys(row["form"] for row in rows), COLOURS, strict=False):
        line = [row for row in rows if row["form"] == form]
        ax.errorbar(
            [row["steepness"] for row in line],
            [row["factor"] for row in line],
            [row["error"] for row in line],
            color=colour,
            marker="o",
            markersize=4,
            linewidth=1,
            label=form,
        )
        ax.axhline(line[0]["derived_when_steep"], color=colour, linestyle=":", linewidth=1)
    line = [row for row in result["derived"] if (row["num_directions"], row["dimension"]) == shape]
    ax.plot(
        [row["steepness"] for row in line],
        [row["factor"] for row in line],
        "k--",
        linewidth=1,
        label="paper's, derived",
    )
    ax.axhline(0, color="black", linewidth=0.8)
    ax.set_xscale("log")
    ax.set_xlabel("steepness ‖g‖d/(λμ(n − 1))")
    ax.set_ylabel("λ gᵀE[x]/‖g‖²")
    ax.set_title(f"ZoVH's product, n = {n}, d = {d}; dotted: derived", fontsize=10)
    ax.legend(frameon=False, fontsize=8)


def draw_reinforce(ax, part):
    """Two curves that are one."""
    styles = ({"linewidth": 5, "alpha": 0.35}, {"linewidth": 1.2, "linestyle": "--"})
    for (name, values), style, colour in zip(part["values"].items(), styles, COLOURS, strict=False):
        ax.plot(values, color=colour, label=name, **style)
    ax.set_yscale("log")
    ax.set_xlabel("steps")
    ax.set_ylabel("value")
    ax.set_title("REINFORCE and ZoAR: one curve", fontsize=10)
    ax.legend(frameon=False)


def draw_onset(ax, result):
    """Biases over queries at one learning rate, a line for each N."""
    rows, budget = result["onset"], result["onset_size"]["queries"]
    whole = [
        rate
        for rate in sorted({row["learning_rate"] for row in rows})
        if all(kept(row) for row in rows if row["learning_rate"] == rate)
    ]
    shown = [row for row in rows if row["learning_rate"] == whole[-1] and row["history_size"] > 1]
    for row, colour in zip(shown, COLOURS, strict=False):
        biases = floats(row["biases"])
        biases[biases == 0] = np.nan  # the first round has no past
        ax.plot(
            np.linspace(0, budget, len(biases)),
            biases,
            color=colour,
            label=f"N = {row['history_size']}",
        )
    ax.set_yscale("log")
    ax.set_xlabel("queries")
    ax.set_ylabel("bias over the gradient's length")
    ax.set_title(f"reuse on Rosenbrock, learning rate {whole[-1]:g}", fontsize=10)
    ax.legend(frameon=False)


def kept(row):
    """Whether a run stayed below its start."""
    return row["final"] is not None and row["final"] < 1


def draw_map(figure, ax, rows):
    """Final values over N and the learning rate."""
    sizes = sorted({row["history_size"] for row in rows})
    rates = sorted({row["learning_rate"] for row in rows})
    image = np.full((len(sizes), len(rates)), np.nan)
    for row in rows:
        if kept(row):
            at = sizes.index(row["history_size"]), rates.index(row["learning_rate"])
            image[at] = np.log10(row["final"])
    drawn = ax.imshow(image, cmap="viridis", aspect="auto", origin="lower")
    for i, j in np.argwhere(np.isnan(image)):
        ax.text(j, i, "×", ha="center", va="center")
    ax.set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates], rotation=45)
    ax.set_yticks(range(len(sizes)), sizes)
    ax.set_xlabel("learning rate")
    ax.set_ylabel("rounds N")
    ax.set_title("final over first value (×: diverged)", fontsize=10)
    figure.colorbar(drawn, ax=ax, label="log₁₀")


def draw_floors(ax, result):
    """E‖∇f‖² over steps, solid for ZoAR and dashed for ZoVH, beside the derived lines."""
    steps = result["floors_size"]["steps"]
    radii = sorted({row["radius"] for row in result["floors"]})
    for row in result["floors"]:
        colour = COLOURS[radii.index(row["radius"]) % len(COLOURS)]
        squares = floats(row["squares"])
        at = np.linspace(0, steps - 1, len(squares)).astype(int)
        if row["method"].startswith("ZoAR"):
            ax.plot(at, squares, color=colour, label=f"μ = {row['radius']:g}")
            floor, factor = row["floor_derived"], row["rate_derived"]
            line = floor + (squares[0] - floor) * factor ** np.arange(steps)
            ax.plot(line, "k:", linewidth=1.5)
        else:
            ax.plot(at, squares, color=colour, linestyle="--", alpha=0.7)
    ax.set_yscale("log")
    ax.set_xlim(0, min(steps, 600))
    ax.set_ylim(top=1e4)
    ax.set_xlabel("steps")
    ax.set_ylabel("E‖∇f‖²")
    ax.set_title("a bowl: ZoAR (solid), ZoVH (dashed), derived (dotted)", fontsize=10)
    ax.legend(frameon=False, loc="upper right", ncols=2)
