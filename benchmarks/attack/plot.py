"""The picture of the attack case: what each method did to one image, and the margins."""

import textwrap
from typing import Any

import numpy as np

from benchmarks.common.plots import columns_of, plt

COLOURS = (
    "#4477aa", "#228833", "#ccaa22", "#cc3311", "#66ccee",
    "#aa3377", "#ee7733", "#009988", "#888888", "#000000",
    "#88cc66", "#004488", "#ee3377",
)  # fmt: skip
BANDS = 4
"""Up to so many methods have their quartiles drawn: more would hide each other."""
LABEL_WIDTH = 16
"""Letters that fit beside an image; longer names take more lines."""


def figure_of(result: dict[str, Any]) -> Any:
    """Curves of all methods; at the left the images of some, unless the result has none."""
    entries = [entry for entry in result["methods"] if not entry["control"]]
    colours = dict(zip((entry["method"] for entry in entries), COLOURS, strict=False))
    picture = result.get("picture")
    pictured = len(picture["attacks"]) if picture else 0
    size = (12.5, max(1.75 * pictured, 6) + 0.6) if picture else (8, 8)
    whole = plt.figure(figsize=size, dpi=150, layout="constrained")
    right: Any = whole
    if picture:
        left, right = columns_of(whole, (1, 1.25))
        labels = {entry["method"]: entry["label"] for entry in entries}
        draw_images(left, picture, result["setting"]["epsilon"], labels, colours)
    top, bottom = right.subplots(2, 1, sharex=True, height_ratios=(1.4, 1))
    setting = result["setting"]
    top.set(xscale="log", xlim=(setting["num_directions"] + 1, setting["budget"]))
    top.xaxis.set_major_formatter("{x:g}")
    draw_margins(top, entries, colours)
    draw_shares(bottom, entries, colours)
    return whole


def draw_images(part, picture, epsilon, labels, colours):
    """Draws a row for each method: the digit, what was added to it, the sum."""
    grid = part.subplots(len(picture["attacks"]), 3, squeeze=False)
    titles = ("original", f"perturbation, ±{epsilon:g}", "adversarial")
    for ax, title in zip(grid[0], titles, strict=True):
        ax.set_title(title, fontsize=10)
    original, truth = from_hex(picture["pixels"]), picture["label_true"]
    for axes, attack in zip(grid, picture["attacks"], strict=True):
        adversarial, grey = (
            from_hex(attack["adversarial"]),
            {"cmap": "gray_r", "vmin": 0, "vmax": 1},
        )
        axes[0].imshow(original, **grey)
        axes[1].imshow(adversarial - original, cmap="RdBu_r", vmin=-epsilon, vmax=epsilon)
        axes[2].imshow(adversarial, **grey)
        axes[0].set_ylabel(
            textwrap.fill(labels[attack["method"]], LABEL_WIDTH),
            color=colours[attack["method"]],
            fontsize=10,
            fontweight="bold",
        )
        below = (f"{truth}", f"{attack['queries']} queries", f"{truth} → {attack['predicted']}")
        for ax, text in zip(axes, below, strict=True):
            ax.set_xlabel(text, fontsize=9)
            ax.set(xticks=[], yticks=[])


def from_hex(rows: list[str]) -> np.ndarray:
    """The image in [0, 1] that such rows describe."""
    return np.asarray([list(bytes.fromhex(row)) for row in rows]) / 255


def draw_margins(ax, entries, colours):
    """Draws the median margin over queries, a line for each method; of a few the quartiles too."""
    banded = len(entries) <= BANDS
    for entry in entries:
        colour, curve = colours[entry["method"]], entry["margin"]
        ax.plot(curve["queries"], curve["median"], color=colour, linewidth=2)
        if banded:
            ax.fill_between(
                curve["queries"], curve["q25"], curve["q75"], color=colour, alpha=0.12, linewidth=0
            )
    ax.axhline(0, color="black", linewidth=0.8, linestyle="--")
    ax.set(
        ylabel="margin: best other logit − target's",
        title=f"Margin over queries: median{' and quartiles' if banded else ''} of all attacks",
    )
    ax.text(
        0.01, 0, "fooled below this", fontsize=9, va="bottom", transform=ax.get_yaxis_transform()
    )


def share_over_queries(entry, first, last):
    """Where the share of attacks that have succeeded steps up, from ``first`` to ``last``."""
    spent = np.sort(np.asarray(entry["queries_spent"])[entry["success"]])
    share = np.arange(len(spent) + 1) / entry["attacks"]
    return np.concatenate([[first], spent, [last]]), np.append(share, share[-1])


def draw_shares(ax, entries, colours):
    """Draws the share of attacks that have succeeded over queries, a line for each method."""
    first, last = ax.get_xlim()
    for entry in entries:
        colour = colours[entry["method"]]
        queries, share = share_over_queries(entry, first, last)
        label = f"{entry['label']}: {share[-1]:.0%}"
        ax.step(queries, share, where="post", color=colour, linewidth=2, label=label)
    ax.set(xlabel="queries", ylabel="share of attacks that succeeded", ylim=(0, 1.02))
    ax.legend(frameon=False, loc="upper left", fontsize=8)
