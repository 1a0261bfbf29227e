"""Eight devices, each with its share; in one process, as devices are set when it starts."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
ON_BOTH = ["zo_sgd"]
"""On meshes of either kind; of the rest, meshes with explicit axes are the second setting."""
ON_AUTO = ["zovh", "hizoo", "scalar_newton"]
MANY = [
    *("zo_sgd-chunked", "zo_sgd-hadamard", "zoar", "mezo", "radazo", "zo_adamm", "zo_signsgd"),
    *("rspg", "spsa", "diagonal_newton", "low_rank_newton", "quasi_newton"),
]
DEFAULT = [(name, "Auto") for name in ON_BOTH + ON_AUTO] + [(name, "Explicit") for name in ON_BOTH]
SECOND = [(name, "Explicit") for name in ON_AUTO]
SECOND += [(name, kind) for name in MANY for kind in ("Auto", "Explicit")]


@functools.cache
def measured(shard_map, few, many):
    """What one process finds: it takes long to start, and compiles what all need once."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, str(HERE / "on_eight.py"), shard_map, " ".join(few), " ".join(many)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def by_default():
    return measured("shard_map", tuple(ON_AUTO), tuple(ON_BOTH))


def of_group(method, kind):
    """What was measured together with the method."""
    if (method, kind) in DEFAULT:
        return by_default()
    return measured("", (), tuple(ON_AUTO + MANY))


def result(entry):
    assert "error" not in entry, entry["error"]
    return entry["result"]


every_method = pytest.mark.parametrize(
    ("method", "kind"), [*DEFAULT, *(pytest.param(*x, marks=pytest.mark.slow) for x in SECOND)]
)


@every_method
def test_a_step_has_its_share_of_memory_and_operations(method, kind):
    found = of_group(method, kind)
    names = [name for name in found if name.startswith(f"cost {method} {kind} ")]
    assert len(names) == (2 if method == "zo_sgd" else 1)
    for name in names:
        memory, flops = result(found[name])
        assert memory < 1 / 4 and flops < 1 / 4, (name, memory, flops)


@every_method
def test_state_like_params_is_split_like_params(method, kind):
    shares = result(of_group(method, kind)[f"state {method} {kind}"])
    assert all(share <= 1 / 8 for share in shares.values()), shares


@pytest.mark.parametrize("what", ["query", "zo_sgd", "zovh"])
def test_inside_shard_map(what):
    """With JAX's default checks of what varies over devices."""
    result(by_default()[f"shard_map {what}"])


def test_split_arrays_draw_the_same_numbers():
    result(by_default()["numbers"])
