"""The table of the drift case."""

from typing import Any

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Tracking errors: contenders down the side, speeds across."""
    rows = result["rows"]
    speeds = list(dict.fromkeys(row["speed"] for row in rows))
    names = list(dict.fromkeys((row["label"], row["history_size"]) for row in rows))
    found = {(row["label"], row["history_size"], row["speed"]): row for row in rows}
    columns = [report.bold_least([found[(*name, s)] for name in names], "score") for s in speeds]
    lines = [[label, size, *cells] for (label, size), *cells in zip(names, *columns, strict=True)]
    return {"drift": report.table(["method", "rounds N", *(f"speed {s:g}" for s in speeds)], lines)}
