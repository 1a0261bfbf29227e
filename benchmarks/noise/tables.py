"""The tables of the noise case."""

from typing import Any

from benchmarks.common import report
from benchmarks.noise.experiment import KINDS


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A table for each problem: its regrets, by method (across) and noise (down)."""
    shown = {}
    for problem in result["start"]:
        rows = [row for row in result["rows"] if row["problem"] == problem]
        labels = list(dict.fromkeys(row["label"] for row in rows))
        kinds = ["none", *KINDS]
        noises = sorted(
            {(row["kind"], row["level"]) for row in rows}, key=lambda n: (kinds.index(n[0]), n[1])
        )
        found = {(row["kind"], row["level"], row["label"]): row for row in rows}
        lines = []
        for kind, level in noises:
            cells = report.bold_least([found[kind, level, label] for label in labels], "score")
            lines.append([f"{kind} {level:g}" if level else kind, *cells])
        name = problem.split(",")[0]
        shown[name] = report.table([f"{problem}: noise", *labels], lines)
    return shown
