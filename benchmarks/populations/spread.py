"""Steps on several devices, in a process that is told to have so many.

What a device holds, computes and gets from the others is read from the compiled step, so that
devices need not be real; timings need a core a device.
"""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from benchmarks.common import programs, timing
from benchmarks.devices import FLAGS
from benchmarks.populations import network
from benchmarks.populations.contenders import Contender, Steps, available, ours
from benchmarks.populations.experiment import repeated
from benchmarks.populations.network import Batch, Sizes
from benchmarks.populations.shares import mesh_of


def elsewhere(
    sizes: Sizes, devices: Sequence[int], turns: int, clones: Sequence[Path | None]
) -> list[dict[str, Any]]:
    """The rows of `compiled`, or with turns of `timed`, from a process that has the devices.

    Args:
      sizes: of a step.
      devices: numbers of devices.
      turns: of timings; 0 for none.
      clones: of shardes and EGGROLL.
    """
    flags = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": FLAGS.format(max(devices))}
    task = [dataclasses.asdict(sizes), [*devices], turns, [path and str(path) for path in clones]]
    program = f"import sys, {__name__} as spread; spread.main(sys.argv[1])"
    command = [sys.executable, "-c", program, json.dumps(task)]
    done = subprocess.run(
        command, env=os.environ | flags, stdout=subprocess.PIPE, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main(task: str) -> None:
    """Prints what `elsewhere` asks for."""
    sizes, devices, turns, clones = json.loads(task)
    contenders = everyone(*(path and Path(path) for path in clones))
    sizes["hidden"] = tuple(sizes["hidden"])
    every = [Sizes(**sizes | {"devices": count}) for count in devices]
    rows = timed(contenders, every, turns) if turns else compiled(contenders, every)
    print(json.dumps(rows))


def everyone(shardes: Path | None, eggroll: Path | None) -> list[Contender]:
    """All contenders; ours along full directions and such of rank one with sums of parts too."""
    found, sums = available(shardes, eggroll), ours("psum")[:2]
    return [*found[: len(ours())], *sums, *found[len(ours()) :]]


def ready(steps: Steps, sizes: Sizes) -> tuple[Any, Batch]:
    """What a step takes, on all its devices."""
    data, _ = network.digits()
    batch = Batch(*(x[0] for x in network.batches(data, sizes.batch, 1, 0)))
    carry = steps.start(network.init(jax.random.key(0), sizes.hidden), jax.random.key(1))
    if sizes.devices == 1:
        return carry, batch
    return jax.device_put((carry, batch), NamedSharding(mesh_of(sizes.devices), P()))


def compiled(contenders: Sequence[Contender], every: Sequence[Sizes]) -> list[dict[str, Any]]:
    """A row for each contender and number of devices: what a step is on each of them."""
    rows = []
    for one in contenders:
        moves: list[np.ndarray] = []
        for sizes in every:
            steps = one.make(None if one.guess is None else 10.0**one.guess, sizes)
            carry, batch = ready(steps, sizes)
            program = jax.jit(steps.step).lower(carry, batch).compile()
            work, memory = programs.work(program), program.memory_analysis()
            after = steps.params(program(carry, batch))
            moves.append(flat(after) - flat(steps.params(carry)))
            apart = np.abs(moves[-1] - moves[0]).max() / np.abs(moves[0]).max()
            rows.append(
                {
                    "library": one.library,
                    "method": one.method,
                    "devices": sizes.devices,
                    "temporary_bytes": None if memory is None else memory.temp_size_in_bytes,
                    "operations": work.operations,
                    "exchanged_bytes": work.exchanged if sizes.devices > 1 else 0,
                    "difference": float(apart),
                }
            )
    return rows


def flat(params: Any) -> np.ndarray:
    """All parameters in one vector."""
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(params)])


def timed(
    contenders: Sequence[Contender], every: Sequence[Sizes], turns: int
) -> list[dict[str, Any]]:
    """A row for each contender and number of devices: microseconds a query, in turns."""
    runs: dict[Hashable, timing.Turn] = {}
    rows: list[dict[str, Any]] = []
    for one in contenders:
        for sizes in every:
            steps = one.make(None if one.guess is None else 1e-9, sizes)
            arguments = ready(steps, sizes)
            program = jax.jit(steps.step).lower(*arguments).compile()
            runs[len(rows)] = functools.partial(repeated, program, arguments)
            row = {"library": one.library, "method": one.method, "devices": sizes.devices}
            rows.append(row)
    times = timing.take_turns(runs, turns, seconds=1.0)
    return [row | {"microseconds": times[i] / every[0].queries} for i, row in enumerate(rows)]
