"""``python -m benchmarks.readme``: fills the pages' tables from the committed results.

A page holds blocks such as

    <!-- results: speed others -->
    …
    <!-- end -->

where "speed" is a case, whose committed result is ``benchmarks/results/speed.json``, and "others" a
table that the case's package renders: ``tables(result)["others"]``. A module of `benchmarks.across`
may stand in the place of a case: its tables are made from several. What lies between the two lines
is replaced. `tests/benchmarks/test_results.py` fails where a page and the results disagree.
"""

import functools
import importlib
import re
from pathlib import Path
from typing import Any

from benchmarks.common import report

HERE = Path(__file__).parent
RESULTS = HERE / "results"
DOCS = sorted((HERE.parent / "docs" / "pages").rglob("*.md"))
PAGES = (HERE / "README.md", HERE.parent / "README.md", *DOCS)
ACROSS = ("decisions", "losses")
BLOCK = re.compile(r"<!-- results: (\S+) (.+?) -->\n(.*?)<!-- end -->", re.DOTALL)


@functools.cache
def tables(case: str) -> dict[str, str]:
    """The tables of a case, rendered from its committed result, or of a module across cases."""
    if case in ACROSS:
        return importlib.import_module(f"benchmarks.across.{case}").tables(result)
    return importlib.import_module(f"benchmarks.{case.replace('-', '_')}").tables(result(case))


@functools.cache
def result(case: str) -> dict[str, Any]:
    """A case's committed result."""
    return report.read(case, RESULTS)


def filled(page: str) -> str:
    """The page with its blocks rendered anew.

    Raises:
      ValueError: for a block whose case has no committed result, or no such table.
    """

    def block(match: re.Match) -> str:
        case, name, _ = match.groups()
        if case not in ACROSS and not (RESULTS / f"{case}.json").exists():
            raise ValueError(f"{match[0].splitlines()[0]}: there is no {RESULTS / case}.json")
        if name not in tables(case):
            raise ValueError(
                f"{match[0].splitlines()[0]}: {case} has no such table, only "
                f"{', '.join(tables(case))}"
            )
        return f"<!-- results: {case} {name} -->\n\n{tables(case)[name]}\n\n<!-- end -->"

    return BLOCK.sub(block, page)


def main() -> None:
    """Rewrites the pages that disagree with the results."""
    for path in PAGES:
        page = path.read_text()
        new = filled(page)
        path.write_text(new)
        print(f"{path}: {'rewritten' if new != page else 'up to date'}")


if __name__ == "__main__":
    main()
