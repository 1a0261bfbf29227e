"""The picture of the blackbox case."""

from typing import Any

import numpy as np

from benchmarks.common.plots import legend_beside, plt

COLOURS = {
    "model_newton": "#aa1144",
    "low_rank_newton": "#9955bb",
    "diagonal_newton": "#ddaa33",
    "scalar_newton": "#ee3377",
    "cma": "#4477aa",
    "cobyqa": "#228833",
    "l_bfgs": "#777777",
}
UNIMODAL = (1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)


def figure_of(result: dict[str, Any]) -> Any:
    """The share of (function, instance, target) reached, over evaluations a dimension."""
    parts = result["dimensions"]
    groups = {"unimodal functions": True, "multimodal functions": False}
    figure, panels = plt.subplots(
        len(parts),
        len(groups),
        figsize=(12, 4.2 * len(parts)),
        dpi=100,
        squeeze=False,
        layout="constrained",
        sharey=True,
    )
    for row, part in zip(panels, parts, strict=True):
        for ax, (title, unimodal) in zip(row, groups.items(), strict=True):
            for method in dict.fromkeys(r["method"] for r in part["rows"]):
                rows = [
                    r
                    for r in part["rows"]
                    if r["method"] == method and (r["number"] in UNIMODAL) == unimodal
                ]
                draw(ax, rows, part["dimension"], method)
            ax.set(
                title=f"{title}, d = {part['dimension']}",
                xscale="log",
                xlabel="evaluations / d",
                xlim=(0.5, part["budget"] / part["dimension"]),
                ylim=(0, 1),
            )
        row[0].set_ylabel("targets reached")
    legend_beside(figure, panels[0][0])
    return figure


def draw(ax, rows, dimension, method):
    """Draws one method's curve."""
    hits = np.array(
        [np.inf if n is None else n for row in rows for run in row["instances"] for n in run]
    )
    if not len(hits):
        return
    places = np.sort(hits[np.isfinite(hits)]) / dimension
    how = {"color": COLOURS[method], "label": rows[0]["label"]}
    ax.step(places, np.arange(1, len(places) + 1) / len(hits), where="post", **how)
