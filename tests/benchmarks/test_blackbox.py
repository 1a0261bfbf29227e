"""The blackbox case, with everything small: what is counted, written and printed."""

import argparse
import dataclasses
import json

import numpy as np
import pytest

from benchmarks import blackbox, readme
from benchmarks.blackbox import experiment, published
from benchmarks.blackbox.contenders import LABELS, parallel, runner
from benchmarks.blackbox.functions import PATIENCE, SIZE, TARGETS, Over, Race
from benchmarks.blackbox.published import expected
from benchmarks.blackbox.tables import cell, in_rounds
from benchmarks.common import report

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


def test_noise_is_a_thousandth_of_the_distance_and_nothing_is_reached_by_it():
    rng = np.random.default_rng(0)
    points = rng.uniform(-4, 4, (300, 3))
    exact = Race(1, 3, 1, budget=300)
    rises = np.array([exact(x) for x in points]) - exact.optimum
    for noise, kept in ("stochastic", False), ("deterministic", True):
        race = Race(1, 3, 1, 300, noise)
        errors = (np.array([race(x) for x in points]) - race.optimum) / (SIZE * rises) - 1 / SIZE
        assert np.array_equal(race.reached, exact.reached)
        assert (race(points[0]) == race(points[0])) == kept
        assert np.abs(errors).max() < (1 + 1e-6 if kept else 5)
        assert 0.4 < np.std(errors) < 1.1 and abs(np.mean(errors)) < 0.2


def test_large_scale_functions_have_their_optimum():
    race = Race(10, 160, 1, budget=10)
    assert race(race.start) > race.optimum == race(race.optimum_at) and race.over
    assert parallel("diagonal_newton", 160) == 33


@pytest.mark.parametrize(
    "name", ["cma", "sep_cma", "vd_cma", "cobyqa", "newuoa", "l_bfgs", "spsa", "openai_es"]
)
def test_others_move_towards_the_optimum_and_stop(name):
    if name == "newuoa":
        pytest.importorskip("nlopt")
    race = Race(1, 2, 1, budget=1_000)
    first = race.start
    for seed in range(20):
        runner(name, 2)(race, seed)
        if race.over:
            break
        race.restart()
        assert np.any(race.start != first)
    assert race.over and race.spent <= 1_000
    assert np.isfinite(race.reached[5 if name == "spsa" else 20])  # 10, and 10⁻²


@pytest.mark.parametrize("name", ["model_newton", "low_rank_newton"])
def test_ours_ask_as_many_at_once_as_is_said(name, monkeypatch):
    steps, method, count = [], runner(name, 2), parallel(name, 2)
    step = method.step
    monkeypatch.setattr(method, "step", lambda *carry: steps.append(1) or step(*carry))
    with experiment.double_precision():
        for budget, rounds in ((count, 1), (count + 1, 2)):
            steps.clear()
            method(Race(1, 2, 1, budget), 1)
            assert len(steps) == rounds


def test_a_run_that_falls_no_more_is_stuck():
    race = Race(1, 2, 1, budget=1_000)
    while not race.stuck:
        race(race.start)
    assert race.spent == 1 + PATIENCE * 2
    race.restart()
    assert not race.stuck


def test_it_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    tiny = experiment.Size((2,), (1, 3), 100, 1, ("model_newton", "l_bfgs"))
    monkeypatch.setattr(experiment, "QUICK", tiny)

    def run(**parts):
        parser = argparse.ArgumentParser()
        blackbox.add_arguments(parser)
        chosen = parser.parse_args([])
        blackbox.run(argparse.Namespace(**vars(chosen) | parts, full=False, out=tmp_path))
        return json.loads((tmp_path / "blackbox.json").read_text())

    begun = run(functions=[1])
    assert {row["number"] for row in begun["rows"]} == {1}
    monkeypatch.setattr(experiment, "run", lambda row, instance: [13] * len(TARGETS))
    result = run(instances=2)
    printed = capsys.readouterr().out
    for text in blackbox.tables(result).values():
        assert text in printed
    assert (tmp_path / "blackbox.png").stat().st_size > 10_000
    for row in result["rows"]:
        old = row["number"] == 1
        assert row["method"] in LABELS and (row["instances"][0][-1] != 13) == old
        assert row["instances"][0][-1] <= row["budget"] == 200 and row["instances"][1][-1] == 13
    result = run(instances=1, again=True, methods=["l_bfgs"])
    runs = {(r["method"], r["number"]): r["instances"] for r in result["rows"]}
    assert runs["l_bfgs", 1] == [[13] * len(TARGETS)] and runs["model_newton", 1][0][-1] != 13
    monkeypatch.setattr(experiment, "QUICK", dataclasses.replace(tiny, budget=50))
    assert {row["budget"] for row in run(functions=[1])["rows"]} == {100}  # another size


def test_the_committed_result_is_what_full_measures():
    rows = report.read("blackbox", readme.RESULTS)["rows"]
    full = experiment.FULL
    wanted = {
        (noise, d, m, n): full.count(noise, d, m)
        for noise in full.noises
        for d in full.dimensions
        for m in full.methods
        for n in full.numbers(noise, d)
        if full.count(noise, d, m)
    }
    assert {experiment.key(row): len(row["instances"]) for row in rows} == wanted
    assert all(row["budget"] == full.evaluations(*experiment.place(row)) for row in rows)


def test_cells():
    targets = [1.0, 1e-8]
    row = {"budget": 100, "parallel": 30, "instances": [[3, 40], [3, None], [5, 60]]}
    assert cell(row, targets) == "100 (2 of 3)"  # (40 + 60 + 100)/2
    assert cell(row, targets, 0) == "4"
    assert in_rounds(row) == "4"
    assert cell({"budget": 100, "instances": [[3, 40], [5, 60]]}, targets) == "50"
    assert cell({"budget": 100, "instances": [[3, None], [5, None]]}, targets) == "(1e+00)"
    assert cell({"budget": 100, "instances": [[None, None]]}, targets) == "above 100"


def test_published_numbers_are_read():
    lines = ["% text", "1 1e3 1e3 A 15 15", "6 1.0e2 1.0e2 A 15 15", "43.5 1e-3 1e-3 B 15 15"]
    counts = expected(lines)
    assert counts[0] == 6 and counts[1] == 43.5 and counts[25] == 43.5  # 10², below, 10⁻³
    assert counts[26] is None


def test_published_numbers_are_optional(monkeypatch):
    monkeypatch.setattr(published, "archive", lambda: None)
    assert published.best_2009(1, 20) is None
