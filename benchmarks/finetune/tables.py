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


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name: one a part, and the costs."""
    shown = {
        name.replace(",", "").replace(" ", "_"): of_part(part)
        for name, part in result["parts"].items()
    }
    if result["costs"]:
        shown["costs"] = of_costs(result["costs"])
    if timed(result):
        shown["seconds"] = of_seconds(result["parts"][TIMED], timed(result))
    return shown


def timed(result: dict[str, Any]) -> dict[str, float]:
    """Seconds a forward on a CPU, by method, where steps on all parameters were timed there.

    A forward's share of the update is in it.
    """
    part = result["parts"].get(TIMED)
    rows = result["costs"].get("cpu", {}).get("rows", ())
    size = part and (part["num_directions"], part["batch"])
    seconds = {
        row["program"]: row["seconds"] * row["batch"] / row["sentences"]
        for row in rows
        if (row["num_directions"], row["batch"]) == size
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
        for row in found["rows"]:
            size = (row["num_directions"], row["batch"])
            plain = next(
                other
                for other in found["rows"]
                if other["program"] == FORWARD and (other["num_directions"], other["batch"]) == size
            )
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


def over(row: dict[str, Any], plain: dict[str, Any], field: str) -> str:
    """A field over the plain forward's; a dash where it was not measured."""
    return "-" if row[field] is None else f"{row[field] / plain[field]:.1f}"
