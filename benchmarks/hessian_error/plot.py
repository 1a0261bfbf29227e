"""The picture of the Hessian-error case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import plt
from benchmarks.hessian_error.axes import SHOWN, STYLE, draw_medians, error_axes
from benchmarks.hessian_error.tables import pick

BIAS_COLOURS = {
    "styblinski_tang": "#228833",
    "rosenbrock": "#4477aa",
    "levy": "#ccaa22",
    "kink": "#cc3311",
}


def figure_of(result: dict[str, Any]) -> Any:
    """Errors of averaged estimates, their bias, and two inverses."""
    ratios = {"width_ratios": (1.45, 1, 1)}
    figure, axes = plt.subplots(
        2, 3, figsize=(19, 10.5), dpi=110, layout="constrained", gridspec_kw=ratios
    )
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
    handles, labels = axes[0, 1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def draw_places(ax, result):
    """Draws every method on every function and layer, at equal queries."""
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
    queries = max(row["queries"] for row in rows)
    error_axes(ax, "", f"every method at {queries} queries: median, quartiles")
    ax.set_xscale("linear")
    ax.set_xticks(range(len(places)), names, fontsize=8)


def draw_sweep(ax, result, sweep, field, xlabel):
    """Draws every method on one function, one thing varied."""
    rows = pick(result["errors"], sweep=sweep, problem=SHOWN)
    x = [row[field] for row in pick(rows, method="zovh")]
    draw_medians(ax, x, rows, STYLE, result["labels"])
    error_axes(ax, xlabel, f"error against {xlabel.split(' (')[0]}: medians")


def draw_bias(ax, result):
    """Draws the bias alone against the radius, with closed forms as lines."""
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
    """Draws the distance between exact and Gram-diagonal inverses over the dimension."""
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
    """The fitted slope of one quantity on one problem."""
    (line,) = pick(result["slopes"], of=of, problem=problem)
    return line["slope"]
