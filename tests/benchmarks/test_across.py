"""What is said across cases: each table has a place on a page, and a win is no loss."""

import copy

import pytest

from benchmarks import readme
from benchmarks.across import losses

PAGES = "\n".join(path.read_text() for path in readme.DOCS)


def rows(table):
    return table.splitlines()[2:]


@pytest.mark.parametrize("module", readme.ACROSS)
def test_every_table_is_on_a_page_and_says_something(module):
    for name, table in readme.tables(module).items():
        assert f"<!-- results: {module} {name} -->" in PAGES
        assert rows(table), f"{name} is empty: nothing is lost there any more"


def test_what_wins_is_no_loss():
    result = copy.deepcopy(readme.result("newton"))
    for field, part in ("score", "gap"), ("final", "functions"):
        for row in result[part]["rows"]:
            row[field]["median"] = 2.0 if row["learning_rate"] else 1.0
    assert not rows(losses.newton(result))
    last = result["functions"]["rows"][-1]
    last["final"]["median"] = 3.0
    (line,) = rows(losses.newton(result))
    assert last["problem"] in line and last["label"] in line and "1.5 |" in line
