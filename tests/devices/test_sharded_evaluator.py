"""Queries spread over eight devices, in a process of its own, and what is refused."""

import functools
import json
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from sharded_on_eight import whole_on_the_mesh

import zovh_jax as zo

HERE = pathlib.Path(__file__).parent
VERSION = tuple(int(part) for part in jax.__version__.split(".")[:2])


@functools.cache
def process(*what):
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    path = os.pathsep.join([str(HERE.parents[1]), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": path}
    command = [sys.executable, str(HERE / "sharded_on_eight.py"), *what]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=900)


def measured(*what):
    done = process(*what)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def result(name, *what):
    entry = measured(*what)[name]
    assert "error" not in entry, entry["error"]
    return entry["result"]


few_and_all = pytest.mark.parametrize(
    "what", [(), pytest.param(("all",), marks=pytest.mark.slow)], ids=["few", "all"]
)


@few_and_all
def test_values_are_those_of_the_inner_evaluator(what):
    """For fewer queries than devices and for more, for f(θ) too."""
    found = result("values_of_families", *what)
    assert len(found) == (10 if what else 8)
    assert all(error < 1e-6 for error in found.values()), found


def test_blocks_of_one_give_the_same_bits():
    assert result("bitwise") == 0
    assert result("outside_jit") == 0


@few_and_all
def test_steps_and_resuming_on_more_devices(what):
    found = result("steps", *what)
    start = {name: error for name, error in found.items() if "start" in name}
    assert len(found) == (15 if what else 9) and all(moved > 1e-3 for moved in start.values()), (
        found
    )
    assert all(found[name] < 1e-6 for name in found.keys() - start.keys()), found


def test_each_device_computes_its_own():
    """Besides the estimate, which each of them makes; f(θ) is one row more, not one a device."""
    found = result("costs")
    assert found["sharded"] <= 1.1 / 8 * found["alone"] + found["reduction"], found
    assert found["with origin"] <= found["sharded"], found


def test_devices_exchange_values_alone():
    assert 0 < result("costs")["bytes"] <= 8 * 16


def test_sums_of_the_devices_sums():
    """Each draws its own alone, and d numbers travel; the others are replayed by all."""
    found = result("added_up")
    assert all(error < 1e-5 for error in found["errors"].values()), found
    assert found["moved"] > 1e-3
    found, replayed = result("costs_added_up"), result("costs")
    assert found["flops"] <= 1.2 / 8 * (replayed["alone"] + replayed["reduction"]), found
    assert 4 * found["numbers"] <= found["bytes"] <= 4 * found["numbers"] + 8 * 16, found


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_params_split_over_another_axis(kind):
    found = result(f"split {kind}")
    assert found["same layout"] and found["error"] < 1e-6 and found["moved"] > 1e-2, found
    if kind == "Auto" or VERSION >= (0, 12):  # before, JAX gathers what is split by its type
        assert found["bytes"] <= 8 * 16, found


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
def test_params_whole_on_the_mesh(kind):
    """On eight devices and on one, where types are the same."""
    result(f"whole {kind}")
    whole_on_the_mesh(1, kind)


@pytest.mark.usefixtures("fast_compilation")
def test_factored_directions_where_all_is_on_the_mesh():
    """The objective's program names the mesh of params and data, which the map must not meet."""
    mesh = jax.make_mesh((1,), ("q",), axis_types=(AxisType.Auto,))
    place = functools.partial(jax.device_put, device=NamedSharding(mesh, PartitionSpec()))
    weight, data, labels = place((jnp.eye(4, 3), jnp.arange(12.0).reshape(4, 3), jnp.arange(4)))

    def ask(evaluate):
        def loss(weight, data, labels):
            outputs = jax.nn.log_softmax(data @ weight.T)
            filled = jax.lax.scan(lambda c, r: (c + jnp.full_like(r, 2.0), ()), data[0], data)[0]
            which = jax.nn.one_hot(labels, 4) * jnp.full_like(outputs, 0.1)
            seen = data[jnp.arange(2)]
            rest = jax.lax.cond(data[0, 0] > 3, jnp.ones_like, jnp.negative, seen)
            return jnp.sum(which * outputs) + jnp.sum(filled) + jnp.sum(rest)

        def values(weight, data, labels):
            options = {"num_directions": 3, "radius": 0.1, "evaluate": evaluate}
            options["directions"] = zo.directions.low_rank()
            f = lambda weight: loss(weight, data, labels)  # noqa: E731
            return zo.query(f, weight, jax.random.key(0), **options).values

        return jax.jit(values)(weight, data, labels)

    alone = ask(zo.evaluators.vmapped())
    np.testing.assert_allclose(ask(sharded(mesh, "q")), alone, rtol=1e-6)
    assert np.std(alone) > 1e-3


def test_inside_shard_map():
    assert result("in_shard_map") < 1e-6


def test_order_over_two_axes_in_a_loop():
    found = result("order")
    assert found == {"values": [[*range(11)]] * 2, "origins": [0, 0], "traces": 1}


MESH = jax.make_mesh((1,), ("q",))
sharded = zo.evaluators.sharded
REFUSED = {
    "mesh": (TypeError, "jax.make_mesh", lambda: sharded("q", "q")),
    "axis must be": (ValueError, r"\('q',\).*'r'", lambda: sharded(MESH, "r")),
    "axis": (ValueError, "different names", lambda: sharded(MESH, ("q", "q"))),
    "axis.*tuple": (ValueError, r"got \(\)", lambda: sharded(MESH, ())),
    "axis.*names": (ValueError, "got 0", lambda: sharded(MESH, 0)),
    "inner": (TypeError, "call it", lambda: sharded(MESH, "q", zo.evaluators.vmapped)),
    "reduce": (ValueError, '"psum"', lambda: sharded(MESH, "q", reduce="sum")),
    "inner must be": (ValueError, "several axes", lambda: sharded(MESH, "q", sharded(MESH, "q"))),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name):
    kind, words, call = REFUSED[name]
    with pytest.raises(kind, match=f"(?s){name}.*{words}"):
        call()


def test_a_name_and_a_tuple_are_the_same():
    assert (
        sharded(MESH, "q") == sharded(MESH, ("q",)) != sharded(MESH, "q", zo.evaluators.chunked(2))
    )


def test_blocks_do_not_depend_on_devices():
    """They are kept in states."""
    queries = zo.query(
        jnp.sum,
        jnp.ones(2),
        jax.random.key(0),
        num_directions=6,
        radius=0.1,
        evaluate=sharded(MESH, "q", zo.evaluators.chunked(3)),
    )
    assert queries.plan.block_size == 3
