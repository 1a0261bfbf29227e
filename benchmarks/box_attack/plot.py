"""The picture of the box-attack case: the share of digits that are fooled, over queries."""

from typing import Any

from benchmarks.attack.plot import share_over_queries
from benchmarks.common.plots import plt

COLOURS = {
    "thompson": "#cc3311",
    "hadamard": "#ee7733",
    "sign_hunter": "#4477aa",
    "square": "#228833",
    "simba": "#aa3377",
    "bandits": "#888888",
    "nes": "#ccaa22",
}


def figure_of(result: dict[str, Any]) -> Any:
    """A panel for each victim, a line for each contender at its best settings."""
    victims = result["victims"]
    size = (6.2 * len(victims), 4.6)
    figure, panels = plt.subplots(
        1, len(victims), figsize=size, dpi=150, layout="constrained", squeeze=False, sharey=True
    )
    for ax, found in zip(panels[0], victims, strict=True):
        best = {entry["method"]: entry for entry in found["methods"]}  # the last are the tuned ones
        for name, entry in sorted(best.items(), key=lambda item: item[1]["mean_queries"]):
            draw_share(ax, entry, result["budget"], COLOURS[name])
        ax.set(
            title=f"{found['name']} victim, ±{found['epsilon']:g}", xlabel="queries",
            xscale="log", xlim=(1, result["budget"]), ylim=(0, 1.02),
        )  # fmt: skip
        ax.xaxis.set_major_formatter("{x:g}")
        ax.legend(frameon=False, loc="upper left", fontsize=8)
    panels[0, 0].set_ylabel("share of digits that are fooled")
    return figure


def draw_share(ax: Any, entry: dict[str, Any], budget: int, colour: str) -> None:
    """Draws the share of attacks that have succeeded over queries."""
    label = f"{entry['label']}: mean {entry['mean_queries']:.0f}"
    how = {"color": colour, "linewidth": 2.4 if entry["own"] else 1.6, "label": label}
    ax.step(*share_over_queries(entry, 1, budget), where="post", **how)
