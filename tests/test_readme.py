"""The Python of the README and of the documentation's pages runs, and prints what they say."""

import re

import jax
import pytest

from docs import run

SLOW = ("curvature.md", "minima.md", "parts.md")
PAGES = [
    pytest.param(path, marks=pytest.mark.slow if path.name in SLOW else ())
    for path in run.PAGES
    if run.CODE.search(path.read_text())
]
NUMBER = r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?"
pytestmark = pytest.mark.usefixtures("fast_compilation")


def outputs(page):
    """What each block prints."""
    return [match[0] for match in run.CODE.finditer(page) if match[3]]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(run.ROOT)))
def test_code_prints_what_the_page_says(path, tmp_path, monkeypatch):
    """The words to the letter; numbers nearly, as other machines round otherwise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    page = path.read_text()
    for said, printed in zip(outputs(page), outputs(run.ran(page, str(path))), strict=True):
        assert re.sub(NUMBER, "#", said) == re.sub(NUMBER, "#", printed)
        numbers = ([float(x) for x in re.findall(NUMBER, text)] for text in (said, printed))
        assert next(numbers) == pytest.approx(next(numbers), rel=0.1, abs=0.02)
    assert all((path.parent / picture.name).exists() for picture in tmp_path.glob("*.png"))
    jax.clear_caches()


def test_a_wrong_output_is_noticed():
    page = "```python\nprint(2 + 2)\n```\n\n```text\n5\n```\n"
    assert run.ran(page, "page") == page.replace("5", "4")
