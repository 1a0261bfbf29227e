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
    "spsa": "#88ccee",
    "openai_es": "#bb8855",
}
UNIMODAL = (1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)


GROUPS = {
    "all functions": range(1, 25),
    "unimodal": UNIMODAL,
    "multimodal": [number for number in range(1, 25) if number not in UNIMODAL],
}


def figure_of(result: dict[str, Any]) -> Any:
    """The share of (function, instance, target) reached, over evaluations a dimension."""
    dimensions = list(dict.fromkeys(row["dimension"] for row in result["rows"]))
    figure, panels = plt.subplots(
        len(dimensions),
        len(GROUPS),
        figsize=(15, 4 * len(dimensions)),
        dpi=100,
        squeeze=False,
        layout="constrained",
        sharey=True,
    )
    for line, dimension in zip(panels, dimensions, strict=True):
        there = [row for row in result["rows"] if row["dimension"] == dimension]
        best = [row for row in result["published"] if row["dimension"] == dimension]
        most = max(row["budget"] for row in there) / dimension
        for ax, (title, numbers) in zip(line, GROUPS.items(), strict=True):
            rows = [row for row in there if row["number"] in numbers]
            for method in dict.fromkeys(row["method"] for row in rows):
                own = [row for row in rows if row["method"] == method]
                counts = [n for row in own for run in row["instances"] for n in run]
                how = {"color": COLOURS[method], "label": own[0]["label"]}
                draw(ax, counts, dimension, **how)
            counts = [n for row in best if row["number"] in numbers for n in row["evaluations"]]
            draw(ax, counts, dimension, color="black", linestyle=":", label="best 2009, published")
            ax.set(
                title=f"{title}, d = {dimension}",
                xscale="log",
                xlabel="evaluations / d",
                xlim=(0.5, most),
                ylim=(0, 1),
            )
        line[0].set_ylabel("targets reached")
    legend_beside(figure, max(panels.flat, key=lambda ax: len(ax.lines)))
    return figure


def draw(ax: Any, counts: list[float | None], dimension: int, **how: Any) -> None:
    """Draws the share of the counts that are at most so large."""
    if counts:
        reached = np.sort([n for n in counts if n is not None]) / dimension
        ax.step(reached, np.arange(1, len(reached) + 1) / len(counts), where="post", **how)
