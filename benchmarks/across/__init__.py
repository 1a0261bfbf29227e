"""Tables over several cases, for the documentation: what to choose, and where it loses.

Both are computed from the committed results whenever a page is filled, so that a claim ends with
the numbers that made it. `decisions` and `losses` have a function ``tables(read)``; ``read`` gives
a case's result by its name.
"""

from collections.abc import Callable, Iterable
from typing import Any

Read = Callable[[str], dict[str, Any]]
Row = dict[str, Any]


def ours(row: Row) -> bool:
    """Whether a row is of an optimiser without a learning rate that is not somebody else's."""
    others = ("POEM", "Mechanic", "Prodigy")
    return row["learning_rate"] is None and not any(name in row["label"] for name in others)


def least(rows: Iterable[Row], field: str) -> Row:
    """The row whose field has the least median; None, which is infinite, is the largest."""
    return min(rows, key=lambda row: median(row, field))


def median(row: Row, field: str) -> float:
    """A field's median; infinity for None."""
    value = row[field]["median"]
    return float("inf") if value is None else value


def grouped(rows: Iterable[Row], *names: str) -> dict[Any, list[Row]]:
    """Rows by what they have in these fields; one field's value is not in a tuple."""
    found: dict[Any, list[Row]] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        found.setdefault(key if len(names) > 1 else key[0], []).append(row)
    return found
