"""The picture of the attack case: what each method did to one image, and the margins."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np

from benchmarks.attacker import Outcome, Setting, perturbed
from benchmarks.victim import Victim

COLOURS = (
    "#4477aa", "#228833", "#ccaa22", "#cc3311", "#66ccee",
    "#aa3377", "#ee7733", "#009988", "#888888", "#000000",
    "#88cc66", "#004488", "#ee3377",
)  # fmt: skip
MOST_IMAGES = 5
BANDS = 4
"""Up to so many methods have their quartiles drawn: more would hide each other."""


def save(
    path: Path, victim: Victim, setting: Setting, runs: list[tuple[dict[str, Any], Outcome]]
) -> None:
    """Draws every run and writes the PNG.

    Args:
      path: where to.
      victim, setting: of the attacks.
      runs: for each method its entry in the JSON file and what came of it.
    """
    # The first image that every method fools; else the one that most do.
    attack = int(np.argmax(sum(outcome.success.astype(int) for _, outcome in runs)))
    colours = dict(zip((entry["method"] for entry, _ in runs), COLOURS, strict=False))
    best_last = sorted(runs, key=lambda run: -run[1].queries.mean())
    pictured = best_last[-MOST_IMAGES:]
    figure = plt.figure(figsize=(12, 1.75 * len(pictured) + 0.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25))
    grid = left.subplots(len(pictured), 3, squeeze=False)
    for axes, (entry, outcome) in zip(grid, pictured, strict=True):
        draw_images(axes, victim, setting, entry, outcome, attack, colours[entry["method"]])
    titles = ("original", f"perturbation, ±{setting.epsilon}", "adversarial")
    for ax, title in zip(grid[0], titles, strict=True):
        ax.set_title(title, fontsize=10)
    top, bottom = right.subplots(2, 1, sharex=True, height_ratios=(1.4, 1))
    top.set(xscale="log", xlim=(setting.num_directions + 1, setting.budget))
    top.xaxis.set_major_formatter("{x:g}")
    entries = [entry for entry, _ in runs]
    draw_margins(top, entries, colours)
    draw_shares(bottom, entries, colours)
    for ax in (top, bottom):
        ax.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_images(axes, victim, setting, entry, outcome, attack, colour):
    """One row: the digit, what was added to it, the sum."""
    row = entry["image"][attack]
    original = victim.images[row]
    adversarial = np.asarray(perturbed(original, outcome.delta[attack], setting.epsilon))
    predicted = int(np.argmax(victim.logits(adversarial)))
    grey = {"cmap": "gray_r", "vmin": 0, "vmax": 1}
    axes[0].imshow(original, **grey)
    axes[1].imshow(
        adversarial - original, cmap="RdBu_r", vmin=-setting.epsilon, vmax=setting.epsilon
    )
    axes[2].imshow(adversarial, **grey)
    name = entry["label"].replace(", K", ",\nK")  # longer than a row is high
    axes[0].set_ylabel(name, color=colour, fontsize=10, fontweight="bold")
    axes[0].set_xlabel(f"{victim.labels[row]}", fontsize=9)
    axes[1].set_xlabel(f"{outcome.queries[attack]} queries", fontsize=9)
    axes[2].set_xlabel(f"{victim.labels[row]} → {predicted}", fontsize=9)
    for ax in axes:
        ax.set(xticks=[], yticks=[])


def draw_margins(ax, entries, colours):
    """Median margin over queries, a line for each method; the quartiles too, of a few."""
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


def draw_shares(ax, entries, colours):
    """Share of attacks that have succeeded over queries, a line for each method."""
    first, last = ax.get_xlim()
    for entry in entries:
        colour = colours[entry["method"]]
        spent = np.sort(np.asarray(entry["queries_spent"])[entry["success"]])
        share = np.arange(len(spent) + 1) / entry["attacks"]
        label = f"{entry['label']}: {share[-1]:.0%}"
        steps = np.concatenate([[first], spent, [last]]), np.append(share, share[-1])
        ax.step(*steps, where="post", color=colour, linewidth=2, label=label)
    ax.set(xlabel="queries", ylabel="share of attacks that succeeded", ylim=(0, 1.02))
    ax.legend(frameon=False, loc="upper left", fontsize=8)
