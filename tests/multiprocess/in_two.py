"""What several processes find; run in two by test_multiprocess.py, which compares it with one."""

import argparse
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import zovh_jax as zo

LAYOUTS = {"1": (1, 1), "2": (1, 2), "8": (1, 8), "data": (2, 2)}
"""Into how many parts the data is split, and over how many devices a round's queries are."""
X = {"a": np.linspace(-1, 1, 32, dtype=np.float32).reshape(8, 4), "b": np.ones(4, np.float32)}
ROWS = np.sin(np.arange(256, dtype=np.float32)).reshape(32, 8)
chunked = zo.evaluators.chunked(1)


def loss(x, batch):
    return jnp.mean(jnp.tanh(batch @ x["a"] + x["b"]) ** 2)


def mesh_of(parts, size):
    """Of devices of all processes."""
    count, devices = jax.process_count(), jax.devices()
    each = [[d for d in devices if d.process_index == process] for process in range(count)]
    chosen = [device for own in each for device in own[: parts * size // count]]
    return Mesh(np.reshape(chosen, (parts, size)), ("data", "queries"))


def optimiser(evaluate):
    """Whose history holds as many keys as a parameter has numbers."""
    options = {"num_directions": 8, "radius": 0.1, "key": jax.random.key(0)}
    options |= {"directions": zo.directions.hadamard(), "evaluate": evaluate}
    return zo.zoar(0.1, **options, history_size=4)


def steps(parts, size):
    """Parameters and state after two steps."""
    mesh = mesh_of(parts, size)
    optimizer = optimiser(zo.evaluators.sharded(mesh, "queries", chunked))
    split = parts > 1 and jax.process_count() > 1
    own = np.split(ROWS, parts)[jax.process_index()] if split else ROWS
    rows = NamedSharding(mesh, P("data"))
    batch = jax.make_array_from_process_local_data(rows, own, ROWS.shape)

    @jax.jit
    def step(run, batch):
        params, state = run
        updates, state = optimizer.update(None, state, params, value_fn=loss, batch=batch)
        return optax.apply_updates(params, updates), state

    start = jax.jit(lambda x: (x, optimizer.init(x)), out_shardings=NamedSharding(mesh, P()))
    run = start(X)
    # Through the host and back: keys and all else go where they were.
    run = zo.unpack(run, jax.tree.map(np.asarray, zo.pack(run)))
    for _ in range(2):
        run = step(run, batch)
    return jax.tree.map(np.asarray, zo.pack(run))


def bounds_split_over_processes():
    """They are compared outside jit, where no process sees all of them."""
    mesh = mesh_of(1, jax.device_count())
    low = jax.device_put(X["a"] - 1, NamedSharding(mesh, P("queries")))
    zo.bounded(optimiser(chunked), low, low + 2).init(low + 1)


def split_run():
    """Parameters that are split over all devices, and their state, after a step."""
    mesh = mesh_of(1, jax.device_count())
    put = {"a": NamedSharding(mesh, P("queries")), "b": NamedSharding(mesh, P())}
    x, optimizer = jax.device_put(X, put), optimiser(zo.evaluators.vmapped())

    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(None, state, x, value_fn=lambda x: loss(x, ROWS))
        return optax.apply_updates(x, updates), state

    return step(x, jax.jit(optimizer.init)(x))


def save_split_run(folder):
    """By orbax, to which each process gives its parts, and gathered from all of them."""
    import orbax.checkpoint as ocp

    arrays = zo.pack(split_run())
    assert not all(x.is_fully_replicated for x in arrays.values())
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "orbax", arrays)
    arrays = multihost_utils.process_allgather(arrays, tiled=True)
    if jax.process_index() == 0:
        np.savez(folder / "gathered.npz", **arrays)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--coordinator")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--split", action="store_true")
    options = parser.parse_args()
    jax.distributed.initialize(options.coordinator, options.num_processes, options.process_id)
    assert jax.device_count() == 8
    if options.split:
        save_split_run(options.out)
        sys.exit()
    bounds_split_over_processes()
    for name in list(LAYOUTS)[1:]:
        np.savez(options.out / f"{name}-{options.process_id}.npz", **steps(*LAYOUTS[name]))
