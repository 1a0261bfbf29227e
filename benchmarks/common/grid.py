"""The search for a learning rate: a grid of decades' parts that grows until the best is inside."""

import math
from collections.abc import Callable
from typing import Any

LONGEST = 12
"""A grid stops growing at so many rates."""


class Grid:
    """Learning rates that were tried, by integer exponents; the smallest score is the best.

    Args:
      attempt: tries some exponents and gives a row for each.
      score: the field of a row that is the score.

    Attributes:
      rows: one for each exponent that was tried. Where its field ``diverged`` is above 0, this
        rate and all larger ones are never the best: those that did not diverge had luck.
    """

    def __init__(self, attempt: Callable[[list[int]], dict[int, dict[str, Any]]], score: str):
        self.attempt, self.score = attempt, score
        self.rows: dict[int, dict[str, Any]] = {}

    def add(self, exponents: list[int]) -> None:
        """Tries more exponents."""
        self.rows |= self.attempt(exponents)

    def grow(self, centre: int, *, spacing: int, ahead: int) -> None:
        """Tries three exponents, and more beyond the best while that is at an edge.

        Args:
          centre: the middle one of the three.
          spacing: the distance between exponents.
          ahead: how many are tried at once beyond an edge.
        """
        self.add([centre - spacing, centre, centre + spacing])
        while not self.interior and len(self.rows) < LONGEST:
            # If all rates diverged, the best is the least: the grid grows downwards.
            best = self.best
            towards = -spacing if best == min(self.rows) else spacing
            self.add([best + towards * i for i in range(1, ahead + 1)])

    @property
    def best(self) -> int:
        """The exponent with the smallest score, the smaller one of equals."""
        limit = min((i for i, row in self.rows.items() if row.get("diverged")), default=math.inf)
        return min(
            self.rows, key=lambda i: (self.rows[i][self.score] if i < limit else math.inf, i)
        )

    @property
    def interior(self) -> bool:
        """Whether rates on both sides of the best were tried."""
        return min(self.rows) < self.best < max(self.rows)

    @property
    def in_order(self) -> list[dict[str, Any]]:
        """The rows, the smallest rate first."""
        return [self.rows[i] for i in sorted(self.rows)]
