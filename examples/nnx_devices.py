"""Trains a flax nnx model by its values alone, with a round's queries spread over all devices.

    python examples/nnx_devices.py

Where there are no accelerators, JAX takes the CPU for eight devices. Only losses travel between
devices: each makes the step from all of them for itself.
"""

import os

if "device_count" not in os.environ.get("XLA_FLAGS", ""):  # JAX reads it when it starts
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_force_host_platform_device_count=8".strip()

import argparse
import functools

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import zovh_jax as zo


class Network(nnx.Module):
    """Two layers, with dropout between them."""

    def __init__(self, rngs):
        self.first = nnx.Linear(2, 32, rngs=rngs)
        self.dropout = nnx.Dropout(0.05)
        self.last = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, x, rngs=None):
        return self.last(self.dropout(nnx.tanh(self.first(x)), rngs=rngs))[:, 0]


def main(argv=None):
    """Trains, and returns how many points are on the right side before and after."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=400)
    options = parser.parse_args(argv)

    mesh = Mesh(jax.devices(), "queries")
    whole = NamedSharding(mesh, PartitionSpec())  # on every device
    points = jax.random.normal(jax.random.key(0), (512, 2))
    inside = jnp.linalg.norm(points, axis=1) < 1.2  # no line divides them
    points, inside = jax.device_put((points, inside), whole)

    model = Network(nnx.Rngs(1))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = jax.device_put(params, whole)

    def loss(params, key):  # a new key each round: the same dropout for all of its queries
        logits = nnx.merge(graph, params, rest)(points, nnx.Rngs(key))
        return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, inside))

    def share(params):
        logits = nnx.view(nnx.merge(graph, params, rest), deterministic=True)(points)
        return float(jnp.mean((logits > 0) == inside))

    gradient = zo.zo_gradient(
        32,
        0.02,
        key=jax.random.key(2),
        directions=zo.directions.hadamard(),
        evaluate=zo.evaluators.sharded(mesh, "queries"),
    )
    optimizer = optax.chain(gradient, optax.adam(0.05))
    state = jax.device_put(optimizer.init(params), whole)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params, state):
        updates, state = optimizer.update(None, state, params, value_fn=loss)
        return optax.apply_updates(params, updates), state

    before = share(params)
    for _ in range(options.steps):
        params, state = step(params, state)
        # On a CPU the devices are threads of one pool: programs that overlap may wait for ever.
        jax.block_until_ready(params)
    nnx.update(model, params)
    after = share(params)
    print(f"{len(jax.devices())} devices, {zo.num_queries(state)} queries")
    print(f"{before:.0%} right at the start, {after:.0%} at the end")
    return before, after


if __name__ == "__main__":
    main()
