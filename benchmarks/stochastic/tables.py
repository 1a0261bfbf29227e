"""The tables of the stochastic case."""

import math
from typing import Any

from benchmarks.common import report

Rows = list[dict[str, Any]]
GAMES = ("pendulum", "pendulum_one", "pendulum_three", "cartpole")
"""The parts whose objective is a negative return: a ratio of two says nothing."""
NEAR = (1.1, 1.3)
"""What is near the best tuned method."""
OPPOSITE = {"median": "median", "least": "most", "most": "least"}
RIVALS = {"POEM": ("poem", "poem_average"), "FZOO": ("fzoo",)}
"""Which methods a method is compared with, by name; the better one where there are two."""


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables of the result, by name: those of the parts, the ratios and their summary."""
    losses, games = split(result)
    shown = {}
    for name, rows in losses.items():
        shown[name] = by_setting(rows, "final")
        if tested := [row for row in rows if "test" in row]:
            shown[f"{name}_accuracy"] = by_setting(tested, "test", most=True)
    if games:
        shown["policies"] = returns(games)
    if losses:
        shown["ratios"] = ratios([row for rows in losses.values() for row in rows])
        shown["summary"] = summary(losses)
    return shown


def split(result: dict[str, Any]) -> tuple[dict[str, Rows], Rows]:
    """The rows of the parts whose values are losses, and those of all games."""
    parts = {name: part["rows"] for name, part in result["parts"].items()}
    games = [row for name in GAMES for row in parts.pop(name, [])]
    return parts, games


def by_setting(rows: Rows, field: str, most: bool = False) -> str:
    """A field's median and range: methods down the side, problems and batch sizes across.

    A problem's name ends in what tells it from the others of its part.
    """
    return report.matrix("method", "label", named(rows), "{short}, {batch}", field, most)


def named(rows: Rows) -> Rows:
    """The rows with a short name of the problem; what uses derivatives says so, without a rank."""
    names = {row["problem"] for row in rows}
    first = {name.split(", ")[0] for name in names}
    cut = len(f"{first.pop()}, ") if len(names) > 1 and len(first) == 1 else 0
    return [
        row
        | {
            "short": row["problem"][cut:],
            "label": label_of(row),
            "unranked": row["kind"] == "derivatives",
        }
        for row in rows
    ]


def label_of(row: dict[str, Any]) -> str:
    """A row's label, with a mark where derivatives are used."""
    return f"{row['label']} (derivatives)" if row["kind"] == "derivatives" else row["label"]


def returns(rows: Rows) -> str:
    """Returns of games: those at the start, then at the end of each method's runs."""
    starts = [
        row | {"label": "at the start", "test": start_of(row), "diverged": 0, "unranked": True}
        for found in settings_of(rows).values()
        for row in list(found.values())[:1]
    ]
    return report.matrix("method", "label", starts + rows, "{problem}, {batch}", "test", most=True)


def start_of(row: dict[str, Any]) -> dict[str, float]:
    """The returns at the start of a row's runs, whose objective is the negative return."""
    curve = row["curve"]
    return {name: -curve[other][0] for name, other in OPPOSITE.items()}


def settings_of(rows: Rows) -> dict[str, dict[str, dict[str, Any]]]:
    """For each problem and batch size its rows, by method."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(f"{row['problem']}, {row['batch']}", {})[row["method"]] = row
    return found


def final(row: dict[str, Any]) -> float:
    """The median of the final values; infinite where most runs were lost."""
    value = row["final"]["median"]
    return math.inf if value is None else value


def lost(row: dict[str, Any]) -> bool:
    """Whether most of a row's runs diverged, or ended on no number."""
    return final(row) == math.inf or 2 * row["diverged"] > len(row["final"]["each"])


def compared(rows: Rows) -> dict[str, tuple[dict[str, dict[str, Any]], dict[str, Any]]]:
    """For each setting its rows, by method, and the one that ratios are against.

    It is that of the tuned first-order method that ends lowest of those that are not lost. Settings
    where all of them are lost are left out.
    """
    rivals = {
        setting: [row for row in found.values() if row["kind"] == "first order" and not lost(row)]
        for setting, found in settings_of(rows).items()
    }
    return {
        setting: (found, min(rivals[setting], key=final))
        for setting, found in settings_of(rows).items()
        if rivals[setting]
    }


def ratio(row: dict[str, Any], best: dict[str, Any]) -> float | None:
    """A row's final value over another's; None, which is what JSON has for infinity, if lost."""
    return None if lost(row) else final(row) / final(best)


def ratios(rows: Rows) -> str:
    """For each setting the best tuned method, and the others' final values over its value."""
    labels = {
        row["method"]: row["label"]
        for row in rows
        if row["kind"] == "no learning rate" or row["method"] in RIVALS["FZOO"]
    }
    lines = []
    for setting, (found, best) in compared(rows).items():
        cells = [report.number(ratio(found[m], best)) if m in found else "" for m in labels]
        lines.append([setting, best["label"], report.number(best["final"]["median"]), *cells])
    return report.table(["setting", "best tuned", "its final value", *labels.values()], lines)


def summary(parts: dict[str, Rows]) -> str:
    """For each method without a learning rate: in how many settings it is near, or ahead."""
    header = ["method", "settings", *(f"within {near:g}" for near in NEAR), "below the best tuned"]
    lines = []
    groups = {"least squares": parts.get("least_squares", [])}
    groups["all"] = [row for rows in parts.values() for row in rows]
    for group, rows in groups.items():
        found = list(compared(rows).values())
        for method, label in {
            row["method"]: row["label"] for row in rows if row["kind"] == "no learning rate"
        }.items():
            here = [(of_setting, best) for of_setting, best in found if method in of_setting]
            of_best = [ratio(s[method], best) for s, best in here]
            counts = [sum(r is not None and r <= near for r in of_best) for near in NEAR]
            counts.append(sum(r is not None and r < 1 for r in of_best))
            cells = [share(count, len(here)) for count in counts]
            cells += [
                "" if method in rivals else ahead(method, rivals, [s for s, _ in here])
                for rivals in RIVALS.values()
            ]
            lines.append([label, f"{group}: {len(here)}", *cells])
    return report.table([*header, *(f"ahead of {name}" for name in RIVALS)], lines)


def ahead(method: str, rivals: tuple[str, ...], settings: list[dict[str, dict[str, Any]]]) -> str:
    """In how many settings the method ends below all the rivals."""
    here = [s for s in settings if any(rival in s for rival in rivals)]
    won = [all(final(s[method]) < final(s[r]) for r in rivals if r in s) for s in here]
    return share(sum(won), len(here))


def share(count: int, total: int) -> str:
    """A count and its percentage."""
    return f"{count} ({count / total:.0%})" if total else ""
