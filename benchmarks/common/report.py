"""What every case reports with: its environment, tables, a JSON file and pictures."""

import json
import os
import platform
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import zovh_jax
from benchmarks.common import cache, plots

Pictures = Mapping[str, Callable[[dict[str, Any]], Any]]
"""Figures of a result, by the names of their files."""
NUMBERS = re.compile(r"(?<=\[)\s+(?:[-+.\deE]+|null)(?:,\s+(?:[-+.\deE]+|null))*\s+(?=\])")
"""What is between the brackets of a list of numbers."""


def finish(
    case: str,
    result: dict[str, Any],
    tables: Callable[[dict[str, Any]], dict[str, str]],
    pictures: Pictures,
    out: Path,
) -> None:
    """Writes the numbers, prints the tables, draws the pictures, and says where they are.

    Args:
      case: its name, which is the JSON file's.
      result: the content of the JSON file.
      tables: markdown tables of the result, by name.
      pictures: figures of the result, by the names of their files.
      out: the folder for all files.
    """
    write_json(json_file(case, out), result)
    for name, text in tables(result).items():
        print(f"\n{name.replace('_', ' ')}\n\n{text}")
    print(f"\nNumbers: {json_file(case, out)}")
    draw(result, pictures, out)


def redraw(case: str, pictures: Pictures, out: Path) -> None:
    """Draws the pictures anew from the JSON file of an earlier run."""
    draw(read(case, out), pictures, out)


def draw(result: dict[str, Any], pictures: Pictures, out: Path) -> None:
    """Draws every picture of a result and says where it is."""
    for name, picture in pictures.items():
        figure = picture(result)
        if figure is None:  # nothing of it was measured
            continue
        plots.save(figure, out / f"{name}.png")
        print(f"Picture: {out / f'{name}.png'}")


def read(case: str, out: Path) -> dict[str, Any]:
    """The result of an earlier run.

    Raises:
      ValueError: where there is none in the folder.
    """
    path = json_file(case, out)
    if not path.exists():
        raise ValueError(f"out must be a folder with {path.name}, got {out}: run the case first")
    return json.loads(path.read_text())


def json_file(case: str, out: Path) -> Path:
    """Where a case's numbers are."""
    return out / f"{case}.json"


def environment() -> dict[str, Any]:
    """Versions, machine and XLA's options, for the JSON file."""
    packages = ("jax", "jaxlib", "optax", "flax")
    return {
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in packages},
        "zovh_jax": zovh_jax.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
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


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], *, left: int = 1) -> str:
    """A markdown table with aligned columns: the first ones to the left, the rest to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]

    sides = "<" * left + ">" * (len(header) - left)

    def line(row):
        columns = zip(row, sides, widths, strict=True)
        return f"| {' | '.join(f'{cell:{side}{width}}' for cell, side, width in columns)} |"

    rule = [("-" * (w - 1) + ":") if i >= left else "-" * w for i, w in enumerate(widths)]
    return "\n".join([line(cells[0]), line(rule), *map(line, cells[1:])])


def number(value: float | None) -> str:
    """Three significant digits; None, which is what JSON has for infinity, as such."""
    if value is None:
        return "∞"
    if abs(value) < 1000:
        return f"{value:.3g}"
    digits, exponent = f"{value:.2e}".split("e")
    return f"{digits}e{int(exponent)}"


def plain(number: float | None) -> str:
    """The number in as few digits as it takes; a dash for None."""
    return "-" if number is None else f"{number:g}"


def spread(row: dict[str, Any], name: str) -> str:
    """A row's median and range over its runs, and how many diverged."""
    values = row[name]
    text = f"{number(values['median'])} ({number(values['least'])} to {number(values['most'])})"
    return text + (f", {row['diverged']} diverged" if row["diverged"] else "")


def bold_least(rows: Sequence[dict[str, Any] | None], name: str, most: bool = False) -> list[str]:
    """Cells of `spread`, the least median in bold, or the largest; an empty cell for None.

    A row with a true field ``unranked`` is no rival of the others.
    """
    ranked = [None if row is None or row.get("unranked") else row[name]["median"] for row in rows]
    best = (max if most else min)((m for m in ranked if m is not None), default=None)
    cells = []
    for row, median in zip(rows, ranked, strict=True):
        text = spread(row, name) if row else ""
        cells.append(f"**{text}**" if median is not None and median == best else text)
    return cells


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Writes ``content`` as JSON; refuses NaN and infinity, which JSON does not have.

    Lists of numbers are one line each.
    """
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    text = NUMBERS.sub(lambda match: re.sub(r"\s+", " ", match[0]), text)
    cache.write(path, text.encode())


def matrix(
    title: str,
    down: str,
    rows: Sequence[dict[str, Any]],
    across: str = "{problem}",
    shown: str = "final",
    most: bool = False,
) -> str:
    """A table of medians and ranges, the best of each column in bold.

    Args:
      title: over the first column.
      down: the field that names a line.
      rows: one a cell; cells without one stay empty.
      across: a template of fields that names a column.
      shown: the field with the numbers.
      most: whether the largest is the best, not the least.
    """
    names = list(dict.fromkeys(row[down] for row in rows))
    columns = list(dict.fromkeys(across.format(**row) for row in rows))
    found = {(row[down], across.format(**row)): row for row in rows}
    cells = [bold_least([found.get((n, c)) for n in names], shown, most) for c in columns]
    return table([title, *columns], list(zip(names, *cells, strict=True)))


def queries(count: float | None, budget: int) -> str:
    """A number of queries, or that the budget was not enough."""
    return f"{count:,.0f}" if count is not None and count <= budget else f"> {budget:,}"


def reached(rows: Sequence[dict[str, Any]]) -> str:
    """Queries to a target: methods down the side, problems across, the least of each in bold.

    Rows have problem, label, budget, and a score: the queries, above the budget where it was not
    enough.
    """
    problems = list(dict.fromkeys(row["problem"] for row in rows))
    found = {(row["label"], row["problem"]): row for row in rows}
    lines = []
    for label in dict.fromkeys(row["label"] for row in rows):
        cells = [label]
        for problem in problems:
            row = found[label, problem]
            medians = [r["score"]["median"] for r in rows if r["problem"] == problem]
            least = min(median for median in medians if median is not None)
            text = queries(row["score"]["median"], row["budget"])
            cells.append(f"**{text}**" if row["score"]["median"] == least else text)
        lines.append(cells)
    return table(["method", *problems], lines)
