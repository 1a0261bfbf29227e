"""What the speed case makes of its measurements: verdicts and tables."""

import math
from typing import Any

from benchmarks.common.report import table

OVER_FLOOR, REFERENCE, EVOSAX, LEAVES, MODEL = 1.3, 5.0, 3.0, 4.0, 3.0
"""A step over its floor at most; the ZoVH authors' step over ours and evosax's query over ours at
least; compiling a step on a hundred leaves over one, and of a model over its two forwards, at most.
"""
OVER_ADAM, OVER_LOOP = 2.5, 1.5
"""A called step over one of ``optax.adam``, of 10 parameters, and over the same step in a compiled
loop, of 10 000, at most."""
ABSENT = "Not measured yet: this result is older than the table."
"""Stands for a table that an older result has no numbers for."""


def targets(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The worst case of every target that the run can judge, and whether it is met."""
    rows = []
    for generator in generators(result):
        floors = {
            f"{row['step']}, {row['function']}": row["over_floor"]
            for row in result["steps"]
            if row["generator"] == generator and row["step"].endswith(("N=1", "stored"))
        }
        rows += verdict(generator, "step over floor, N = 1 and stored", floors, most=OVER_FLOOR)
        for size in (1, result["settings"]["history_size"]):
            ratios = {
                f"{row['against']}, {row['function']}": row["step_ratios"][generator]
                for row in result["others"]
                if row["library"] == "reference"
                and f"N={size}" in row["against"]
                and generator in row["step_ratios"]
            }
            target = f"ZoVH authors' step over ours, N = {size}"
            rows += verdict(generator, target, ratios, least=REFERENCE)
        ratios = {
            f"{row['against']}, {row['function']}": row["query_ratios"][generator]
            for row in result["others"]
            if row["library"] == "evosax"
        }
        rows += verdict(generator, "evosax's OpenAI-ES over ours, a query", ratios, least=EVOSAX)
    return rows + call_targets(result.get("calls", [])) + compile_targets(result.get("compile"))


def call_targets(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The targets of called steps, with packed states."""
    least = min((row["parameters"] for row in rows), default=0)
    few = [row for row in rows if row["parameters"] == least]
    over_adam = {row["step"]: row["packed"] / row["adam"] for row in few}
    inline = {row["step"]: row["inline"]["packed"] / row["inline"]["adam"] for row in few}
    over_loop = {
        row["step"]: row["packed"] / row["compiled"] for row in rows if row["parameters"] > least
    }
    called = "a called step over"
    return (
        verdict("as named", f"{called} adam's, d = 10", over_adam, most=OVER_ADAM)
        + verdict("as named", f"{called} adam's, d = 10, inline", inline, most=OVER_ADAM)
        + verdict("as named", f"{called} a compiled one, d = 10⁴", over_loop, most=OVER_LOOP)
    )


def compile_targets(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The targets of compilation; none without its measurements."""
    if part is None:
        return []
    rows = []
    for row in part["steps"]:
        target, ratio = "compiling a step, 100 leaves over one", {"zoar N=1": row["ratio"]}
        rows += verdict(row["generator"], target, ratio, most=LEAVES)
    model = part["model"]
    ratio = {f"{model['leaves']} leaves": model["ratio"]}
    return rows + verdict("gaussian", "compiling MeZO over two forwards", ratio, most=MODEL)


def verdict(
    generator: str,
    target: str,
    values: dict[str, float],
    *,
    least: float = -math.inf,
    most: float = math.inf,
) -> list[dict[str, Any]]:
    """The target's row, of its worst value; none if nothing was measured."""
    if not values:
        return []
    floor = math.isfinite(least)
    where, value = (min if floor else max)(values.items(), key=lambda item: item[1])
    bound = least if floor else most
    return [
        {
            "target": f"{target}: at {'least' if floor else 'most'} {bound:g}",
            "generator": generator,
            "bound": bound,
            "value": value,
            "where": where,
            "met": least <= value <= most,
        }
    ]


def generators(result: dict[str, Any]) -> list[str]:
    """What directions were drawn with."""
    return list(dict.fromkeys(piece["generator"] for piece in result["pieces"]))


def functions(result: dict[str, Any]) -> list[str]:
    """What was minimised."""
    return list(dict.fromkeys(piece["function"] for piece in result["pieces"]))


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Markdown tables by name.

    ``threefry``, ``fast`` and ``hadamard`` (steps over their floors), ``targets``, ``numbers``,
    ``calls``, ``compile``, ``memory``; with other libraries ``others`` (a query), with the authors'
    code ``reference`` (a step).
    """
    found = {generator.split()[0]: steps(result, generator) for generator in generators(result)}
    found.setdefault("hadamard", ABSENT)
    if any(row["library"] == "reference" for row in result["others"]):
        found["reference"] = reference(result)
    if result["others"]:
        found["others"] = others(result)
    found["targets"] = verdicts(result["targets"])
    found["numbers"] = table(
        ["random numbers", "ns each", "KS distance (n ≈ 10⁶)"],
        [
            [g["name"], f"{g['ns_per_number']:.2f}", f"{g['ks_distance']:.1e}"]
            for g in result["generators"]
        ],
    )
    found["calls"] = calls(result["calls"]) if "calls" in result else ABSENT
    found["compile"] = compilation(result["compile"]) if "compile" in result else ABSENT
    found["memory"] = table(
        ["10⁷ parameters, chunked(1)", "numbers", "temporaries, copies"],
        [
            [m["method"], m["generator"].split()[0], f"{m['temporaries'] / m['parameters']:.2f}"]
            for m in result["memory"]
        ],
    )
    return found


def verdicts(rows: list[dict[str, Any]]) -> str:
    """The targets as they were when the result was made, each with its worst case."""
    lines = [
        [
            row["target"],
            row["generator"].split()[0] if " (" in row["generator"] else row["generator"],
            f"{row['value']:.2f}",
            row["where"],
            "met" if row["met"] else "missed",
        ]
        for row in rows
    ]
    return table(["target", "numbers", "worst", "where", "verdict"], lines)


def calls(rows: list[dict[str, Any]]) -> str:
    """Microseconds of called steps, as they are and packed, beside adam and a compiled loop."""
    header = ["μs a called step", "d", "arrays", "as it is", "over adam", "packed", "over adam"]
    return table(
        [*header, "packed, inline", "over adam", "in a compiled loop"],
        [
            [
                row["step"],
                f"{row['parameters']:,}".replace(",", " "),
                f"{row['plain_arrays']}, {row['packed_arrays']}",
                f"{row['plain']:.0f}",
                f"{row['plain'] / row['adam']:.1f}×",
                f"{row['packed']:.0f}",
                f"{row['packed'] / row['adam']:.1f}×",
                f"{row['inline']['packed']:.0f}",
                f"{row['inline']['packed'] / row['inline']['adam']:.1f}×",
                f"{row['compiled']:.0f}",
            ]
            for row in rows
        ],
    )


def compilation(part: dict[str, Any]) -> str:
    """CPU seconds of compiling: steps on many leaves beside one, a model's step beside forwards."""
    lines = [
        (f"a step on 100 leaves, on one: {r['generator']}", r["many_leaves"], r["one_leaf"])
        for r in part["steps"]
    ]
    model = part["model"]
    size = f"{model['leaves']} leaves, {model['parameters'] / 1e6:.1f} million parameters"
    lines.append((f"MeZO, two forwards: {size}", model["step"], model["forwards"]))
    return table(
        ["compiling, CPU seconds", "this", "beside", "ratio"],
        [[what, f"{a:.2f}", f"{b:.2f}", f"{a / b:.1f}×"] for what, a, b in lines],
    )


def steps(result: dict[str, Any], generator: str) -> str:
    """Microseconds of our steps, by function; the two pieces of the floor first."""
    pieces = [piece for piece in result["pieces"] if piece["generator"] == generator]
    lines: dict[str, list[str]] = {}
    for piece in ("random", "objective"):
        lines[f"floor: {piece}"] = [f"{each[piece]:.0f}" for each in pieces]
    for row in result["steps"]:
        if row["generator"] == generator:
            cell = f"{row['microseconds']:.0f} ({row['over_floor']:.2f}×)"
            lines.setdefault(row["step"], []).append(cell)
    header = [f"μs (over floor), {generator.split()[0]}", *functions(result)]
    return table(header, [[label, *cells] for label, cells in lines.items()])


def reference(result: dict[str, Any]) -> str:
    """The ZoVH authors' steps beside ours; a dash where ours does not take those directions."""
    names, lines = generators(result), dict[str, list[str]]()
    for row in result["others"]:
        if row["library"] == "reference":
            theirs, ratios = row["microseconds"], [row["step_ratios"].get(g) for g in names]
            ours = ", ".join("-" if ratio is None else f"{theirs / ratio:.0f}" for ratio in ratios)
            cell = f"{theirs:.0f} : {ours} ({times(ratios)})"
            lines.setdefault(row["method"], []).append(cell)
    header = [f"μs a step, theirs : ours ({in_short(names)})", *functions(result)]
    return table(header, [[label, *cells] for label, cells in lines.items()])


def others(result: dict[str, Any]) -> str:
    """Microseconds a query of other libraries, and how many times as long as ours."""
    names, lines = generators(result), dict[tuple[str, str], list[str]]()
    for row in result["others"]:
        library = "ZoVH authors" if row["library"] == "reference" else row["library"]
        ratios = [row["query_ratios"].get(g) for g in names]
        cell = f"{row['microseconds'] / row['queries']:.0f} ({times(ratios)})"
        lines.setdefault((f"{library}: {row['method']}", row["against"]), []).append(cell)
    header = [f"μs a query (over ours: {in_short(names)})", "ours", *functions(result)]
    return table(header, [[*labels, *cells] for labels, cells in lines.items()])


def times(ratios: list[float | None]) -> str:
    """The ratios with a sign; a dash for None."""
    return ", ".join("-" if ratio is None else f"{ratio:.1f}×" for ratio in ratios)


def in_short(names: list[str]) -> str:
    """The first words of the generators' names."""
    return ", ".join(name.split()[0] for name in names)
