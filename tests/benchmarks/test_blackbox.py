"""The blackbox case, with everything small: what is counted, written and printed."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import blackbox
from benchmarks.blackbox import experiment
from benchmarks.blackbox.contenders import LABELS, runner
from benchmarks.blackbox.functions import TARGETS, Over, Race
from benchmarks.blackbox.tables import cell

pytestmark = pytest.mark.usefixtures("fast_compilation")


def test_evaluations_are_counted_to_the_end_and_no_further():
    race = Race(1, 3, 1, budget=4)
    assert race(race.start) > race.optimum and race.spent == 1
    far = race.start - race.optimum_at
    for share in (1e-1, 1e-2, 1e-6, 0.0):
        race(race.optimum_at + share * far)
    assert race.spent == 4 and race.over  # the fifth does not count
    with pytest.raises(Over):
        race.strictly(race.start)
    rise = np.sum(far**2)  # the sphere's
    for k, share in enumerate((1.0, 1e-1, 1e-2, 1e-6)):
        below = share**2 * rise * (1 + 1e-6) <= TARGETS
        assert np.all(race.reached[below] <= k + 1)
    assert np.isinf(race.reached[1e-12 * rise > TARGETS]).all()


def test_sphere_is_a_sum_of_squares():
    race = Race(1, 5, 3, budget=10)
    far = race.start - race.optimum_at
    assert race(race.start) - race.optimum == pytest.approx(np.sum(far**2))


@pytest.mark.parametrize("name", ["cma", "cobyqa", "l_bfgs"])
def test_others_solve_the_sphere_and_stop(name):
    race = Race(1, 2, 1, budget=2_000)
    runner(name, 2)(race, 1)
    assert race.over and race.spent < 1_000 and np.isfinite(race.reached[-1])


def test_what_it_writes_and_prints(tmp_path, monkeypatch, capsys):
    tiny = experiment.Size((2,), (1, 3), 1, 100, ("model_newton", "l_bfgs"))
    monkeypatch.setattr(experiment, "QUICK", tiny)
    blackbox.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "blackbox.json").read_text())
    printed = capsys.readouterr().out
    for text in blackbox.tables(result).values():
        assert text in printed
    assert (tmp_path / "blackbox.png").stat().st_size > 10_000
    (part,) = result["dimensions"]
    assert {row["method"] for row in part["rows"]} <= LABELS.keys()
    sphere = [row for row in part["rows"] if row["number"] == 1]
    assert all(row["instances"][0][-1] <= 100 for row in sphere)


def test_cells():
    targets = [1.0, 1e-8]
    row = {"budget": 100, "instances": [[3, 40], [3, None], [5, 60]]}
    assert cell(row, targets) == "100 (2 of 3)"  # (40 + 60 + 100)/2
    assert cell({"budget": 100, "instances": [[3, 40], [5, 60]]}, targets) == "50"
    assert cell({"budget": 100, "instances": [[3, None], [5, None]]}, targets) == "(1e+00)"
    assert cell({"budget": 100, "instances": [[None, None]]}, targets) == "above 100"
