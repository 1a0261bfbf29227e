"""The noise case, with everything small."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import noise
from benchmarks.noise import experiment

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = experiment.Size(10, 60, ("rosenbrock",), (0.0, 0.1), ("zoar_1",))


def test_what_is_noisy_and_what_is_not():
    task = experiment.task_of(zo.problems.quadratic(), "additive", TINY)
    x, key = jnp.ones(10), jax.random.key(0)
    values = np.asarray([task.query(x, jax.random.fold_in(key, i), 0, 2.0) for i in range(200)])
    assert values.mean() == pytest.approx(5.0, abs=5 * 2 / 200**0.5)
    assert values.std() == pytest.approx(2.0, rel=0.25)
    assert float(task.measure(x, 0, 2.0)) == 5.0
    # The regret is the mean over the last fifth.
    assert task.score(np.arange(50.0)) == 44.5


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", TINY)
    noise.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "noise.json").read_text())
    assert (tmp_path / "noise.png").stat().st_size > 10_000
    assert [(row["kind"], row["level"]) for row in result["rows"]] == [
        ("none", 0.0), ("additive", 0.1), ("multiplicative", 0.1), ("discontinuous", 0.1)
    ]  # fmt: skip
    assert all(row["queries_spent"] <= 60 for row in result["rows"])
    assert not set(result["tuning_seeds"]) & set(result["seeds"])
    table = noise.tables(result)["rosenbrock"]
    assert len(table.splitlines()) == 2 + 4
    assert table in capsys.readouterr().out
