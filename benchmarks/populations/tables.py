"""The tables of the populations case."""

from typing import Any

import numpy as np

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """``costs`` of a step, and what it is ``worth`` at equal queries."""
    costs = [
        [
            f"{row['library']} {row['method']}".strip(),
            f"{row['times_forwards']:.2f}",
            f"{row['microseconds']:.0f}",
            "-" if row["temporary_bytes"] is None else f"{row['temporary_bytes'] / 1e6:.1f}",
            f"{row['compile_seconds']:.2f}",
        ]
        for row in result["costs"]
    ]
    best = min(final(row) for row in result["worth"])
    worth = [
        [
            f"{row['library']} {row['method']}",
            "none" if row["rate"] is None else f"{row['rate']:.2g}",
            f"**{final(row):.3f}**" if final(row) == best else report.number(final(row)),
            f"{100 * np.median(row['accuracy']):.1f} %",
            f"{100 * min(row['accuracy']):.1f} to {100 * max(row['accuracy']):.1f} %",
        ]
        for row in sorted(result["worth"], key=final)
    ]
    return {
        "costs": report.table(
            ["a step of", "times the forwards", "µs a query", "temporaries, MB", "compiling, s"],
            costs,
        ),
        "worth": report.table(
            ["method", "rate", "held-out loss", "accuracy", "of the seeds"], worth
        ),
    }


def final(row: dict[str, Any]) -> float:
    """The median held-out loss at the end; infinite where most runs diverged."""
    return float(np.median([np.inf if one[-1] is None else one[-1] for one in row["loss"]]))
