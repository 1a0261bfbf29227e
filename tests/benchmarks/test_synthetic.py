"""The synthetic case, with everything small: what it runs, writes and prints."""

import argparse
import dataclasses
import json

import jax.numpy as jnp
import pytest

from benchmarks import synthetic
from benchmarks.common.methods import BASELINES, METHODS
from benchmarks.common.report import number
from benchmarks.synthetic import experiment
from benchmarks.synthetic.experiment import curved
from benchmarks.synthetic.tables import times

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = dataclasses.replace(
    experiment.QUICK,
    dimension=20,
    budget=60,
    long_budget=90,
    curvature_dimension=10,
    curvature_budget=60,
    methods=("zoar_1", "zovh_1"),
    long_methods=("zoar_1",),
    functions=("quadratic",),
    ablated=("quadratic",),
    histories=(2,),
    radii=(0.1,),
    checkpoints=3,
)


@pytest.fixture(scope="module")
def result(fast_compilation):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "BASELINES", {"origin": BASELINES["origin"]})
        patch.setattr(experiment, "OF_RADIUS", ("zo_sgd",))
        patch.setattr(
            experiment, "curved", lambda conditions: dict([*curved(conditions).items()][:1])
        )
        return experiment.measure(TINY)


def test_every_number_is_there(result):
    assert not set(result["tuning_seeds"]) & set(result["seeds"])
    assert set(result["experiments"]) == {
        "functions",
        "long",
        "curvature",
        "baselines",
        "reuse",
        "radius",
    }
    for part in result["experiments"].values():
        for row in part["rows"]:
            assert row["problem"] in part["start"]
            assert row["queries_spent"] <= part["budget"]
            assert len(row["final"]["each"]) == len(result["seeds"])
    json.dumps(result, allow_nan=False)


def test_the_control_runs_at_the_rate_over_the_damping(result):
    rows = result["experiments"]["functions"]["rows"]
    (control,) = [row for row in rows if "control" in row]
    (zovh,) = [row for row in rows if row["method"] == "zovh_1"]
    assert control["method"] == "zoar_1" and control["control"] == "zovh_1"
    damping = result["setting"]["damping"]
    assert control["learning_rate"] == pytest.approx(zovh["learning_rate"] / damping, rel=1e-5)
    assert "grid" not in control and "grid" in zovh


def test_the_ablations_vary_one_thing(result):
    baselines = result["experiments"]["baselines"]["rows"]
    assert [row["method"] for row in baselines] == ["gradient", "zovh"]
    assert {row["queries_per_step"] for row in baselines} == {4}  # the centre's included
    reuse = result["experiments"]["reuse"]["rows"]
    assert [row["history_size"] for row in reuse] == [2, 2]


def test_tables_quote_the_json(result):
    tables = synthetic.tables(result)
    assert set(tables) == {
        "functions", "long", "curvature", "controls", "baselines", "reuse", "radius", "speedups",
        "rates",
    }  # fmt: skip
    for row in result["experiments"]["functions"]["rows"]:
        table = tables["controls" if "control" in row else "functions"]
        assert number(row["final"]["median"]) in table
    assert len(tables["functions"].splitlines()) == 2 + len(TINY.methods)
    assert tables["functions"].count("**") == 2  # one best method, in bold
    assert "%" in tables["controls"]


def test_speed_ups_are_read_between_checkpoints():
    slow = {"queries": [0, 50, 100], "median": [9.0, 7.0, 5.0]}
    assert times({"queries": [0, 10, 20], "median": [9.0, 6.0, 2.0]}, slow) == "8.0"
    assert times(slow, slow) == "1.0"
    assert times({"queries": [0, 50, 100], "median": [9.0, 8.0, 6.0]}, slow) == "< 1"


def test_curved_problems_have_the_condition_they_are_named_for():
    problems = curved((1e2, 1e4))
    assert list(problems) == [
        f"condition {c}, {kind}" for c in ("1e2", "1e4") for kind in ("axis-aligned", "rotated")
    ]
    for name, problem in problems.items():
        eigenvalues = jnp.linalg.eigvalsh(problem.hessian(jnp.ones(8)).as_matrix())
        condition = float(eigenvalues[-1] / eigenvalues[0])
        assert condition == pytest.approx(100 if "1e2" in name else 1e4, rel=1e-2)


def test_full_has_every_method():
    assert experiment.FULL.methods == tuple(METHODS)
    assert set(experiment.PAPERS) <= set(METHODS)


def test_run(tmp_path, monkeypatch, capsys, result):
    monkeypatch.setattr(experiment, "measure", lambda size: result)
    synthetic.run(argparse.Namespace(full=False, out=tmp_path))
    assert json.loads((tmp_path / "synthetic.json").read_text()) == result
    assert (tmp_path / "synthetic.png").stat().st_size > 10_000
    assert "ZoAR at η/λ" in capsys.readouterr().out
