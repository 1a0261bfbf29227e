"""Runs that die: by kill -9 at a random instant, or while a line of the journal is written."""

import json
import os
import time
from typing import Any

import jax
import numpy as np

import zovh_jax as zo
from benchmarks.faults.calls import PROCESSES
from benchmarks.faults.subjects import MAKERS, Subject, Tally, read, start, write
from benchmarks.faults.workers import value
from zovh_jax.oracles.journal import Journal

SEED = 0
"""Of all runs here."""
LONGEST = 300
"""Seconds until a run that does not begin counts as hung."""


def journal_of(subject: Subject, budget: int, folder: str) -> bytes:
    """That of the clean run."""
    path = os.path.join(folder, "clean")
    if not read(path):
        subject.minimize(SEED, budget, journal=path)
    return read(path)


def resumed(tally: Tally, subject: Subject, budget: int, path: str, whole: bytes) -> None:
    """Goes on from what a death left, and compares the end with the clean run's."""
    left = read(path).split(b"\n")[1:-1]
    told = sum(len(json.loads(line[9:])[1]) for line in left)
    calls: list[Any] = []

    def counted(x):
        calls.append(x)
        return value(x)

    def body(wrong):
        result = subject.minimize(SEED, budget, counted, journal=path)
        if len(calls) != result.num_queries - told:
            wrong.append(f"wrong: {len(calls)} calls after {told} of {result.num_queries} values")
        if read(path) != whole:
            wrong.append("wrong: the journal is not the clean run's")
        return result

    tally.compare(tally.run(body), subject.clean(SEED, budget))


def torn(subject: Subject, budget: int, folder: str, num_cuts: int) -> Tally:
    """Journals that were cut at a random byte, and the run taken up from there."""
    whole, tally = journal_of(subject, budget, folder), Tally()
    rng = np.random.default_rng([1, *subject.name.encode()])
    path = os.path.join(folder, "torn")
    for end in rng.integers(1, len(whole), num_cuts):
        write(path, whole[:end])
        tally.faults += 1
        resumed(tally, subject, budget, path, whole)
    return tally


def read_at_every_byte(subject: Subject, budget: int, folder: str) -> Tally:
    """A journal that was cut at every byte of it, read only."""
    whole, tally = journal_of(subject, budget, folder), Tally()
    path = os.path.join(folder, "cut")
    run = json.loads(whole.split(b"\n")[0][9:])
    del run["zovh_jax journal"]
    entries = [json.loads(line[9:]) for line in whole.split(b"\n")[1:-1]]

    def body(wrong):
        for end in range(len(whole)):
            write(path, whole[:end])
            tally.faults += 1
            journal = Journal(path, run)
            journal.close()
            want = max(whole[:end].count(b"\n") - 1, 0)
            if [list(entry) for entry in journal.entries] != entries[:want]:
                wrong.append(f"wrong: {len(journal.entries)} lines, not {want}, at byte {end}")

    tally.run(body)
    return tally


def killed(subject: Subject, budget: int, folder: str, num_kills: int) -> Tally:
    """Processes that were killed at a random instant of their run, which is then taken up."""
    whole, tally = journal_of(subject, budget, folder), Tally()
    rng = np.random.default_rng([2, *subject.name.encode()])
    while tally.faults < num_kills:
        path = os.path.join(folder, f"killed-{tally.runs}")
        args = subject.name, budget, path, os.path.join(folder, "compiled")
        process = PROCESSES.Process(target=victim, args=args, daemon=True)
        process.start()
        kill(process, path, int(rng.integers(len(whole) - 1)), rng.uniform(0, 0.005))
        if process.exitcode == 0:
            os.unlink(path)  # it was faster: another one
            continue
        tally.faults += 1
        resumed(tally, subject, budget, path, whole)
    return tally


def kill(process: Any, path: str, size: int, delay: float) -> None:
    """Kills a process some time after its journal has outgrown a size."""
    end = time.monotonic() + LONGEST
    while process.is_alive() and time.monotonic() < end:
        if os.path.exists(path) and os.path.getsize(path) > size:
            break
        time.sleep(1e-4)
    time.sleep(delay)
    process.kill()
    process.join()


def victim(name: str, budget: int, path: str, cache: str) -> None:
    """The run of a process that is killed. What is compiled is kept for the next one."""
    compile_fast(True)
    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    zo.minimize(value, start(SEED), MAKERS[name](), max_queries=budget, journal=path)


def compile_fast(yes: bool) -> None:
    """Compiles fast, not well: the programs are tiny."""
    jax.config.update("jax_disable_most_optimizations", yes)
