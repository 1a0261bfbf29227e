"""Two processes of several devices each find what one process of one device finds."""

import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from in_two import LAYOUTS, split_run, steps

import zovh_jax as zo
from examples import multi_host

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
pytestmark = pytest.mark.usefixtures("fast_compilation")


def in_two(folder, devices, script, *arguments, seconds=240):
    """What a script prints in two processes; both end with this function, whatever happens."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={devices}"
    settings = {
        "XLA_FLAGS": flags,
        "JAX_PLATFORMS": "cpu",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    logs = [folder / f"{number}.log" for number in range(2)]
    processes = []
    try:
        for number, log in enumerate(logs):
            place = ["--coordinator", f"localhost:{port}", "--num-processes", "2"]
            place += ["--process-id", str(number)]
            command = [sys.executable, str(script), *place, *map(str, arguments)]
            with log.open("w") as out:
                env = {**os.environ, **settings}
                processes += [subprocess.Popen(command, env=env, stdout=out, stderr=out)]
        end = time.monotonic() + seconds
        # If one fails, the other would wait for it.
        while {process.poll() for process in processes} in ({None}, {None, 0}):
            if time.monotonic() > end:
                break
            time.sleep(0.05)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    told = [log.read_text()[-5000:] for log in logs]
    assert [process.returncode for process in processes] == [0, 0], "\n\n".join(told)
    return told


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What two processes of four devices found."""
    folder = tmp_path_factory.mktemp("two")
    in_two(folder, 4, HERE / "in_two.py", "--out", folder)
    return folder


@pytest.fixture(scope="module")
def alone(fast_compilation):
    return steps(*LAYOUTS["1"])


@pytest.mark.parametrize("name", list(LAYOUTS)[1:])
def test_steps_are_those_of_one_device(name, folder, alone):
    """Bit by bit, unless the loss is a sum over processes: it is added up in another order."""
    for process in range(2):
        found = dict(np.load(folder / f"{name}-{process}.npz"))
        assert found.keys() == alone.keys()
        for path, x in found.items():
            if name == "data" and x.dtype == np.float32:
                np.testing.assert_allclose(x, alone[path], rtol=1e-6, atol=1e-6, err_msg=path)
            else:
                np.testing.assert_array_equal(x, alone[path], err_msg=path)


def test_example_goes_on_in_other_processes(tmp_path, monkeypatch, capsys):
    """From one process to two, of two devices each, and back; against a run that stays in one."""
    saves, save = [], multi_host.save

    def keep(path, run):
        save(path, run)
        saves.append(shutil.copy(path, tmp_path / f"{len(saves)}.npz"))

    monkeypatch.setattr(multi_host, "save", keep)
    want = multi_host.train(tmp_path / "one.npz", 6, 2)
    assert capsys.readouterr().out.count("step") == 3
    moved = saves[0]
    told = in_two(
        *(tmp_path, 2, ROOT / "examples" / "multi_host.py"),
        *("--checkpoint", moved, "--steps", 4, "--every", 1),
    )
    assert "2 processes, 4 devices" in told[0]
    assert "step 2" not in told[0] and "step 3" in told[0] and "step 4" in told[0]
    assert "step" not in told[1] and "devices" not in told[1]
    got = multi_host.train(moved, 6, 2)
    assert "step 4" not in (out := capsys.readouterr().out) and "step 6" in out
    start = multi_host.network()
    for x, y, z in zip(*map(jax.tree.leaves, (got, want, start)), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)
        assert np.max(np.abs(y - z)) > 1e-2


@pytest.mark.slow
def test_params_split_over_processes_are_saved(tmp_path):
    """By orbax in parts, or gathered; one process of one device reads both."""
    ocp = pytest.importorskip("orbax.checkpoint")
    in_two(tmp_path, 4, HERE / "in_two.py", "--out", tmp_path, "--split")
    want = zo.pack(split_run())
    with ocp.StandardCheckpointer() as checkpointer:
        parts = checkpointer.restore(tmp_path / "orbax", want)
    for found in (parts, dict(np.load(tmp_path / "gathered.npz"))):
        assert found.keys() == want.keys()
        for path, x in want.items():
            np.testing.assert_allclose(found[path], x, rtol=1e-6, atol=1e-6, err_msg=path)


def test_what_fails_in_one_process_ends_both(tmp_path):
    script = tmp_path / "fails.py"
    script.write_text("import sys, time\ntime.sleep(60) if sys.argv[6] == '0' else sys.exit('no')")
    start = time.monotonic()
    with pytest.raises(AssertionError, match="no"):
        in_two(tmp_path, 1, script)
    assert time.monotonic() - start < 30
