"""The examples run, their objectives get better, and they survive what they say they do."""

import gc
import importlib
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "RAY_AUTH_MODE": "disabled",  # else Ray writes a token into the home directory
}
pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture
def example(monkeypatch):
    """An example as a module: it finds the others beside it, as a script does."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    return importlib.import_module


def command(name, *options):
    return [sys.executable, str(EXAMPLES / name), *map(str, options)]


def output(name, *options):
    """What a process of its own prints."""
    done = subprocess.run(
        command(name, *options), capture_output=True, text=True, env=ENVIRONMENT, timeout=240
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return done.stdout


def test_the_readme_lists_them_all():
    text = (EXAMPLES / "README.md").read_text()
    assert not [path.name for path in EXAMPLES.glob("*.py") if f"]({path.name})" not in text]


def test_study(example):
    first, last = example("study").main(["--rounds", "25"])
    assert last < 0.4 * first


def test_bilevel(example):
    bilevel = example("bilevel")
    before, after, weights = bilevel.main([])
    assert after < 0.02 * before
    wrong = bilevel.WRONG[: len(weights)]
    assert np.mean(weights[wrong]) < 0.15 and np.mean(weights[~wrong]) > 0.8


def test_a_simulator_whose_workers_die_in_a_run_that_is_killed(example, tmp_path):
    journal = tmp_path / "journal"
    options = ("--workers", 2, "--crash", "--journal", journal)
    process = subprocess.Popen(
        command("simulator_pool.py", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=ENVIRONMENT,
    )
    try:
        end = time.monotonic() + 120
        # Two workers have died by then: eight values a line, and each makes 40.
        while process.poll() is None and time.monotonic() < end and _lines(journal) < 15:
            time.sleep(0.05)
    finally:
        process.kill()
    out, _ = process.communicate(timeout=60)  # does not come back while a worker is left
    told = journal.read_bytes()
    assert _lines(journal) >= 15, out[-5000:]
    result = example("simulator_pool").main([*map(str, options), "--queries", "200"])
    assert journal.read_bytes().startswith(told[: told.rindex(b"\n")])  # it went on
    start = example("cart_pole")
    assert result.best_value < 0.1 * start.cost(start.controller())
    assert result.num_queries == 200 and result.num_errors == 0


def _lines(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def test_a_program(example):
    command_line = example("command_line")
    result = command_line.main([])
    assert result.reason == "target" and result.num_errors > 0
    assert result.best_value < 1e-3 * command_line.run(command_line.START)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # urllib leaves sockets of failed requests
def test_a_service_that_fails(example, capsys):
    result = example("http_service").main(["--queries", "240"])
    gc.collect()
    assert result.num_queries == 240 and result.num_errors <= 8
    assert result.best_value < 1.0  # from 71
    assert "failed after all" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dask", "ray"])
def test_clusters(name):
    if name == "ray":  # in no extra that the tests install
        pytest.importorskip(name)
    out = output(f"{name}_cluster.py", "--queries", 160)
    assert "160 queries, 0 failed" in out and _best(out) < 0.1


def _best(out):
    return float(out.split(" at best")[0].split()[-1])


def test_nnx_on_devices():
    out = output("nnx_devices.py", "--steps", 100)
    assert "8 devices, 3200 queries" in out
    before, after = (float(word.strip("%")) for word in out.split() if word.endswith("%"))
    assert before < 60 and after > 90


def test_the_simulator_is_what_it_says(example):
    cart_pole = example("cart_pole")
    params = cart_pole.controller()
    assert 0.3 < cart_pole.cost(params) < 1  # nobody pushes, and poles fall
    assert np.all(cart_pole.force(params, np.ones((3, 4))) == 0)
