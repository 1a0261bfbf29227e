"""The outside case, with everything small."""

import argparse
import json

import pytest

from benchmarks import outside
from benchmarks.outside import experiment

pytestmark = pytest.mark.usefixtures("fast_compilation")


def test_the_busy_share_ends_when_the_last_call_begins():
    fun = experiment.Waiting([1.0, 1.0])
    fun.spans = [(0.0, 4.0), (0.0, 2.0), (4.0, 9.0)]
    assert fun.busy() == (4 + 2) / (2 * 4) and fun.calls_per_second() == 2 / 4


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", experiment.Size(4, 4, (1, 2), 1))
    monkeypatch.setattr(experiment, "UNEVEN", [0.001] * 7 + [0.01])
    outside.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "outside.json").read_text())
    assert (tmp_path / "outside.png").stat().st_size > 5_000
    assert result["even"][0]["ratio"] >= 1
    assert [row["max_pending"] for row in result["uneven"]] == [1, 2]
    assert all(0 < row["busy"]["median"] <= 1 for row in result["uneven"])
    assert outside.tables(result)["uneven"] in capsys.readouterr().out
