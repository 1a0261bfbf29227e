"""What every case reports with: its environment, a table, a JSON file."""

import json
import os
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import zovh_jax


def environment() -> dict[str, Any]:
    """Versions and machine, for the JSON file."""
    packages = ("jax", "jaxlib", "optax", "flax")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "zovh_jax": zovh_jax.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
    }


def cpu_name() -> str:
    """The processor's model, where the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A markdown table with aligned columns: the first to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    sides = "<" + ">" * (len(header) - 1)

    def line(row):
        columns = zip(row, sides, widths, strict=True)
        return f"| {' | '.join(f'{cell:{side}{width}}' for cell, side, width in columns)} |"

    rule = [("-" * (w - 1) + ":") if i else "-" * w for i, w in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def number(value: float | None) -> str:
    """Three significant digits; None, which is what JSON has for infinity, as such."""
    if value is None:
        return "∞"
    if abs(value) < 1000:
        return f"{value:.3g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def spread(row: dict[str, Any], name: str) -> str:
    """A row's median and range over its runs, and how many diverged."""
    values = row[name]
    text = f"{number(values['median'])} ({number(values['least'])} to {number(values['most'])})"
    return text + (f", {row['diverged']} diverged" if row["diverged"] else "")


def bold_least(rows: Sequence[dict[str, Any] | None], name: str) -> list[str]:
    """Cells of `spread`, the least median in bold; an empty one for None."""
    medians = [row[name]["median"] for row in rows if row]
    least = min((m for m in medians if m is not None), default=None)
    cells = []
    for row in rows:
        text = spread(row, name) if row else ""
        best = row is not None and least is not None and row[name]["median"] == least
        cells.append(f"**{text}**" if best else text)
    return cells


def write_json(path: Path, content: dict[str, Any]) -> None:
    """``content`` as JSON; NaN and infinity are refused, as JSON has neither."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
