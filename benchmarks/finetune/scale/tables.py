"""The tables of sizes: what is reached, and what a step takes."""

from typing import Any

from benchmarks.common import report
from benchmarks.finetune.tables import FORWARD, over


def tables(scale: dict[str, Any]) -> dict[str, str]:
    """Markdown tables, by name: of what was measured."""
    shown = {}
    if scale["training"]:
        shown["scale"] = of_training(scale["training"])
    if scale["costs"]:
        shown["scale_costs"] = of_costs(scale["costs"])
    return shown


def of_training(training: dict[str, Any]) -> str:
    """The held-out loss at the end, of each size and method: the least from values in bold."""
    header = ["size", "parameters", "method", "learning rate", "start", "loss, nats a byte"]
    lines = []
    for size, found in training.items():
        values = [row for row in found["rows"] if row["kind"] != "derivatives"]
        ends = [row["test"]["median"] for row in values]
        best = min((end for end in ends if end is not None), default=None)
        for row in found["rows"]:
            text = spread(row)
            at_best = row in values and row["test"]["median"] == best
            where = [size, f"{found['dimension']:,}", row["label"]]
            start = f"{row['tests']['median'][0]:.3f}"
            rate = report.plain(row["learning_rate"])
            lines.append([*where, rate, start, f"**{text}**" if at_best else text])
    return report.table(header, lines, left=3)


def spread(row: dict[str, Any]) -> str:
    """The median and the range of a row's held-out losses, and how many runs diverged."""
    middle, low, high = (nats(row["test"][name]) for name in ("median", "least", "most"))
    lost = f", {row['diverged']} diverged" if row["diverged"] else ""
    return f"{middle} ({low} to {high}){lost}"


def nats(loss: float | None) -> str:
    """To a thousandth, where it is a loss and not a run that is lost."""
    return f"{loss:.3f}" if loss is not None and loss < 100 else report.number(loss)


def of_costs(costs: dict[str, Any]) -> str:
    """A step's time and memory, beside those of a plain forward of as many windows."""
    header = ["device", "parameters", "program", "windows", "ms a step", "throughput"]
    header += ["temporaries, MB", "times the parameters' bytes", "compile time, times"]
    lines = []
    for device, sizes in costs.items():
        for found in sizes.values():
            (plain,) = (row for row in found["rows"] if row["program"] == FORWARD)
            lines += [
                [
                    device,
                    f"{found['dimension']:,}",
                    row["program"],
                    str(row["sentences"]),
                    f"{1e3 * row['seconds']:.3g}",
                    f"{row['throughput']:.2f}",
                    f"{row['temporaries'] / 1e6:.0f}",
                    f"{row['temporaries'] / found['bytes']:.1f}",
                    over(row, plain, "compile_seconds"),
                ]
                for row in found["rows"]
            ]
    return report.table(header, lines, left=3)
