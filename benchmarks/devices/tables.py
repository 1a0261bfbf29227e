"""The tables of the devices case."""

from typing import Any

from benchmarks.common import report


def gain(result: dict[str, Any], row: dict[str, Any]) -> float:
    """How many times faster than on one device, where directions are replayed."""
    (alone,) = (
        other["seconds"]
        for other in result["rows"]
        if (other["objective"], other["devices"], other["reduce"])
        == (row["objective"], 1, "replay")
    )
    return alone / row["seconds"]


def tables(result: dict[str, Any]) -> dict[str, str]:
    """A step's time, and how it compares with that of one device."""
    lines = [
        [
            row["objective"],
            row["devices"],
            row["reduce"],
            f"{1e3 * row['seconds']:.1f}",
            f"{gain(result, row):.2f}",
        ]
        for row in result["rows"]
    ]
    return {
        "devices": report.table(
            ["objective", "devices", "reduce", "a step, ms", "times faster"], lines
        )
    }
