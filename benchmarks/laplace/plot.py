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
    labels = {row["method"]: row["label"] for row in result["rows"]}
    figure = plt.figure(figsize=(3.1 * len(tasks) + 3, 6.4), dpi=100, layout="constrained")
    panels = figure.subplots(2, len(tasks), squeeze=False, sharex=True)
    for task, above, below in zip(tasks, panels[0], panels[1], strict=True):
        rows = [row for row in result["rows"] if row["task"] == task["task"]]
        whole = "network" in task["task"]
        nll = "nll_linearised" if whole else "nll"
        for method in [name for name in COLOURS if name in labels]:
            mine = [row for row in rows if row["method"] == method]
            for ax, field in ((above, "divergence"), (below, nll)):
                how = {"color": COLOURS[method], "label": labels[method], "markersize": 3}
                middle = [row[field]["median"] for row in mine]
                ax.plot([row["queries"] for row in mine], floats(middle), "o-", **how)
        for method, dashes in (("map", ":"), ("exact", "--")):
            height = next(row[nll]["median"] for row in rows if row["method"] == method)
            how = {"color": "black", "linewidth": 0.9, "label": labels[method]}
            below.axhline(height, linestyle=dashes, **how)
        for ax in (above, below):
            every = 2 * task["entries"] + 1
            ax.axvline(every, color="gray", linewidth=0.7, label="all entries asked for")
        above.set(title=f"{task['task']}, d = {task['dimension']}", xscale="log", yscale="log")
        above.title.set_fontsize(10)
        most = max(result["setting"]["budgets"])
        below.set(xlabel="queries", xlim=(70, 3 * most))
        below.set_title("linearised" if whole else "sampled", fontsize=9)
    panels[0][0].set_ylabel("KL from the exact posterior, nats")
    panels[1][0].set_ylabel("test NLL")
    legend_beside(figure, panels[1][-1], fontsize=9)
    return figure
