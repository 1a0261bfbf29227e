"""Timings of steps on one device and on all; run as a module, which prints them as JSON."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import zovh_jax as zo

HEAVY_SECONDS = 0.01
REPEATS = {True: 15, False: 3}


def heavy(steps: int) -> Callable[[jax.Array], jax.Array]:
    """Products of matrices, one after the other."""

    def f(x):
        return jnp.sum(jax.lax.fori_loop(0, steps, lambda _, y: jnp.tanh(y @ x), x))

    return f


def cheap(x: jax.Array) -> jax.Array:
    """The sum of squares."""
    return jnp.sum(jnp.square(x))


def seconds(step: Callable[[Any], Any], start: Any, repeats: int) -> list[float]:
    """Of a call, each time."""
    state = jax.block_until_ready(step(start))
    found = []
    for _ in range(repeats):
        begin = time.perf_counter()
        state = jax.block_until_ready(step(state))
        found.append(time.perf_counter() - begin)
    return found


def ten_milliseconds(x: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The heavy objective, with as many products as take about so long."""
    sample = 20
    f = jax.jit(heavy(sample))
    each = float(np.median(seconds(lambda _: f(x), None, 9))) / sample
    return heavy(max(1, round(HEAVY_SECONDS / each)))


def stepping(f: Any, num_directions: int, num_devices: int, reduce: Any) -> Callable[[Any], Any]:
    """A compiled step on the first devices, and where it starts is moved there."""
    devices = jax.devices()[:num_devices]
    mesh = jax.make_mesh((num_devices,), ("q",), axis_types=(AxisType.Auto,), devices=devices)
    evaluate = zo.evaluators.sharded(mesh, "q", zo.evaluators.chunked(1), reduce)
    optimizer = zo.zo_sgd(
        1e-6,
        num_directions=num_directions,
        radius=1e-3,
        key=jax.random.key(0),
        directions=zo.directions.gaussian(),
        baseline=zo.baselines.mean(),
        evaluate=evaluate,
    )
    whole = NamedSharding(mesh, PartitionSpec())

    @jax.jit
    def step(run):
        x, state = run
        updates, state = optimizer.update(None, state, x, value_fn=f)
        return optax.apply_updates(x, updates), state

    def step_from(run):
        if isinstance(run, jax.Array):
            run = jax.device_put((run, optimizer.init(run)), whole)
        return step(run)

    return step_from


def measure(repeats: int) -> list[dict[str, Any]]:
    """A row for each objective, number of devices and kind of sum."""
    matrix = jax.random.normal(jax.random.key(1), (128, 128)) / 128**0.5
    settings = {
        "heavy": (ten_milliseconds(matrix), matrix, 8),
        "cheap": (cheap, jnp.ones(10**6), 16),
    }
    rows = []
    for name, (f, start, num_directions) in settings.items():
        for num_devices in sorted({1, jax.device_count()}):
            for reduce in ("replay", "psum") if num_devices > 1 else ("replay",):
                step = stepping(f, num_directions, num_devices, reduce)
                each = seconds(step, start, repeats)
                rows.append(
                    {
                        "objective": name,
                        "devices": num_devices,
                        "reduce": reduce,
                        "seconds": float(np.median(each)),
                        "each": each,
                    }
                )
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(REPEATS[sys.argv[1] == "1"])))
