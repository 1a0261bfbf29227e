"""What a step costs, and what it is worth at equal queries."""

import functools
import math
import time
from collections.abc import Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.common import timing
from benchmarks.common.grid import Grid
from benchmarks.common.tuning import SEEDS, tuning_seeds
from benchmarks.populations import network
from benchmarks.populations.contenders import Contender, Steps
from benchmarks.populations.network import Batch, Sizes

NOTED = 20
"""How often a run notes the held-out loss."""


def costs(contenders: Sequence[Contender], sizes: Sizes, turns: int) -> list[dict[str, Any]]:
    """A row for each contender, and one for the forward alone of as many rows."""
    data, _ = network.digits()
    batch = Batch(*(x[0] for x in network.batches(data, sizes.batch, 1, 0)))
    params = network.init(jax.random.key(0), sizes.hidden)
    programs = {("", "forwards alone"): (forwards(sizes), (params, batch))}
    for one in contenders:
        steps = one.make(None if one.guess is None else 1e-9, sizes)
        carry = steps.start(params, jax.random.key(1))
        programs[one.library, one.method] = steps.step, (carry, batch)
    rows: list[dict[str, Any]] = []
    runs: dict[Hashable, timing.Turn] = {}
    for name, (call, arguments) in programs.items():
        begin = time.perf_counter()
        compiled = jax.jit(call).lower(*arguments).compile()
        seconds = time.perf_counter() - begin
        memory = compiled.memory_analysis()
        temporaries = None if memory is None else memory.temp_size_in_bytes
        row = {"library": name[0], "method": name[1], "compile_seconds": seconds}
        rows.append(row | {"temporary_bytes": temporaries})
        runs[name] = functools.partial(repeated, compiled, arguments)
    times = timing.take_turns(runs, turns, seconds=1.0)
    alone = times["", "forwards alone"]
    for row in rows:
        microseconds = times[row["library"], row["method"]] / sizes.queries
        row["microseconds"] = microseconds  # a query
        row["times_forwards"] = microseconds * sizes.queries / alone
    return rows


def forwards(sizes: Sizes):
    """Losses of as many rows as a population's, all with the same parameters."""

    def call(params, batch):
        rows = Batch(*(jnp.concatenate([x] * sizes.queries) for x in batch))
        return network.loss(params, rows)

    return call


def repeated(compiled: Any, arguments: tuple[Any, ...], steps: int) -> None:
    """Makes the same step so many times, each when the last one is done."""
    for _ in range(steps):
        jax.block_until_ready(compiled(*arguments))


def worth(contenders: Sequence[Contender], sizes: Sizes, budget: int) -> list[dict[str, Any]]:
    """A row for each contender: held-out loss over queries, at the best of its learning rates."""
    data, held_out = network.digits()

    def runs(one: Contender, rate: float | None, seeds: Sequence[int]) -> list[dict[str, Any]]:
        steps = one.make(rate, sizes)
        advance, note = compiled_run(steps, held_out)
        return [run(steps, advance, note, sizes, data, budget, seed) for seed in seeds]

    rows = []
    for one in contenders:
        row: dict[str, Any] = {"library": one.library, "method": one.method, "rate": None}
        if one.guess is not None:
            row["rate"], row["grid"] = tuned(functools.partial(runs, one), one.guess)
        found = runs(one, row["rate"], SEEDS)
        row["queries"] = found[0]["queries"]
        row["loss"] = [[known(x) for x in each["loss"]] for each in found]
        row["accuracy"] = [each["accuracy"] for each in found]
        print(f"{one.library} {one.method}: rate {row['rate']}, {row['accuracy']}")
        rows.append(row)
    return rows


def tuned(runs: Any, guess: int) -> tuple[float, list[dict[str, Any]]]:
    """The learning rate, in half decades, with the least held-out loss on the tuning seed."""

    def attempt(exponents):
        rows = {}
        for i in exponents:
            (found,) = runs(10 ** (i / 2), tuning_seeds())
            last = found["loss"][-1]
            rows[i] = {"rate": 10 ** (i / 2), "score": last, "diverged": last > found["loss"][0]}
        return rows

    grid = Grid(attempt, "score")
    grid.grow(2 * guess, spacing=1, ahead=1)
    tried = [row | {"score": known(row["score"])} for row in grid.in_order]
    return grid.rows[grid.best]["rate"], tried


def known(value: float) -> float | None:
    """None for infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def compiled_run(steps: Steps, held_out: Batch) -> tuple[Any, Any]:
    """A loop over batches, and what is noted between loops."""

    @jax.jit
    def advance(carry, batches):
        return jax.lax.scan(lambda c, batch: (steps.step(c, batch), None), carry, batches)[0]

    @jax.jit
    def note(carry):
        params = steps.params(carry)
        spent = None if steps.queries is None else steps.queries(carry)
        return network.loss(params, held_out), network.accuracy(params, held_out), spent

    return advance, note


def run(
    steps: Steps, advance: Any, note: Any, sizes: Sizes, data: Batch, budget: int, seed: int
) -> dict[str, Any]:
    """Loss over queries until the next part might exceed the budget, and the last accuracy."""
    each = budget // sizes.queries // NOTED
    key = jax.random.key(seed)
    carry = steps.start(network.init(key, sizes.hidden), jax.random.fold_in(key, 1))
    first, reached, _ = note(carry)
    found: dict[str, Any] = {"queries": [0], "loss": [float(first)], "accuracy": float(reached)}
    for part in range(NOTED):
        carry = advance(carry, network.batches(data, sizes.batch, each, 1000 * seed + part))
        loss, reached, spent = note(carry)
        queries = (part + 1) * each * sizes.queries if spent is None else int(spent)
        if queries > budget:
            break
        found["queries"].append(queries)
        found["loss"].append(float(loss) if jnp.isfinite(loss) else math.inf)
        found["accuracy"] = float(reached)
    return found
