"""The fault campaign, with everything small."""

import argparse
import dataclasses
import json
import time

import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import faults
from benchmarks.faults import calls, experiment, messages, subjects
from benchmarks.faults.subjects import Subject, Tally

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = experiment.Size(("zoar",), 80, 40, 1, 2, 1)


def test_every_optimiser_is_there():
    assert len(subjects.MAKERS) == 20 and all(hasattr(zo, name) for name in subjects.MAKERS)
    assert experiment.FULL.optimizers == tuple(subjects.MAKERS)


def test_a_run_that_raises_or_hangs_is_lost():
    tally = Tally()
    assert tally.run(lambda wrong: 1 / 0) is None and tally.run(lambda wrong: 3) == 3
    assert (tally.runs, tally.lost, tally.wrong) == (2, 1, 0)
    assert "ZeroDivisionError" in tally.notes[0]
    with pytest.raises(TimeoutError, match="it hung"):
        subjects.within(0.01, lambda: time.sleep(0.5))


def test_what_a_run_finds_wrong_is_counted():
    tally = Tally()
    tally.run(lambda wrong: wrong.append("wrong: two"))
    assert (tally.runs, tally.lost, tally.wrong, tally.notes) == (1, 0, 1, ["wrong: two"])


def test_another_end_is_off():
    subject = Subject("zoar")
    tally, clean = Tally(), subject.clean(0, 40)
    tally.compare(subject.minimize(0, 40), clean)
    assert tally.off == 0
    tally.compare(subject.minimize(1, 40), clean)
    assert tally.off == 1


def test_at_most_one_worker_dies_in_a_round():
    for seed in range(20):
        plan = sorted(calls.one_a_round(np.random.default_rng(seed), 400, 8))
        assert len(plan) > 5 and min(np.diff(plan)) > 16


def test_rounds_that_overtake_are_counted(tmp_path):
    path = tmp_path / "journal"
    path.write_text("head\n" + "".join(f"00000000 [{i}, [0.5]]\n" for i in (1, 0, 2, 4, 5, 3)))
    assert messages.out_of_order(str(path)) == 3


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", TINY)
    # On a busy machine, or while garbage is collected, a good call may take longer than usual.
    patient = dataclasses.replace(calls.KINDS["time-out"], options={"timeout": 1.2})
    monkeypatch.setitem(calls.KINDS, "time-out", patient)
    monkeypatch.setattr(calls, "TIMEOUT", 1.2)
    faults.run(argparse.Namespace(full=False, out=tmp_path))
    result = json.loads((tmp_path / "faults.json").read_text())
    assert (tmp_path / "faults.png").stat().st_size > 10_000
    rows = {row["kind"]: row for row in result["rows"]}
    assert len(rows) == 13 and all(row["faults"] for row in rows.values())
    for row in rows.values():
        assert not (row["lost"] or row["wrong"] or row["off"]), row["notes"]
    missing = ["NaN", "infinite", "exception", "time-out", "rounds out of order"]
    assert [kind for kind, row in rows.items() if row["ratio"] is not None] == missing
    shown = faults.tables(result)
    assert len(shown["kinds"].splitlines()) == 2 + 12 + 2
    assert shown["kinds"] in capsys.readouterr().out
