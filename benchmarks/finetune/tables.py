"""The tables of the language model's case."""

from typing import Any

import numpy as np

from benchmarks.common import report

Rows = list[dict[str, Any]]
RIVAL = "mezo"
"""The method that the others' forwards are compared with."""
FORWARD = "plain forward"
"""The program that the others' costs are compared with."""
STEPS = {"mezo": "MeZO", "zoar_low_rank": "ZoAR, low rank", "zoar_signs": "ZoAR, factored signs"}
"""The programs of methods whose steps are timed."""
TIMED = "everything"
"""The part whose steps these are."""
HEAD = "head, batches of 256"
"""The part that is compared with the linear probe."""
FACTORED = tuple(name for name in STEPS if name != RIVAL)
"""The methods along factored directions."""


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name: one a part, and the costs."""
    shown = {
        name.replace(",", "").replace(" ", "_"): of_part(part)
        for name, part in result["parts"].items()
    }
    if result["costs"]:
        shown["costs"] = of_costs(result["costs"])
    if seconds := timed(result):
        shown["seconds"] = of_seconds(result["parts"][TIMED], seconds)
        if HEAD in result["parts"]:
            shown["targets"] = of_targets(result, seconds)
    return shown


def timed(result: dict[str, Any]) -> dict[str, float]:
    """Seconds a forward on a CPU, by method, where steps on all parameters were timed there.

    A forward's share of the update is in it.
    """
    part = result["parts"].get(TIMED)
    rows = result["costs"].get("cpu", {}).get("rows", ())
    size = part and size_of(part)
    seconds = {
        row["program"]: row["seconds"] * row["batch"] / row["sentences"]
        for row in rows
        if size_of(row) == size
    }
    programs = {method: seconds.get(program) for method, program in STEPS.items()}
    return {method: found for method, found in programs.items() if found is not None}


def of_seconds(part: dict[str, Any], seconds: dict[str, float]) -> str:
    """Seconds of a run of all forwards, and until the rival's best accuracy, of each method."""
    rows = {row["method"]: row for row in part["rows"]}
    goal = max(means(rows[RIVAL]))
    lines = []
    for name, each in seconds.items():
        reached = first_at(rows[name], goal)
        until = "-" if reached is None else f"{reached * each:,.0f}"
        lines.append([rows[name]["label"], f"{1e3 * each:.3g}", f"{part['budget'] * each:,.0f}"])
        lines[-1].append(until)
    header = ["method", "ms a forward", f"seconds for {part['budget']:,}", "to MeZO's best"]
    return report.table(header, lines)


def of_targets(result: dict[str, Any], seconds: dict[str, float]) -> str:
    """What was aimed at, and the best that was measured of it."""
    rows = {row["method"]: row for row in result["parts"][TIMED]["rows"]}
    goal = max(means(rows[RIVAL]))
    spent = {name: first_at(rows[name], goal) or np.inf for name in (RIVAL, *FACTORED)}
    forwards, time = (
        min(spent[name] * unit[name] for name in FACTORED) / (spent[RIVAL] * unit[RIVAL])
        for unit in (dict.fromkeys(spent, 1.0), seconds)
    )
    head = result["parts"][HEAD]["rows"]
    best = max(means(row)[-1] for row in head if row["kind"] == "no learning rate")
    programs = [STEPS[name] for name in FACTORED]
    lines = [
        ["forwards to MeZO's best accuracy, over MeZO's", "0.25 or less", f"{forwards:.2f}"],
        ["seconds to it on a CPU, over MeZO's", "0.2 or less", f"{time:.2f}"],
        [
            f"points below the linear probe, no learning rate, {HEAD}",
            "1 or less",
            f"{100 * (result['probe'] - best):.2f}",
        ],
    ]
    for device, found in result["costs"].items():
        factored = [row for row in found["rows"] if row["program"] in programs]
        if device == "cpu":
            plain = forwards_of(found["rows"])
            times = [
                row["compile_seconds"] / plain[size_of(row)]["compile_seconds"] for row in factored
            ]
            where = "compile time of a step along factors, over a forward's"
            lines.append([where, "3 or less", f"{max(times):.1f}"])
        else:
            least = min(row["throughput"] for row in factored if row["sentences"] >= 256)
            where = f"throughput from 256 sentences on, {device}"
            lines.append([where, "0.9 or more", f"{least:.2f}"])
    return report.table(["what", "target", "measured"], lines)


def of_part(part: dict[str, Any]) -> str:
    """Accuracy, and forwards until the rival's best, of each method."""
    rival = next((row for row in part["rows"] if row["method"] == RIVAL), None)
    goal = None if rival is None else max(means(rival))
    header = ["method", "learning rate", "loss", "accuracy", "standard error"]
    header += ["forwards to MeZO's best"] if goal is not None else []
    ends = [means(row)[-1] for row in part["rows"] if row["kind"] != "derivatives"]
    best = max(ends, default=None)
    lines = []
    for row in part["rows"]:
        accuracy = means(row)[-1]
        text = f"{accuracy:.3f}"
        line = [
            row["label"],
            report.plain(row["learning_rate"]),
            report.number(row["final"]["median"]),
            f"**{text}**" if accuracy == best else text,
            f"{standard_error(row):.3f}",
        ]
        lines.append(line + ([until(row, goal)] if goal is not None else []))
    start = ["before training", "-", report.number(part["rows"][0]["curve"]["median"][0])]
    start += [f"{means(part['rows'][0])[0]:.3f}", "-", "-"]
    return report.table(header, [start[: len(header)], *lines])


def means(row: dict[str, Any]) -> np.ndarray:
    """The accuracy at each checkpoint, the mean over seeds; 0 for a run that is lost."""
    each = np.array(row["tests"]["each"], float)
    return np.where(np.isnan(each), 0, each).mean(0)


def standard_error(row: dict[str, Any]) -> float:
    """Of the mean accuracy at the end."""
    each = np.array(row["test"]["each"], float)
    return float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else float("nan")


def until(row: dict[str, Any], goal: float) -> str:
    """At which checkpoint the mean accuracy first reaches a goal, if it does."""
    reached = first_at(row, goal)
    return "-" if reached is None else f"{reached:,}"


def first_at(row: dict[str, Any], goal: float) -> int | None:
    """Forwards at the checkpoint where the mean accuracy first reaches a goal, or None."""
    reached = (n for n, x in zip(row["tests"]["queries"], means(row), strict=True) if x >= goal)
    return next(reached, None)


def of_costs(costs: dict[str, Any]) -> str:
    """Seconds, memory and compile time of each program beside a plain forward's."""
    lines = []
    for device, found in costs.items():
        forwards = forwards_of(found["rows"])
        for row in found["rows"]:
            size = size_of(row)
            plain = forwards[size]
            lines.append(
                [
                    device,
                    f"{size[0]} × {size[1]}",
                    row["program"],
                    f"{1e3 * row['seconds']:.3g}",
                    f"{row['throughput']:.2f}",
                    f"{row['temporaries'] / 1e6:.0f}",
                    over(row, plain, "temporaries"),
                    over(row, plain, "compile_seconds"),
                ]
            )
    header = ["device", "K × sentences", "program", "ms", "throughput", "temporaries, MB"]
    return report.table([*header, "times the forward's", "compile time, times"], lines)


def size_of(row: dict[str, Any]) -> tuple[int, int]:
    """K and the sentences a query of a row of the costs."""
    return row["num_directions"], row["batch"]


def forwards_of(rows: Rows) -> dict[tuple[int, int], dict[str, Any]]:
    """The plain forwards' rows of the costs, by size."""
    return {size_of(row): row for row in rows if row["program"] == FORWARD}


def over(row: dict[str, Any], plain: dict[str, Any], field: str) -> str:
    """A field over the plain forward's; a dash where it was not measured."""
    return "-" if row[field] is None else f"{row[field] / plain[field]:.1f}"
