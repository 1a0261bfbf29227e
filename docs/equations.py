"""Which equation is where: tables made from what the docstrings say."""

import collections
import re

import griffe
from reference import package, public

NUMBERED = re.compile(r"\(E(\d+)\) (.*?)(?=[.;] \(E\d+\) |\.?$)", re.DOTALL)
LONG = 200
"""A source of more letters is cut to one sentence."""
GENERAL = {
    2: "what every gradient estimates",
    3: "what every averaged Hessian estimates",
    4: "`zo.baselines`: why only F_μ will do",
}
"""Equations that no single name stands for."""
MENTION = re.compile(r"\((E\d+[^)]*)\)(?:–\((E\d+)\))?")


def tables() -> dict[str, str]:
    """Markdown tables: the "numbers" of the docstrings, and the "sources" that these name."""
    return {"numbers": _numbers(), "sources": _sources()}


def _numbers() -> str:
    """Each equation, and the public names whose docstrings have its number."""
    homes = collections.defaultdict(list)
    for name, text in _documented():
        for number in mentioned(text):
            homes[number].append(f"`zo.{name}`")
    (paragraph,) = re.findall(r"\n\n(- \(E1\) .*?)\n\n", _text(package()), re.DOTALL)
    bullets = [" ".join(line.split()) for line in paragraph.split("\n- ")]
    lines = ["| | equation | where |", "|---|---|---|"]
    for bullet in bullets:
        for number, formula in NUMBERED.findall(bullet):
            shown = formula.replace("|", "\\|")
            where = ", ".join(dict.fromkeys(homes[int(number)])) or GENERAL.get(int(number), "")
            lines.append(f"| E{number} | {shown} | {where} |")
    return "\n".join(lines)


def mentioned(text: str) -> list[int]:
    """7, 8 and 13 for "(E7, E8, E13)"; 6 to 9 for "(E6–E9)" and "(E6)–(E9)"."""
    found: list[int] = []
    for inside, last in MENTION.findall(text):
        for part in re.split(r", ", f"{inside}–{last}" if last else inside):
            ends = [int(n) for n in re.findall(r"E(\d+)", part)]
            found += range(ends[0], ends[-1] + 1) if ends else ()
    return found


def _sources() -> str:
    """What the docstrings name as a source, and the public names that have it."""
    lines = ["| name | source |", "|---|---|"]
    for name, text in _documented():
        found = re.search(r"Source: (.*?)(?:\n\n|Queries (?:per|a) step|Estimator:|$)", text, re.S)
        if found and not package()[name].is_module:
            source = " ".join(found[1].split())
            if len(source) > LONG:  # the first sentence: a point after more than an abbreviation
                source = re.split(r"(?<=\w{4})\. (?=[A-Z])", source)[0]
            source = re.sub(r"arXiv (\d+\.\d+)", r"[arXiv \1](https://arxiv.org/abs/\1)", source)
            lines.append(f"| `zo.{name}` | {source.rstrip('.')} |")
    return "\n".join(lines)


def _documented() -> list[tuple[str, str]]:
    """Public names with their docstrings, and those of the files that define them.

    A public module that is one file stands for itself.
    """
    found, seen = [], set()
    for name, member in public().items():
        target = member.final_target if member.is_alias else member
        if target.path in seen:
            continue
        seen.add(target.path)
        texts = [_text(target)]
        file = target.module if not target.is_module else None
        if file is not None and not file.path.endswith(tuple(_public_modules())):
            texts.append(_text(file))
        found.append((name, "\n\n".join(texts)))
    return found


def _public_modules() -> list[str]:
    return [f"zovh_jax.{name}" for name, member in public().items() if member.is_module]


def _text(obj: griffe.Object) -> str:
    return obj.docstring.value if obj.docstring else ""
