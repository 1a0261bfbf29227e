"""The picture of the outside case."""

from typing import Any

from benchmarks.common.plots import plt


def figure_of(result: dict[str, Any]) -> Any:
    """How busy uneven workers are, by the rounds asked at a time; the repeats are dots."""
    figure, ax = plt.subplots(figsize=(6, 3.6), dpi=110, layout="constrained")
    for row in result["uneven"]:
        where, busy = row["max_pending"], row["busy"]
        ax.bar(where, busy["median"], color="#4477aa", width=0.6)
        ax.plot([where] * len(busy["each"]), busy["each"], "o", color="black", markersize=3)
        ax.text(where, busy["median"] / 2, f"{busy['median']:.0%}", color="white", ha="center")
    ax.set_xticks([row["max_pending"] for row in result["uneven"]])
    ax.set_ylim(0, 1)
    ax.set(
        title="eight workers whose calls take 20 to 200 ms",
        xlabel="rounds asked at a time (max_pending)",
        ylabel="share of worker time that is busy",
    )
    return figure
