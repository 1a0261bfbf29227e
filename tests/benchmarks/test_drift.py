"""The drift case, with everything small."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import drift
from benchmarks.drift import experiment

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = experiment.Size(60, (1e-3,), (2,), ("adaptive",))


def test_the_bowl_moves_with_the_queries_and_is_measured_by_distance():
    task = experiment.task_of(100)
    x = task.start(jax.random.key(0))
    first, later = (float(task.measure(x, spent, 0.5)) for spent in (0, 40))
    assert first == pytest.approx(float(jnp.linalg.norm(x)), rel=1e-5)
    assert abs(later - first) <= 20 and later != first
    for spent, distance in ((0, first), (40, later)):
        value = float(task.query(x, jax.random.key(1), spent, 0.5))
        assert value == pytest.approx(0.5 * distance**2, rel=1e-4)
    assert task.score(np.arange(101.0)) == 75.0  # the second half


def test_contenders():
    names = [(c.name, c.rule, c.history_size) for c in experiment.contenders(TINY)]
    assert ("zoar_1", None, 1) in names
    assert ("zoar", "adaptive", 2) in names
    assert len(names) == len(set(names))


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", TINY)
    monkeypatch.setattr(experiment, "DIMENSION", 10)
    few = experiment.contenders(TINY)[2:4]  # without reuse, and with
    assert [who.history_size for who in few] == [1, 2]
    monkeypatch.setattr(experiment, "contenders", lambda size: few)
    drift.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "drift.json").read_text())
    assert (tmp_path / "drift.png").stat().st_size > 10_000
    assert (tmp_path / "drift-map.png").stat().st_size > 10_000
    assert result["dimension"] == 10
    assert [row["rule"] for row in result["rows"]] == [None, "adaptive"]
    assert "history_size" not in result["setting"]
    table = drift.tables(result)["drift"]
    assert len(table.splitlines()) == 2 + len(result["rows"])
    assert table in capsys.readouterr().out
