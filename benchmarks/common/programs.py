"""What a compiled program does: read from its text, the same whatever else the machine does.

XLA's own count of operations takes the body of a loop once; here it counts as often as it is run.
What libraries do (custom calls, sorting, XLA's own generator) is left out.
"""

import dataclasses
import math
import re
from typing import Any

WIDTHS = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s64": 8, "u64": 8}
"""Bytes a number; those that are missing have four."""
WIDTHS |= {"f64": 8, "c64": 8, "c128": 16}
EXCHANGES = ("all-", "reduce-scatter", "collective-")
FREE = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "bitcast-convert", "copy"),
    *("broadcast", "reshape", "transpose", "slice", "dynamic-slice", "dynamic-update-slice", "pad"),
    *("concatenate", "reverse", "gather", "scatter", "iota", "partition-id", "replica-id", "sort"),
    *("custom-call", "opt-barrier", "after-all", "rng-bit-generator"),
    *("all-gather-start", "all-reduce-start", "collective-permute-start"),  # their ends count
}
"""What computes nothing: numbers are moved only."""
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%(\S+) = (.*)")
OPCODE = re.compile(r"^(\((?:[^()]|\([^()]*\))*\)|\S+) ([\w-]+)\(([^)]*)\)(.*)")
SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Work:
    """Of one device, in one run of a program.

    Attributes:
      operations: additions, products, comparisons, bit operations, …, one each.
      exchanged: bytes that come out of its exchanges with others, its own part among them.
    """

    operations: float = 0
    exchanged: float = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.operations + other.operations, self.exchanged + other.exchanged)

    def times(self, count: int) -> "Work":
        """That of so many runs."""
        return Work(count * self.operations, count * self.exchanged)


def work(compiled: Any) -> Work:
    """Work of a compiled program, on each of its devices.

    Loops count as often as XLA knows them to run, once where it does not; of branches the dearest
    counts.

    Args:
      compiled: from ``jax.jit(f).lower(…).compile()``.
    """
    parts, entry = computations(compiled.as_text())
    done: dict[str, Work] = {}

    def of(name: str) -> Work:
        if name not in done:
            shapes = {key: type_ for key, (type_, *_) in parts[name].items()}
            each = (instruction(*one, shapes, of) for one in parts[name].values())
            done[name] = sum(each, Work())
        return done[name]

    return of(entry)


def computations(text: str) -> tuple[dict[str, dict[str, tuple[str, str, str, str]]], str]:
    """Instructions (type, opcode, operands, the rest) by computation and name; the first one."""
    parts: dict[str, dict[str, tuple[str, str, str, str]]] = {}
    entry = here = ""
    for line in text.splitlines():
        found = INSTRUCTION.match(line)
        if found is None:
            if line.endswith("{") and not line.startswith("HloModule"):
                here = line.removeprefix("ENTRY ").split()[0].lstrip("%")
                parts[here] = {}
                entry = here if line.startswith("ENTRY ") else entry
        elif (split := OPCODE.match(found[2])) is not None:
            parts[here][found[1]] = split[1], split[2], split[3], split[4]
    return parts, entry


def instruction(
    type_: str, opcode: str, operands: str, rest: str, shapes: dict[str, str], of: Any
) -> Work:
    """Work of one instruction, with what it calls."""
    if opcode == "while":
        trips = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
        return of(called("body", rest)).times(int(trips[1]) if trips else 1)
    if opcode in ("fusion", "call"):
        return of(called("calls" if opcode == "fusion" else "to_apply", rest))
    if opcode == "conditional":
        branches = re.findall(r"%([\w.\-]+)", rest.split("metadata=")[0])
        return max(map(of, branches), key=lambda work: work.operations)
    if opcode in FREE:
        return Work()
    if opcode.startswith(EXCHANGES):
        return Work(exchanged=sum(size * width for size, width in arrays(type_)))
    if opcode == "convolution":
        raise ValueError(f"work does not count a {opcode}: {rest}")
    name = operands.split(",")[0].strip().lstrip("%")
    size: float = sum(size for size, _ in arrays(type_))
    if opcode == "dot":
        sides = [int(n) for n in SHAPE.findall(shapes[name])[0][1].split(",") if n]
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", rest)
        axes = [int(i) for i in summed[1].split(",") if i] if summed else []
        size *= 2 * math.prod(sides[i] for i in axes)
    elif opcode == "reduce-window":  # XLA sums a long array in windows
        window = re.search(r"window=\{size=([\dx]+)", rest)
        assert window is not None, rest
        size *= math.prod(map(int, window[1].split("x")))
    elif opcode == "reduce":
        size = arrays(shapes[name])[0][0]
    return Work(operations=size)


def called(name: str, rest: str) -> str:
    """The computation that an instruction calls."""
    found = re.search(rf"\b{name}=%([\w.\-]+)", rest)
    assert found is not None, rest
    return found[1]


def arrays(type_: str) -> list[tuple[int, int]]:
    """Elements and bytes an element of each array of a type."""
    return [
        (math.prod(int(n) for n in sides.split(",") if n), WIDTHS.get(kind, 4))
        for kind, sides in SHAPE.findall(type_)
    ]
