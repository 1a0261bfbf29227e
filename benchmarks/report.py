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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """``content`` as JSON; NaN and infinity are refused, as JSON has neither."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
