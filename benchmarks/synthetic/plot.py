"""The picture of the synthetic case."""

from typing import Any

import numpy as np
from matplotlib.colors import LogNorm

from benchmarks.common.plots import (
    columns_of,
    draw_curve,
    floats,
    legend_beside,
    plt,
    queries_axis,
    rows_of,
)
from benchmarks.synthetic.tables import tuned

STYLES = {
    "zo_sgd": ("#77aadd", "-"),
    "zo_sgd_near": ("#77aadd", "--"),
    "mezo": ("#4477aa", "-"),
    "zo_adamm": ("#999999", "-"),
    "radazo_reuse": ("#aa3377", "-"),
    "zoar_1": ("#88cc66", "-"),
    "zoar": ("#228833", "-"),
    "zovh": ("#cc3311", "--"),
    "hizoo": ("#000000", "-"),
    "hizoo_zovh": ("#000000", ":"),
    "zo_sah_1": ("#ddaa33", "-"),
    "zo_sgd_hadamard": ("#ee8866", "--"),
    "scalar_newton": ("#ee3377", "-"),
    "scalar_newton_16": ("#ee3377", ":"),
}
"""Colour and dashes of the methods whose curves are drawn; the matrix has all of them."""
PAIR = ("#228833", "#cc3311")


def figure_of(result: dict[str, Any]) -> Any:
    """Curves on the functions; every method on every problem; baselines and reuse."""
    parts = result["experiments"]
    labels = {row["label"] for row in tuned(parts["functions"]["rows"])}
    heights = (4.2, 1.3 + 0.3 * len(labels), 3.6)
    figure = plt.figure(figsize=(17, sum(heights)), dpi=100, layout="constrained")
    top, middle, bottom = rows_of(figure, heights)
    draw_curves(top, parts["functions"], parts["long"])
    draw_matrix(middle, [parts["functions"], parts["curvature"]])
    left, centre, right = columns_of(bottom, (1.25, 1, 1.25))
    draw_baselines(left, parts["baselines"])
    draw_over(centre, parts["reuse"], "history_size", "rounds N", 2)
    draw_over(right, parts["radius"], "radius", "radius μ", 10)
    return figure


def draw_curves(figure, functions, long):
    """Draws values over queries, a panel for each function, and one for the long runs."""
    shown = [(functions, problem) for problem in functions["start"]]
    shown += [(long, problem) for problem in long["start"]]
    panels = figure.subplots(1, len(shown), squeeze=False)[0]
    for ax, (part, problem) in zip(panels, shown, strict=True):
        start = part["start"][problem]
        for row in tuned(part["rows"]):
            if row["problem"] == problem and row["method"] in STYLES:
                colour, dashes = STYLES[row["method"]]
                how = {"color": colour, "linestyle": dashes, "label": row["label"]}
                draw_curve(ax, row["curve"], start, **how)
        ax.set(title=f"{problem}, d = {part['dimension']:,}", xlabel="queries")
        queries_axis(ax, part["budget"])
        if part is long:
            ax.set(yscale="log", ylim=(None, 1.3))
        else:
            ax.set_ylim(0, 1.05)
    panels[0].set_ylabel("f(θ) / f(start): median and range of seeds")
    legend_beside(figure, panels[0], fontsize=9)


def draw_matrix(figure, parts):
    """Draws final values over the best method's, for every method and problem."""
    rows = [row for part in parts for row in tuned(part["rows"])]
    labels = list(dict.fromkeys(row["label"] for row in rows))
    problems = [problem for part in parts for problem in part["start"]]
    finals = np.full((len(labels), len(problems)), np.nan)
    for row in rows:
        final = row["final"]["median"]
        at = labels.index(row["label"]), problems.index(row["problem"])
        finals[at] = np.nan if final is None else final
    ratios = finals / np.nanmin(finals, axis=0)
    ax = figure.subplots()
    ax.imshow(ratios, aspect="auto", cmap="viridis_r", norm=LogNorm(1, 30))
    for i, j in np.ndindex(ratios.shape):
        text = "∞" if np.isnan(ratios[i, j]) else f"{ratios[i, j]:.3g}"
        dark = ratios[i, j] > 6 or np.isnan(ratios[i, j])
        ax.text(
            j, i, text, ha="center", va="center", fontsize=9, color="white" if dark else "black"
        )
    ax.set_yticks(range(len(labels)), labels, fontsize=9)
    dimensions = [f"d = {part['dimension']:,}" for part in parts for _ in part["start"]]
    names = [p.replace(", ", "\n") for p in problems]
    ticks = [f"{p}\n{d}" for p, d in zip(names, dimensions, strict=True)]
    ax.set_xticks(range(len(problems)), ticks, fontsize=9)
    ax.set_title("final f(θ), divided by the best method's on that problem", fontsize=11)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def draw_baselines(figure, part):
    """Draws final values for each baseline; a cross marks one above the start."""
    problems = list(part["start"])
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    names = list(dict.fromkeys(row["baseline"] for row in part["rows"]))
    for ax, problem in zip(panels, problems, strict=True):
        rows = [row for row in part["rows"] if row["problem"] == problem]
        kinds = list(dict.fromkeys(row["label"] for row in rows))
        for i, kind in enumerate(kinds):
            finals = [row["final"]["median"] for row in rows if row["label"] == kind]
            where = np.arange(len(names)) + (i - 0.5) * 0.2
            finals, top = floats(finals), 1.05 * part["start"][problem]
            kept = finals <= top
            ax.plot(where[kept], finals[kept], "o", color=PAIR[i], label=kind, markersize=8)
            ax.plot(where[~kept], np.full(np.sum(~kept), top), "x", color=PAIR[i], markersize=8)
        ax.axhline(part["start"][problem], color="black", linewidth=0.8, linestyle="--")
        ax.text((len(names) - 1) / 2, part["start"][problem], "start", fontsize=8, va="bottom")
        ax.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=9)
        ax.set(title=f"baselines: {problem}")
        ax.set_ylim(0, None)
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
    panels[0].set_ylabel("final f(θ), median")
    panels[0].legend(frameon=False, fontsize=9)


def draw_over(figure, part, varied, name, base):
    """Draws final values over what is varied; a cross above the start marks runs that diverged."""
    problems = list(part["start"])
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    for ax, problem in zip(panels, problems, strict=True):
        rows = [row for row in part["rows"] if row["problem"] == problem]
        for i, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
            of_method = [row for row in rows if row["method"] == method]
            where = [row[varied] for row in of_method]
            lost = np.asarray([row["diverged"] > 0 for row in of_method])
            finals = floats([row["final"]["median"] for row in of_method])
            colour, dashes = STYLES[method]
            # Wider and wider, as some lie on top of each other.
            mark = {"marker": "os^Dv"[i], "fillstyle": "none", "markersize": 6 + 2 * i}
            how = {"color": colour, "linestyle": dashes, "label": of_method[0]["label"]}
            ax.plot(where, np.where(lost, np.nan, finals), **mark, **how)
            crosses = np.asarray(where)[lost], np.full(lost.sum(), 1.05 * part["start"][problem])
            ax.plot(*crosses, "x", color=colour, markersize=6 + 2 * i)
        ax.axhline(part["start"][problem], color="black", linewidth=0.8, linestyle="--")
        ax.set_xscale("log", base=base)
        ax.set_xticks(where, [f"{x:g}" for x in where])
        ax.set(title=f"{name}: {problem}", xlabel=name)
        ax.set_ylim(0, 1.12 * part["start"][problem])
        ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        ax.minorticks_off()
    panels[0].set_ylabel("final f(θ), median")
    panels[0].legend(frameon=False, fontsize=8)
