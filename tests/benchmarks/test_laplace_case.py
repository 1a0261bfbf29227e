"""The laplace case, on three parameters."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import laplace
from benchmarks.common import plots
from benchmarks.laplace import experiment, plot, scores
from benchmarks.laplace.contenders import CONTENDERS
from benchmarks.laplace.tasks import Kind

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = experiment.Size((Kind("tiny", "cancer", 2, False, 60),), (20,), 1, 20, ("full", "diagonal"))


@pytest.fixture(scope="module")
def result():
    return experiment.measure(TINY)


def test_the_full_structure_is_the_exact_posterior(result):
    rows = {row["method"]: row for row in result["rows"]}
    assert rows["full"]["queries"] == 13 and rows["diagonal"]["queries"] == 7
    assert rows["exact"]["divergence"]["median"] < 1e-4
    assert rows["full"]["divergence"]["median"] < 0.01
    assert abs(rows["full"]["evidence_gap"]["median"]) < 0.05
    assert rows["map"]["divergence"]["median"] is None  # infinite
    for name in ("nll", "ece", "brier", "auroc"):
        assert abs(rows["full"][name]["median"] - rows["exact"][name]["median"]) < 0.02


def test_what_is_reported(result, tmp_path):
    rendered = laplace.tables(json.loads(json.dumps(result)))
    assert "| tiny | 3 | full" in " ".join(rendered["targets"].split())
    assert "exact Hessian" in rendered["predictions"]
    figure = plot.figure_of(result)
    assert len(figure.axes) == 2
    plots.save(figure, tmp_path / "laplace.png")  # and close it


def test_scores_by_hand():
    labels = np.array([0, 0, 1, 1])
    task = SimpleNamespace(split=SimpleNamespace(test_labels=labels))
    sure = np.array([[0.9, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.1]])
    found = scores.of_probabilities(task, sure, np.full((3, 2), 0.5))
    assert found["accuracy"] == 0.75 and found["auroc"] == 1
    assert found["nll"] == pytest.approx(-(3 * np.log(0.9) + np.log(0.1)) / 4)
    assert found["ece"] == pytest.approx(0.15)
    assert found["brier"] == pytest.approx((3 * 0.02 + 1.62) / 4)


def test_no_contender_asks_for_what_tells_nothing():
    """Budgets that make no difference are left out, and those that are too small."""
    budgets = (10, 100, 1_000)
    assert CONTENDERS["full"].runs(budgets, 5, False) == {15: 100}
    assert CONTENDERS["diagonal"].runs(budgets, 5, False) == {4: 10, 5: 100}
    assert CONTENDERS["interpolated"].runs(budgets, 5, False) == {4: 10, 18: 100}
    assert CONTENDERS["interpolated_by_layer"].runs(budgets, 5, False) == {}
