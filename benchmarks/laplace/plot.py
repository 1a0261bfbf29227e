"""The picture of the laplace case."""

from typing import Any

from benchmarks.common.plots import floats, legend_beside, plt

COLOURS = {
    "interpolated": "#4477aa",
    "interpolated_low_rank": "#66ccee",
    "interpolated_hadamard": "#99ddcc",
    "interpolated_by_layer": "#117799",
    "full": "#222222",
    "kronecker": "#ee3377",
    "diagonal": "#228833",
    "diagonal_zovh": "#ddaa33",
}


def figure_of(result: dict[str, Any]) -> Any:
    """Distance from the exact posterior above, predictions below, over queries."""
    tasks = result["tasks"]
    figure = plt.figure(figsize=(3.3 * len(tasks) + 2.6, 6.4), dpi=100, layout="constrained")
    panels = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    for task, above, below in zip(tasks, panels[0], panels[1], strict=True):
        rows = [row for row in result["rows"] if row["task"] == task["task"]]
        nll = "nll_linearised" if "network" in task["task"] else "nll"
        for method, colour in COLOURS.items():
            draw(above, rows, method, "divergence", color=colour)
            draw(below, rows, method, nll, color=colour)
        for method, dashes in (("map", ":"), ("exact", "--")):
            row = next(row for row in rows if row["method"] == method)
            below.axhline(
                row[nll]["median"],
                color="black",
                linewidth=0.9,
                linestyle=dashes,
                label=row["label"],
            )
        for ax in (above, below):
            ax.axvline(2 * task["entries"] + 1, color="gray", linewidth=0.7)
        above.set(title=f"{task['task']}, d = {task['dimension']}", xscale="log", yscale="log")
        below.set(xlabel="queries", xlim=(70, 1.5 * max(result["setting"]["budgets"])))
        best = min(row[nll]["median"] for row in rows)
        below.set_ylim(0.97 * best, 1.8 * best)
    panels[0][0].set_ylabel("KL from the exact posterior, nats")
    panels[1][0].set_ylabel("test NLL")
    legend_beside(figure, panels[1][-1], fontsize=9)
    return figure


def draw(ax, rows, method, field, **how):
    """Draws the medians and ranges of a method; its name stands even where it has no rows."""
    mine = [row for row in rows if row["method"] == method]
    label = method.replace("_", ", ", 1).replace("_", " ")
    queries = [row["queries"] for row in mine]
    middle, low, high = (
        floats([row[field][k] for row in mine]) for k in ("median", "least", "most")
    )
    ax.plot(queries, middle, "o-", markersize=3, label=label, **how)
    ax.fill_between(queries, low, high, alpha=0.12, linewidth=0, **how)
