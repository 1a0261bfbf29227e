"""Which line of the user's code an equation comes from."""

import math
import os
import pathlib
import re
import sysconfig
from collections.abc import Iterator

from jax.extend import core, source_info_util

NUM_FRAMES = 100
LIBRARIES = (str(pathlib.Path(__file__).parents[2]), sysconfig.get_paths()["stdlib"])
"""Folders of code that is not the user's, besides those of installed packages."""
INSTALLED = ("site-packages", "dist-packages")


class Sources:
    """Knows the equations that are entered on the way to others."""

    def __init__(self) -> None:
        self._outer: dict[int, core.JaxprEqn] = {}

    def enter(self, eqn: core.JaxprEqn) -> None:
        """Hears of an equation that holds programs, before those are run."""
        for param in eqn.params.values():
            for held in param if isinstance(param, (list, tuple)) else [param]:
                for inner in getattr(getattr(held, "jaxpr", held), "eqns", ()):
                    self._outer[id(inner)] = eqn

    def where(self, eqn: core.JaxprEqn) -> str:
        """The innermost line of the user's code and the operation, "model.py:12 (exp)"."""
        name = eqn.primitive.name
        lines = [line for each in self._outwards(eqn) for line in _lines(each)]
        best = next((line for line in lines if _is_users(line)), next(iter(lines), ""))
        found = re.match(r"(.+?):(\d+)", best)
        if not found:
            return f"({name})"
        file, line = found.groups()
        if os.path.exists(file) and not os.path.relpath(file).startswith(os.pardir):
            file = os.path.relpath(file)
        return f"{file}:{line} ({name})"

    def times(self, eqn: core.JaxprEqn) -> int:
        """How often the loops around it run it, as far as that is known."""
        return math.prod(each.params.get("length", 1) for each in [*self._outwards(eqn)][1:])

    def path(self, eqn: core.JaxprEqn) -> tuple[int, ...]:
        """Tells apart the places from which a program that JAX has traced once is entered."""
        return tuple(map(id, self._outwards(eqn)))

    def _outwards(self, eqn: core.JaxprEqn) -> Iterator[core.JaxprEqn]:
        """An equation, that which holds it, and so on."""
        each: core.JaxprEqn | None = eqn
        while each is not None:
            yield each
            each = self._outer.get(id(each))


def _lines(eqn: core.JaxprEqn) -> list[str]:
    """Its calls, the innermost first; inside a function that JAX has traced, those up to there."""
    text = source_info_util.summarize(eqn.source_info, NUM_FRAMES)
    return [line for line in reversed(text.splitlines()) if line]


def _is_users(line: str) -> bool:
    """Whether a call is in code of the user's."""
    installed = any(name in line for name in INSTALLED)
    return not installed and not line.startswith(LIBRARIES)


__all__ = ["Sources"]
