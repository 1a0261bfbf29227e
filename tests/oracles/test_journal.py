"""The journal: whole lines or none."""

import math
import os
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

import zovh_jax as zo
from zovh_jax.oracles.ask_tell import program_of
from zovh_jax.oracles.journal import Journal, identity

RUN = {"jax": "1", "optimizer": "a", "key and state": "b", "start": "c"}
ROUNDS = [(0, [1.5, 1 / 3, math.nan]), (3, [math.inf, -math.inf, 5e-324])]


def written(path, rounds=ROUNDS):
    journal = Journal(path, RUN)
    for each in rounds:
        journal.append(*each)
    journal.close()
    return path.read_bytes()


def entries(path, run=RUN):
    journal = Journal(path, run)
    journal.close()
    return journal.entries


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "journal"
    written(path)
    assert str(entries(path)) == str(ROUNDS)


def test_a_torn_file_loses_its_last_line_only(tmp_path):
    """Cut at any byte it is read up to the last whole line, and goes on from there."""
    path = tmp_path / "journal"
    whole = written(path)
    head, first = (whole.splitlines(keepends=True)[0], whole.splitlines(keepends=True)[1])
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        num_whole = (end >= len(head)) + (end >= len(head) + len(first)) - 1
        journal = Journal(path, RUN)
        assert len(journal.entries) == max(num_whole, 0)
        for each in ROUNDS[max(num_whole, 0) :]:
            journal.append(*each)
        journal.close()
        assert path.read_bytes() == whole


def test_damage_before_the_end_raises(tmp_path):
    path = tmp_path / "journal"
    whole = written(path)
    for place in (3, len(whole) // 2):
        path.write_bytes(whole[:place] + b"e" + whole[place + 1 :])
        with pytest.raises(ValueError, match=r"damaged in line \d"):
            entries(path)


def test_another_run_is_refused(tmp_path):
    path = tmp_path / "journal"
    written(path)
    for name in ("optimizer", "key and state", "start"):
        with pytest.raises(ValueError, match=f"it differs in {name}"):
            entries(path, RUN | {name: "other"})
    with pytest.raises(ValueError, match="optimizer and start"):
        entries(path, RUN | {"optimizer": "other", "start": "other"})
    # Another version of JAX may write the same program in another way.
    assert len(entries(path, RUN | {"jax": "2", "optimizer": "other"})) == 2


@pytest.mark.parametrize(
    "text", ["some notes\nthat matter\n", '{"rate": 0.1}\n', "0.25", "00000000 {}", "12345678 9\n"]
)
def test_a_file_that_is_no_journal_is_left_alone(tmp_path, text):
    """One of a single line too, which is no journal's first line that was torn."""
    path = tmp_path / "notes.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match="is no journal of zovh_jax, and is left as it is"):
        entries(path)
    assert path.read_text() == text


def test_a_journal_in_use_is_refused(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "journal"
    first = Journal(path, RUN)
    with pytest.raises(ValueError, match="in use by another run"):
        Journal(path, RUN)
    first.close()
    assert entries(path) == []


SCRIPT = """
import os, signal, sys, time
from zovh_jax.oracles.journal import Journal
journal = Journal(sys.argv[1], {})
journal.append(0, [1.0])
worker = os.fork()
if worker == 0:
    print(os.getpid(), flush=True)
    time.sleep(600)
signal.pause()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="it is about forked processes")
def test_workers_that_outlive_a_killed_run_do_not_keep_its_journal(tmp_path):
    """As those of a pool of forked processes do."""
    path = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    worker = int(process.stdout.readline())
    try:
        with pytest.raises(ValueError, match="in use by another run"):
            entries(path, {})
        process.kill()
        process.wait()
        assert entries(path, {}) == [(0, [1.0])]
    finally:
        os.kill(worker, signal.SIGKILL)
        process.stdout.close()


def test_identity_sees_arrays_that_a_program_closes_over():
    def of(upper):
        x = jnp.zeros(3)
        inner = zo.zo_sgd(0.1, num_directions=2, radius=0.1, key=jax.random.key(0))
        optimizer = zo.bounded(inner, None, jnp.full(3, upper))
        state = optimizer.init(x)
        return identity(program_of(optimizer, state, x), state, x)["optimizer"]

    assert of(2.0) == of(2.0) != of(0.3)


def test_identity_sees_settings_keys_and_starts():
    def of(rate=0.1, seed=0, start=0.0, radius=0.1):
        x = jnp.full(3, start)
        optimizer = zo.zo_sgd(rate, num_directions=2, radius=radius, key=jax.random.key(seed))
        state = optimizer.init(x)
        return identity(program_of(optimizer, state, x), state, x)

    base = of()
    assert of() == base
    for other, name in (
        (of(rate=0.2), "optimizer"),
        (of(radius=0.2), "optimizer"),
        (of(seed=1), "key and state"),
        (of(start=1.0), "start"),
    ):
        assert [key for key in base if other[key] != base[key]] == [name]
