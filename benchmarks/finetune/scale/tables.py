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
        rows = [{"diverged": row["diverged"]} | row for row in found["rows"]]
        ranked = [row | {"unranked": row["kind"] == "derivatives"} for row in rows]
        cells = report.bold_least(ranked, "test")
        for row, cell in zip(rows, cells, strict=True):
            where = [size, f"{found['dimension']:,}", row["label"]]
            start = report.number(row["tests"]["median"][0])
            lines.append([*where, report.plain(row["learning_rate"]), start, cell])
    return report.table(header, lines)


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
    return report.table(header, lines)
