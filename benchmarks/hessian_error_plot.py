"""The picture of the Hessian-error case."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.hessian_error_tables import pick

STYLE = {
    "s1": ("#999999", "v"),
    "s2": ("#ccaa22", "^"),
    "s3": ("#228833", "s"),
    "cd": ("#66ccee", "D"),
    "zovh": ("#cc3311", "o"),
    "zovh_reuse": ("#4477aa", "P"),
    "trace": ("#aa3377", "x"),
    "trace_pairs": ("#882255", "+"),
    "trace_exact": ("black", "*"),
}
SHOWN = "rosenbrock"
BIAS_COLOURS = {
    "styblinski_tang": "#228833",
    "rosenbrock": "#4477aa",
    "levy": "#ccaa22",
    "kink": "#cc3311",
}


def save(path: Path, result: dict[str, Any]) -> None:
    """Draws a result, the content of the JSON file, and writes the PNG."""
    ratios = {"width_ratios": (1.45, 1, 1)}
    figure, axes = plt.subplots(2, 3, figsize=(19, 10.5), layout="constrained", gridspec_kw=ratios)
    draw_places(axes[0, 0], result)
    settings = result["settings"]
    d, k = settings["dimension"], settings["num_directions"]
    along = (
        (axes[0, 1], "count", "num_directions", f"directions K ({SHOWN}, d = {d:,})"),
        (axes[0, 2], "dimension", "dimension", f"dimension d ({SHOWN}, K = {k})"),
        (axes[1, 0], "radius", "radius", f"radius μ ({SHOWN}, d = {d:,}, K = {k})"),
    )
    for ax, sweep, field, xlabel in along:
        draw_sweep(ax, result, sweep, field, xlabel)
    draw_bias(axes[1, 1], result)
    draw_inverses(axes[1, 2], result)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_places(ax, result):
    """Every method on every function and layer, at equal queries."""
    rows = pick(result["errors"], sweep="queries")
    places = list(dict.fromkeys((row["problem"], row["radius"]) for row in rows))
    methods = [name for name in STYLE if any(row["method"] == name for row in rows)]
    for i, name in enumerate(methods):
        colour, marker = STYLE[name]
        mine = pick(rows, method=name)
        where = np.arange(len(places)) + (i - len(methods) / 2 + 0.5) * 0.08
        y = np.array([row["median"] for row in mine])
        spread = np.abs(np.array([[row["q25"], row["q75"]] for row in mine]).T - y)
        ax.errorbar(
            where, y, spread, fmt=marker, color=colour, markersize=6, linewidth=1, linestyle=""
        )
    for edge in range(1, len(places)):
        ax.axvline(edge - 0.5, color="#dddddd", linewidth=0.8)
    names = [f"{problem.replace('_', '-')}\nμ = {radius:g}" for problem, radius in places]
    ax.set_xticks(range(len(places)), names, fontsize=8)
    zero_matrix(ax)
    queries = max(row["queries"] for row in rows)
    ax.set(
        yscale="log",
        ylabel="relative Frobenius error",
        title=f"every method at {queries} queries: median, quartiles",
    )


def draw_sweep(ax, result, sweep, field, xlabel):
    """Every method on one function, one thing varied."""
    mine = pick(result["errors"], sweep=sweep, problem=SHOWN)
    x = [row[field] for row in pick(mine, method="zovh")]
    for name, (colour, marker) in STYLE.items():
        y = [row["median"] for row in pick(mine, method=name)]
        ax.plot(x, y, color=colour, marker=marker, label=result["labels"][name])
    zero_matrix(ax)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=xlabel,
        ylabel="relative Frobenius error",
        title=f"error against {xlabel.split(' (')[0]}: medians",
    )


def zero_matrix(ax):
    ax.axhline(1, color="black", linestyle="--", linewidth=0.9)
    ax.annotate(
        "zero matrix",
        (0, 1),
        xycoords=("axes fraction", "data"),
        xytext=(3, 3),
        textcoords="offset points",
        fontsize=8,
    )


def draw_bias(ax, result):
    """The bias alone, against the radius, with closed forms as lines."""
    for name, colour in BIAS_COLOURS.items():
        mine = pick(result["bias"], problem=name)
        radii = [row["radius"] for row in mine]
        slope = slope_of(result, "bias", name)
        what = "kink (Hessian only Lipschitz)" if name == "kink" else name.replace("_", "-")
        label = f"{what}: slope {slope:.2f}"
        ax.plot(radii, [row["relative"] for row in mine], "o", color=colour, label=label)
        known = [row["closed_form"] for row in mine]
        if None not in known:
            ax.plot(radii, known, "-", color=colour, linewidth=1)
    ax.plot([], [], "k-", linewidth=1, label="closed form")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"radius μ (d = {result['bias'][0]['dimension']})",
        ylabel="‖E Ĥ − H‖ / ‖H‖",
        title="bias against μ (Fig. 4: slope 1)",
    )
    ax.legend(frameon=False, fontsize=9)


def draw_inverses(ax, result):
    """Exact against Gram-diagonal inverses, over the dimension."""
    rows = result["inverses"]
    looks = {"of_correction": ("-", "the correction"), "of_inverse": ("--", "the inverse")}
    counts = list(dict.fromkeys(row["num_directions"] for row in rows))
    for count, colour in zip(counts, ("#cc3311", "#4477aa"), strict=False):
        mine = pick(rows, num_directions=count)
        for of, (line, what) in looks.items():
            slope = slope_of(result, f"inverse gap, {of}, K = {count}", "quadratic")
            ax.plot(
                [row["dimension"] for row in mine],
                [row[of] for row in mine],
                line,
                marker="o",
                color=colour,
                label=f"K = {count}, relative to {what}: slope {slope:.2f}",
            )
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="dimension d (quadratic)",
        ylabel="‖exact − Gram-diagonal‖ / ‖·‖",
        title="two inverses of one estimate (Fig. 5: slope −½)",
    )
    ax.legend(frameon=False, fontsize=9)


def slope_of(result, of, problem):
    (line,) = pick(result["slopes"], of=of, problem=problem)
    return line["slope"]
