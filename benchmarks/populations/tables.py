"""The tables of the populations case."""

from typing import Any

import numpy as np

from benchmarks.common import report


def tables(result: dict[str, Any]) -> dict[str, str]:
    """``costs`` of a step, what it is ``worth`` at equal queries, and what ``devices`` share."""
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
        "devices": spread(result),
    }


def spread(result: dict[str, Any]) -> str:
    """A row for each method: temporaries, operations and bytes of a device, and timings."""
    counts = result["settings"]["devices"]
    cells = {(row["library"], row["method"], row["devices"]): row for row in result["devices"]}
    timings = {
        (row["library"], row["method"], row["devices"]): row["microseconds"]
        for row in result["scaling"]
    }
    most, fewest = counts[-1], counts[0]
    rows = []
    for library, method in dict.fromkeys((row["library"], row["method"]) for row in cells.values()):
        each = [cells[library, method, count] for count in counts]
        held = [
            "-" if row["temporary_bytes"] is None else f"{row['temporary_bytes'] / 1e6:.1f}"
            for row in each
        ]
        times = [timings.get((library, method, count)) for count in counts]
        shown = [report.number(t) for t in times if t is not None]
        rows.append(
            [
                f"{library} {method}",
                " / ".join(held),
                " / ".join(report.number(row["operations"] / 1e9) for row in each),
                f"{each[-1]['operations'] / each[0]['operations']:.2f}",
                f"{each[-1]['exchanged_bytes'] / 1e3:,.1f}",
                f"{max(row['difference'] for row in each):.0e}".replace("0e+00", "0"),
                " / ".join(shown) if shown else "-",
            ]
        )
    devices = " / ".join(map(str, counts))
    timed = " / ".join(str(n) for n in counts if any(key[2] == n for key in timings))
    return report.table(
        [
            "method",
            f"temporaries a device, MB, on {devices}",
            f"operations a device, 10⁹, on {devices}",
            f"on {most} / on {fewest}",
            f"kB exchanged, on {most}",
            "steps differ by",
            f"µs a query, on {timed}" if timed else "µs a query",
        ],
        rows,
    )


def final(row: dict[str, Any]) -> float:
    """The median held-out loss at the end; infinite where most runs diverged."""
    return float(np.median([np.inf if one[-1] is None else one[-1] for one in row["loss"]]))
