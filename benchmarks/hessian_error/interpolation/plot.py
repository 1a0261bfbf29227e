"""The picture of the interpolated Hessians, a part of the Hessian-error case."""

from typing import Any

from benchmarks.common.plots import plt
from benchmarks.hessian_error.axes import SHOWN, STYLE, draw_medians, error_axes
from benchmarks.hessian_error.interpolation.tables import places
from benchmarks.hessian_error.tables import pick

OURS = {
    "interpolated": ("#4477aa", "o"),
    "interpolated_auto": ("#114488", "s"),
    "interpolated_zero": ("#88bbee", "^"),
    "prior": ("black", "*"),
}
COLOURS = ("#4477aa", "#cc3311", "#228833", "#ccaa22", "#aa3377", "#66ccee", "#999999", "#114488")
DIRECTIONS = {
    "gradient": ("#999999", "v"),
    "interpolated_gradient": ("#88bbee", "^"),
    "newton": ("#4477aa", "o"),
    "newton_damped": ("#228833", "D"),
    "zovh": ("#cc3311", "o"),
    "zovh_exact": ("#ee9988", "x"),
}


def figure_of(part: dict[str, Any]) -> Any:
    """Errors, what becomes of the prior, noise, and Newton's direction."""
    figure, axes = plt.subplots(2, 2, figsize=(15, 11), dpi=110, layout="constrained")
    draw_errors(axes[0, 0], part)
    draw_ratios(axes[0, 1], part)
    draw_noise(axes[1, 0], part)
    draw_directions(axes[1, 1], part)
    for ax in axes.flat:
        ax.legend(frameon=False, fontsize=9)
    axes[1, 1].legend(frameon=False, fontsize=9, ncols=2, loc="lower center")
    return figure


def determined(d: int) -> int:
    """The number of pairs that determine a Hessian."""
    return d * (d + 1) // 2


def draw_errors(ax, part):
    """Draws every method on one function in few dimensions."""
    d = min(row["dimension"] for row in pick(part["errors"], problem=SHOWN))
    mine = pick(part["errors"], problem=SHOWN, dimension=d)
    radius = min(row["radius"] for row in mine)
    rows = pick(mine, radius=radius)
    counts = [row["num_directions"] for row in pick(rows, method="zovh")]
    draw_medians(ax, counts, rows, {**OURS, **STYLE}, part["labels"])
    ax.axvline(determined(d), color="#dddddd", zorder=0)
    error_axes(
        ax,
        f"pairs ({SHOWN}, d = {d}, μ = {radius:g}; grey: d(d+1)/2)",
        "error against pairs, 2n + 1 queries each: medians",
    )


def draw_ratios(ax, part):
    """Draws the error over the prior's of every place, number of pairs and radius."""
    rows = pick(part["errors"], method="interpolated_auto")
    problems = list(dict.fromkeys(problem for problem, _ in places(rows)))
    for problem, colour in zip(problems, COLOURS, strict=False):
        mine = [row for row in pick(rows, problem=problem) if row["of_prior"] > 1e-2]
        x = [row["num_directions"] / determined(row["dimension"]) for row in mine]
        y = [row["of_prior"] for row in mine]
        ax.plot(x, y, "o", color=colour, markersize=5, label=problem.replace("_", "-"))
    ax.axhline(1.02, color="black", linestyle="--", linewidth=0.9)
    ax.set(
        xscale="log",
        ylim=(0, None),
        xlabel="pairs / (d(d+1)/2), all d, pairs and μ",
        ylabel="error / prior's error",
        title="ridge=\"auto\": the worst seed's error over its prior's (dashed: 1.02)",
    )


def draw_noise(ax, part):
    """Draws errors against the noise on one function, with most pairs."""
    d = min(row["dimension"] for row in part["noise"])
    mine = pick(part["noise"], problem=SHOWN, dimension=d)
    count = max(row["num_directions"] for row in mine)
    mine = pick(mine, num_directions=count)
    levels = list(dict.fromkeys(row["noise"] for row in mine))

    def line(name):
        return [row["median"] for row in pick(mine, method=name)]

    style = {name: OURS[name] for name in ("interpolated", "interpolated_auto", "prior")}
    draw_medians(ax, levels, mine, style, part["labels"])
    bound = [a + b for a, b in zip(line("prior_noiseless"), line("noise_floor"), strict=True)]
    ax.plot(levels, bound, "k--", linewidth=0.9, label="its prior without noise + noise floor")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel=f"noise / curvature's share of a value ({SHOWN}, d = {d}, {count} pairs)",
        ylabel="relative Frobenius error",
        title="error against noise: medians",
    )


def draw_directions(ax, part):
    """Draws cosines with Newton's direction against pairs."""
    rows = pick(part["newton"], precision="float64", noise=0.0)
    for name, (colour, marker) in DIRECTIONS.items():
        mine = pick(rows, direction=name)
        x = [row["num_directions"] for row in mine]
        label = part["directions"][name]
        ax.plot(x, [row["median"] for row in mine], color=colour, marker=marker, label=label)
        low, high = ([row[edge] for row in mine] for edge in ("q25", "q75"))
        ax.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    settings = part["settings"]
    d, condition = settings["newton_dimension"], settings["newton_condition"]
    ax.axvline(determined(d), color="#dddddd", zorder=0)
    ax.axhline(0, color="black", linewidth=0.6)
    ax.set(
        xlabel=f"pairs (rotated quadratic, d = {d}, condition {condition:g}; grey: d(d+1)/2)",
        ylim=(-1.25, 1.05),
        ylabel="cosine with Newton's direction",
        title="directions: medians and quartiles",
    )
