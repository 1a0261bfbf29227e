"""The picture of the newton case."""

from typing import Any

from benchmarks.common.plots import draw_curve, floats, legend_beside, plt, queries_axis, rows_of

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


def figure_of(result: dict[str, Any]) -> Any:
    """Curves on the quadratics, curves on the functions, and what came of the starts."""
    parts = [result["gap"], result["functions"]]
    problems = [list(dict.fromkeys(row["problem"] for row in part["rows"])) for part in parts]
    width = max(map(len, problems)) * 3.6 + 2
    figure = plt.figure(figsize=(width, 11), dpi=100, layout="constrained")
    top, middle, bottom = rows_of(figure, (1, 1, 0.9))
    draw_curves(top, parts[0], problems[0], parts[0]["fraction"])
    draw_curves(middle, parts[1], problems[1])
    draw_starts(bottom, result["starts"]["rows"])
    return figure


def draw_curves(figure, part, problems, fraction=None):
    """Draws values over the start's; tuned peers are dashed."""
    panels = figure.subplots(1, len(problems), squeeze=False)[0]
    for ax, problem in zip(panels, problems, strict=True):
        for row in part["rows"]:
            if row["problem"] != problem:
                continue
            dashes = "-" if "newton" in row["method"] else "--"
            how = {"color": COLOURS[row["method"]], "linestyle": dashes, "label": row["label"]}
            draw_curve(ax, row["curve"], row["curve"]["median"][0], **how)
        if fraction:
            ax.axhline(fraction, color="black", linewidth=0.8, linestyle=":")
        floor = fraction / 3 if fraction else None
        ax.set(title=f"{problem}, d = {part['dimension']:,}", xlabel="queries", yscale="log")
        ax.set_ylim(floor, 2)
        if fraction:
            ax.set(xscale="log", xlim=(part["budget"] / 200, part["budget"]))
        else:
            queries_axis(ax, part["budget"])
    panels[0].set_ylabel("f(θ) / f(start)")
    legend_beside(figure, panels[0], fontsize=9)


def draw_starts(figure, rows):
    """Draws final values over the first ones, against the scale of the start."""
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
    panels[0].set_ylabel("final f / first f")
    panels[0].legend(frameon=False)
