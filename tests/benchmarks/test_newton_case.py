"""The newton case, with everything small: what it runs, writes and prints."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import newton
from benchmarks.newton import experiment

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = experiment.Size(
    gap_dimension=12,
    gap_budget=400,
    conditions=(1e1,),
    dimension=16,
    budget=60,
    starts=2,
    start_budget=40,
    functions=("quadratic",),
    peers=(),
)


def test_what_it_writes_and_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", TINY)
    monkeypatch.setattr(experiment, "NEWTONS", ("scalar_newton",))
    one = experiment.quadratics((1e1,), 12)
    monkeypatch.setattr(experiment, "quadratics", lambda *_: dict(list(one.items())[:1]))
    newton.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "newton.json").read_text())
    printed = capsys.readouterr().out
    for text in newton.tables(result).values():
        assert text in printed
    assert (tmp_path / "newton.png").stat().st_size > 10_000
    rows = result["gap"]["rows"]
    assert [row["method"] for row in rows] == ["scalar_newton"]
    assert rows[0]["learning_rate"] is None and 0 < rows[0]["score"]["median"] <= 400
    assert all(row["queries_spent"] <= 400 for row in rows)
    starts = result["starts"]["rows"]
    assert len(starts) == 4 and all(row["last"] < row["first"] for row in starts)


def test_score_is_the_queries_to_the_gap():
    task = experiment.reaching(lambda x: jnp.sum(x**2), TINY)
    values = np.geomspace(1, 1e-4, len(task.queries))
    reached = task.queries[np.argmax(values <= experiment.FRACTION)]
    assert task.score(values) == reached
    assert task.score(np.geomspace(1, 0.1, len(task.queries))) == pytest.approx(3 * TINY.gap_budget)


def test_spiked_quadratic_has_the_eigenvalues_it_says(x64):
    hessian = jax.hessian(experiment.spiked(30, jax.random.key(0)))(jnp.zeros(30))
    found = np.linalg.eigvalsh(hessian)
    np.testing.assert_allclose(found[:20], 1)
    np.testing.assert_allclose(found[20:], np.geomspace(1e2, 1e4, experiment.NUM_SPIKES))
