"""The tables of the outside case."""

from typing import Any

import numpy as np

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A step over a call, and how busy uneven workers are."""
    even = result["even"]
    ratios, steps = ([row[key] for row in even] for key in ("ratio", "step_ms"))
    lines = [
        [
            f"{even[0]['oracle_ms']:.0f}",
            f"{np.median(steps):.1f} ({min(steps):.1f} to {max(steps):.1f})",
            f"{np.median(ratios):.2f}",
        ]
    ]
    busy = [
        [
            row["max_pending"],
            "{median:.0%} ({least:.0%} to {most:.0%})".format(**row["busy"]),
            f"{row['calls_per_second']['median']:.0f}",
            f"{row['possible']:.0f}",
        ]
        for row in result["uneven"]
    ]
    return {
        "even": report.table(["a call, ms", "a step, ms", "step / call"], lines),
        "uneven": report.table(
            ["max_pending", "worker time busy", "calls a second", "possible"], busy
        ),
    }
