"""What every case ends with: tables, a JSON file, pictures; and pictures drawn anew."""

import json
import shutil

import pytest

from benchmarks import readme
from benchmarks.__main__ import CASES, main, package
from benchmarks.common import plots, report


def figure_of(result):
    figure, ax = plots.plt.subplots()
    ax.plot(result["numbers"])
    return figure


def test_finish_writes_prints_and_draws(tmp_path, capsys):
    result, before = {"numbers": [1, 2]}, plots.plt.get_fignums()
    report.finish("case", result, lambda r: {"a_b": str(r)}, {"drawn": figure_of}, tmp_path / "new")
    assert json.loads((tmp_path / "new" / "case.json").read_text()) == result
    assert (tmp_path / "new" / "drawn.png").read_bytes()[:4] == b"\x89PNG"
    printed = capsys.readouterr().out
    for text in ("a b", str(result), "case.json", "drawn.png"):
        assert text in printed
    assert plots.plt.get_fignums() == before


def test_numbers_outlive_a_picture_that_fails(tmp_path):
    with pytest.raises(ZeroDivisionError):
        report.finish("case", {"a": 1}, lambda r: {}, {"bad": lambda r: 1 / 0}, tmp_path)
    assert report.read("case", tmp_path) == {"a": 1}


def test_a_result_that_json_cannot_hold_leaves_the_old_one(tmp_path):
    report.write_json(tmp_path / "case.json", {"a": 1})
    with pytest.raises(ValueError):
        report.write_json(tmp_path / "case.json", {"a": float("nan")})
    assert report.read("case", tmp_path) == {"a": 1}


def test_numbers_are_written_a_list_a_line(tmp_path):
    content = {"a": [[1, None], [-2.5e-8, 3]], "b": ["1", 2], "c": [], "d": [{"e": 1}]}
    report.write_json(tmp_path / "case.json", content)
    assert report.read("case", tmp_path) == content
    assert "[ -2.5e-08, 3 ]" in (tmp_path / "case.json").read_text()


SOME = ("stochastic", "drift", "finetune", "box-attack", "zo-sah")


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=[pytest.mark.slow] * (c not in SOME)) for c in CASES]
)
def test_every_case_redraws_its_committed_pictures(case, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(plots.plt.rcParams, "savefig.dpi", 20)  # drawing takes longest
    shutil.copy(readme.RESULTS / f"{case}.json", tmp_path)
    main([case, "--redraw", "--out", str(tmp_path)])
    names = {f"{name}.png" for name in package(case).PICTURES}
    assert {path.name for path in tmp_path.glob("*.png")} == names
    assert all((readme.RESULTS / name).exists() for name in names)
    printed = capsys.readouterr().out
    assert all(name in printed for name in names)


def test_redrawing_without_a_result_says_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"folder with drift\.json.*run the case first"):
        main(["drift", "--redraw", "--out", str(tmp_path)])


@pytest.mark.parametrize(("most", "best"), [(False, "a"), (True, "b")])
def test_the_best_of_a_column_is_bold(most, best):
    rows = [
        {"label": name, "problem": "p", "diverged": 0, "x": {"median": m, "least": m, "most": m}}
        for name, m in (("a", 1.0), ("b", 2.0), ("c", None))
    ]
    lines = report.matrix("", "label", rows, shown="x", most=most).splitlines()[2:]
    assert [line.split()[1] for line in lines if "**" in line] == [best]
