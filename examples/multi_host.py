"""Trains a small network by its values alone, on all devices of one machine or of many.

- On one machine: ``python examples/multi_host.py``.
- On a TPU pod, or under SLURM, Kubernetes or MPI: the same command on every machine.
- On machines of your own: ``--coordinator HOST:PORT --num-processes N --process-id I``, with the
  address of machine 0 and with I from 0 to N − 1.

Each process reads its own part of the data, and each of its devices asks its share of the queries.
In a step losses are all that travels. A run goes on from its last checkpoint, on any number of
machines.
"""

import argparse
import functools
import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import zovh_jax as zo

ROWS, INPUTS, HIDDEN, QUERIES = 960, 8, 8, 16


def connect(coordinator, num_processes, process_id):
    """Joins the other processes: those of the arguments, or those that JAX finds; else none."""
    named = (coordinator, num_processes, process_id)
    try:
        jax.distributed.initialize(*named)
    except ValueError as error:  # it is also what JAX says where there is no cluster
        if any(x is not None for x in named) or "coordinator_address" not in str(error):
            raise


def read(mesh):
    """All inputs and targets; each process makes its own rows alone, as it would read them."""
    each = ROWS // jax.process_count()
    numbers = np.arange(each) + each * jax.process_index()
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(numbers)
    inputs = jax.vmap(lambda key: jax.random.normal(key, (INPUTS,)))(keys)
    targets = jnp.sin(inputs @ jnp.linspace(-0.5, 0.5, INPUTS))
    rows = NamedSharding(mesh, PartitionSpec("data"))
    return jax.make_array_from_process_local_data(rows, (np.asarray(inputs), np.asarray(targets)))


def network():
    """The parameters at the start."""
    first, second = jax.random.split(jax.random.key(1))
    w = jax.random.normal(first, (INPUTS, HIDDEN)) / INPUTS**0.5
    v = jax.random.normal(second, (HIDDEN,)) / HIDDEN**0.5
    return {"w": w, "b": jnp.zeros(HIDDEN), "v": v}


def loss(params, batch):
    """The mean square of the errors."""
    inputs, targets = batch
    return jnp.mean((jnp.tanh(inputs @ params["w"] + params["b"]) @ params["v"] - targets) ** 2)


def save(path, run):
    """Writes a run as plain arrays: process 0 writes, but all have to pack."""
    arrays = zo.pack(run)
    if jax.process_index() == 0:
        part = path.with_suffix(".part.npz")
        np.savez(part, **arrays)
        os.replace(part, path)  # so that there is never half a checkpoint


def resume(path, run):
    """The run that was saved, if there is one: process 0 reads it and sends it to the others."""
    arrays = zo.pack(run)
    if jax.process_index() == 0 and path.exists():
        arrays = dict(np.load(path))
    return zo.unpack(run, multihost_utils.broadcast_one_to_all(arrays))


def say(text):
    """Prints, once for all processes."""
    if jax.process_index() == 0:
        print(text, flush=True)


def train(path, steps, every):
    """Goes on from the checkpoint until ``steps`` are taken; returns the parameters."""
    devices = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.reshape(devices, (jax.process_count(), -1)), ("data", "queries"))
    whole = NamedSharding(mesh, PartitionSpec())  # on every device
    say(f"{jax.process_count()} processes, {jax.device_count()} devices")
    optimizer = zo.zoar(
        0.1,
        num_directions=QUERIES,
        radius=0.02,
        key=jax.random.key(2),
        directions=zo.directions.hadamard(),
        evaluate=zo.evaluators.sharded(mesh, "queries"),
    )

    @functools.partial(jax.jit, donate_argnums=0, out_shardings=whole)
    def step(run, batch):  # the batch is an argument: JAX closes over no array of several processes
        params, state = run
        updates, state = optimizer.update(None, state, params, value_fn=loss, batch=batch)
        return optax.apply_updates(params, updates), state

    start = jax.jit(lambda x: (x, optimizer.init(x)), out_shardings=whole)
    batch, run = read(mesh), resume(path, start(network()))
    for taken in range(int(zo.num_queries(run[1])) // QUERIES + 1, steps + 1):
        run = jax.block_until_ready(step(run, batch))  # for CPUs, whose devices share threads
        if taken % every == 0 or taken == steps:
            save(path, run)
            say(f"step {taken}: loss {zo.diagnostics(run[1]).value:.6f}")
    return run[0]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coordinator", help="HOST:PORT of process 0")
    parser.add_argument("--num-processes", type=int)
    parser.add_argument("--process-id", type=int)
    parser.add_argument("--checkpoint", type=pathlib.Path, default="multi_host.npz")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--every", type=int, default=100, help="steps from one save to the next")
    options = parser.parse_args()
    connect(options.coordinator, options.num_processes, options.process_id)
    train(options.checkpoint, options.steps, options.every)
