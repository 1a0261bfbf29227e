"""The speed case, with everything small: what it times, and what it writes."""

import argparse
import json

import jax
import numpy as np
import pytest

from benchmarks import speed


def test_turns_run_every_step():
    times = speed.take_turns(
        {"add": (lambda c: c + 1, np.float32(0)), "keep": (lambda c: c, 0.0)}, 5, 3
    )
    assert set(times) == {"add", "keep"}
    assert all(t > 0 for t in times.values())
    assert float(speed.in_a_loop(lambda c: c + 1, 7)(np.float32(0))) == 7


def test_a_drawing_step_draws_a_new_round():
    step, carry = speed.draw_step(speed.GENERATORS["fast"])
    first = step(carry)
    second = step(first)
    assert second[0] == 2
    assert abs(np.corrcoef(np.ravel(first[1]), np.ravel(second[1]))[0, 1]) < 0.03


def test_ks_distance_tells_normal_from_uniform():
    normal = np.asarray(jax.random.normal(jax.random.key(0), 20_000))
    assert speed.ks_distance(normal) < 0.02
    assert speed.ks_distance(np.linspace(-1, 1, 20_000)) > 0.1


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "DIMENSION", 50)
    monkeypatch.setattr(speed, "FUNCTIONS", {"quadratic": speed.FUNCTIONS["quadratic"]})
    monkeypatch.setattr(speed, "METHODS", speed.METHODS[:4])
    monkeypatch.setattr(speed, "memory", lambda generators: [])  # compiled in tests/test_memory.py
    speed.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "speed.json").read_text())
    assert (tmp_path / "speed.png").stat().st_size > 10_000
    assert {"environment", "settings", "generators", "pieces", "steps", "memory"} == set(result)
    (pieces,) = result["pieces"]
    floor = pieces["random"] + pieces["objective"]
    assert len(result["steps"]) == 4
    for row in result["steps"]:
        assert row["over_floor"] == pytest.approx(row["microseconds"] / floor)
    assert "step/floor" in capsys.readouterr().out
