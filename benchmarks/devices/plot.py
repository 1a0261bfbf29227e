"""The picture of the devices case."""

from typing import Any

from benchmarks.common.plots import plt
from benchmarks.devices.tables import gain


def figure_of(result: dict[str, Any]) -> Any:
    """How many times faster a step is on several devices than on one."""
    figure, ax = plt.subplots(figsize=(6, 3.4), dpi=110, layout="constrained")
    rows = [row for row in result["rows"] if row["devices"] > 1]
    for i, row in enumerate(rows):
        color = "#4477aa" if row["reduce"] == "replay" else "#cc6677"
        ax.bar(i, gain(result, row), color=color, width=0.6)
        ax.text(i, gain(result, row), f"{gain(result, row):.2f}", ha="center", va="bottom")
    ax.set_xticks(range(len(rows)), [f"{row['objective']}, {row['reduce']}" for row in rows])
    most = max([row["devices"] for row in rows], default=1)
    ax.axhline(most, color="gray", linewidth=0.8, linestyle="--")
    ax.set(
        ylim=(0, 1.15 * most),
        title=f"queries spread over {most} devices",
        ylabel="times faster than on one",
    )
    return figure
