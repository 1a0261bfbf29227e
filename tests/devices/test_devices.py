"""Eight devices, each with its share; in one process, as devices are set when it starts."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
FEW = ["zo_sgd", "zovh", "hizoo", "radazo", "scalar_newton"]
MANY = [
    *("zo_sgd-chunked", "zo_sgd-hadamard", "zoar", "mezo", "zo_adamm", "zo_signsgd", "rspg"),
    *("spsa", "diagonal_newton", "low_rank_newton"),
]
# One worker runs the process for all.
pytestmark = pytest.mark.xdist_group("devices")
METHODS = [*FEW, *(pytest.param(name, marks=pytest.mark.slow) for name in MANY)]


@functools.cache
def measured(kind, names):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, str(HERE / "on_eight.py"), kind, *names]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def of_group(kind, name):
    """What was measured together with the method that a result's name has in it."""
    many = any(method in name.split() for method in MANY)
    return measured(kind, tuple(MANY if many else FEW))


def result(kind, name):
    entry = of_group(kind, name)[name]
    assert "error" not in entry, entry["error"]
    return entry["result"]


every_kind = pytest.mark.parametrize("kind", ["Auto", "Explicit"])


@every_kind
@pytest.mark.parametrize("method", METHODS)
def test_a_step_has_its_share_of_memory_and_operations(method, kind):
    names = [name for name in of_group(kind, method) if name.startswith(f"cost {method} ")]
    assert len(names) == (2 if method == "zo_sgd" else 1)
    for name in names:
        memory, flops = result(kind, name)
        assert memory < 1 / 4 and flops < 1 / 4, (name, memory, flops)


@every_kind
@pytest.mark.parametrize("method", METHODS)
def test_state_like_params_is_split_like_params(method, kind):
    shares = result(kind, f"state {method}")
    assert all(share <= 1 / 8 for share in shares.values()), shares


@pytest.mark.parametrize("what", ["query", "zo_sgd", "zovh"])
def test_inside_shard_map(what):
    """With JAX's default checks of what varies over devices."""
    result("Auto", f"shard_map {what}")


def test_split_arrays_draw_the_same_numbers():
    result("Auto", "numbers")
