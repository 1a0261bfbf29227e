"""Every notebook runs from top to bottom and draws what it says it draws."""

import pathlib

import pytest

from notebooks.__main__ import execute

NOTEBOOKS = sorted((pathlib.Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
LONG = ("01_which_estimator", "02_language_model", "03_uncertainty", "04_few_parameters")
"""In `make test-slow`."""
FEWER = {
    "00_quickstart": {"for i in range(1, 8)": "for i in range(7, 8)"},
}
"""Points of a curve that compile again are fewer here."""


@pytest.mark.filterwarnings("default")  # the kernel client's own
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] if path.stem in LONG else [])
        for path in NOTEBOOKS
    ],
)
def test_notebook(path, tmp_path, monkeypatch):
    if path.stem not in LONG:
        monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")  # as `fast_compilation`
    if path.stem in FEWER:
        text = path.read_text()
        for what, fewer in FEWER[path.stem].items():
            assert what in text
            text = text.replace(what, fewer)
        path = tmp_path / path.name
        path.write_text(text)
    notebook = execute(path)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_notebooks():
    assert NOTEBOOKS
