"""The tables of the papers case."""

from typing import Any

from benchmarks.common import report
from benchmarks.papers.inventory import ROWS

number = report.number


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name."""
    return {
        "descent": descent(result["descent"]),
        "curved": curved(result["curved"]),
        "errors": errors(result["errors"]),
        "reused": reused(result["reused"]),
        "identity": report.table(
            ["b − F_μ", "‖E Ĥ − H‖, derived", "measured"],
            [
                [f"{row['offset']:g}", number(row["derived"]), number(row["measured"])]
                for row in result["identity"]
            ],
        ),
        "onset": onset(result["onset"]),
        "floors": floors(result["floors"], result["floors_size"]["dimension"]),
        "bounds": bounds(result["bounds"]),
        "ablation": report.matrix("ZoVH", "label", result["ablation"]),
        "policies": report.matrix("policy", "label", result["policies"]),
        "inventory": report.table(["paper", "what", "command", "verdict"], ROWS, left=4),
    }


def descent(rows: list[dict[str, Any]]) -> str:
    """Factors on flat, middling and steep ground, beside the derived one."""
    steepness = sorted({row["steepness"] for row in rows})
    shown = [steepness[0], 1.0, 10.0, steepness[-1]]
    found: dict[Any, dict[float, Any]] = {}
    for row in rows:
        where = row["num_directions"], row["dimension"], row["form"]
        found.setdefault(where, {})[row["steepness"]] = row
    lines = [
        [
            form,
            n,
            d,
            *(f"{line[steep]['factor']:.2f}" for steep in shown),
            f"{line[shown[-1]]['derived_when_steep']:.2f}",
        ]
        for (n, d, form), line in found.items()
    ]
    heads = [f"steepness {steep:g}" for steep in shown]
    return report.table(["form", "n", "d", *heads, "steep, derived"], lines)


def curved(rows: list[dict[str, Any]]) -> str:
    """Factors on flat ground, by the eigenvalues over the damping."""
    lines = [
        [
            row["form"],
            f"{row['curvature']:g}",
            f"{row['factor']:.2f} ± {row['error']:.2f}",
            "-" if row["derived"] is None else f"{row['derived']:.2f}",
        ]
        for row in rows
    ]
    return report.table(["form", "h/λ", "factor", "derived"], lines)


def errors(rows: list[dict[str, Any]]) -> str:
    """Derived and measured errors."""
    lines = [
        [
            row["of"],
            row["dimension"],
            row["num_directions"],
            f"{row['radius']:g}",
            number(row["derived"]),
            number(row["measured"]),
        ]
        for row in sorted(rows, key=lambda row: row["of"])
    ]
    return report.table(["of", "d", "K", "μ", "derived", "measured"], lines)


def reused(rows: list[dict[str, Any]]) -> str:
    """The Hessian's errors over N, for each length of a step."""
    steps = sorted({row["step"] for row in rows})
    found = {(row["history_size"], row["step"]): row for row in rows}
    lines = [
        [
            size,
            number(found[size, steps[0]]["derived"]),
            *(number(found[size, step]["measured"]) for step in steps),
        ]
        for size in sorted({row["history_size"] for row in rows})
    ]
    heads = ["rounds N", "derived, no steps", *(f"steps of {step:g}" for step in steps)]
    return report.table(heads, lines)


def onset(rows: list[dict[str, Any]]) -> str:
    """Final values and biases over N, for each learning rate."""
    sizes = sorted({row["history_size"] for row in rows})
    found = {(row["learning_rate"], row["history_size"]): row for row in rows}
    lines = []
    for rate in sorted({row["learning_rate"] for row in rows}):
        cells = []
        for size in sizes:
            row = found[rate, size]
            lost = row["final"] is None or row["final"] > 1
            bias = 0 if size == 1 else row["bias"]
            cells.append("diverged" if lost else f"{number(row['final'])}, {number(bias)}")
        lines.append([f"{rate:g}", *cells])
    return report.table(["learning rate", *(f"N = {size}" for size in sizes)], lines)


def bounds(rows: list[dict[str, Any]]) -> str:
    """Bounds beside measured errors."""

    def cell(value):
        return "-" if value is None else number(value)

    lines = [
        [
            row["theorem"],
            *(row[name] or "-" for name in ("num_directions", "history_size")),
            *(cell(row[name]) for name in ("radius", "noise", "damping", "learning_rate")),
            "says nothing" if row["bound"] is None else number(row["bound"]),
            number(row["measured"]),
            "-" if row["bound"] is None else number(row["bound"] / row["measured"]),
            number(row["trivial"]),
        ]
        for row in rows
    ]
    settings = ["K", "rounds N", "radius μ", "noise σ", "damping λ", "rate η"]
    heads = ["theorem", *settings, "bound", "measured", "bound over measured", "asking nothing"]
    return report.table(heads, lines)


def floors(rows: list[dict[str, Any]], dimension: int) -> str:
    """Rates and floors, derived and measured, and the paper's floor, (μ L₁ d/2)² with L₁ = 1."""
    lines = [
        [
            row["method"],
            f"{row['radius']:g}",
            f"{row['rate_derived']:.4f}",
            "-" if row["rate"] is None else f"{row['rate']:.4f}",
            number(row["floor_derived"]),
            number(row["floor"]),
            number((row["radius"] * dimension / 2) ** 2),
        ]
        for row in rows
    ]
    heads = ["method", "μ", "rate, derived", "measured", "floor, derived", "measured", "Thm 5.5"]
    return report.table(heads, lines)
