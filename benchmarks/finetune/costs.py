"""What a step on all parameters costs beside a plain forward of as many sentences."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.finetune.trained import Trained

FAMILIES: dict[str, zo.directions.Directions] = {
    "low rank": zo.directions.low_rank(),
    "factored signs": zo.directions.hadamard(factored=True),
    "Gaussian, fast": zo.directions.gaussian(fast=True),
}
FEW = 1e9
"""Families of full directions are measured where the perturbed copies have at most so many bytes
each, all K together twenty times as much."""
CALLS = 5
"""Calls that follow each other without waiting, so that starting them costs nothing."""


def measure(
    trained: Trained, sizes: tuple[tuple[int, int], ...], dtypes: tuple[str, ...], turns: int
) -> list[dict[str, Any]]:
    """A row for each size (K, sentences a query), precision and family.

    Returns:
      rows of ``num_directions``, ``batch``, ``dtype``, ``family`` ("" for the plain forward),
      ``seconds`` (the median over turns), ``compile_seconds`` (of the processor),
      ``temporaries`` in bytes, and the ``throughput`` over the plain forward's.
    """
    rows = []
    for dtype in dtypes:
        params = jax.tree.map(lambda x, dtype=dtype: x.astype(dtype), trained.params)
        for num_directions, batch in sizes:
            programs = {"": forward(trained, params, num_directions * batch)}
            for family, directions in FAMILIES.items():
                if directions.factored or num_directions * size_of(params) <= 20 * FEW:
                    programs[family] = step(trained, params, num_directions, batch, directions)
            found = in_turns(programs, turns)
            for family, row in found.items():
                where = {"num_directions": num_directions, "batch": batch, "dtype": dtype}
                share = found[""]["seconds"] / row["seconds"]
                rows.append(where | {"family": family} | row | {"throughput": share})
    return rows


def size_of(params: Any) -> int:
    """Bytes of all parameters."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params))


def loss(trained: Trained, params: Any, tokens: jax.Array) -> jax.Array:
    """The cross-entropy, as if every label were 0."""
    logits = trained.logits(params, tokens).astype(jnp.float32)
    labels = jnp.zeros(len(tokens), jnp.int32)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


Program = tuple[Callable[..., Any], tuple[Any, ...], bool]
"""A function, its arguments, and whether what it returns is the next call's first argument."""


def forward(trained: Trained, params: Any, count: int) -> Program:
    """The loss of so many sentences."""
    return (
        lambda params, tokens: loss(trained, params, tokens),
        (params, rows(trained, count)),
        False,
    )


def step(
    trained: Trained,
    params: Any,
    num_directions: int,
    batch: int,
    directions: zo.directions.Directions,
) -> Program:
    """A step of ZoAR without reuse: K queries, and the update."""
    optimizer = zo.zoar(
        1e-7,
        num_directions=num_directions,
        radius=1e-3,
        history_size=1,
        key=jax.random.key(0),
        directions=directions,
    )

    def one(carry, tokens):
        return stepping(optimizer, lambda params: loss(trained, params, tokens))(carry)

    carry = jax.tree.map(jnp.copy, (params, optimizer.init(params)))
    return one, (carry, rows(trained, batch)), True


def rows(trained: Trained, count: int) -> jax.Array:
    """Sentences, repeated where there are not enough."""
    tokens = trained.inputs[0]
    return tokens[jnp.arange(count) % len(tokens)]


def in_turns(programs: dict[str, Program], turns: int) -> dict[str, dict[str, Any]]:
    """Costs of each program, timed one after the other in every turn."""
    found, calls = {}, {}
    for name, (function, arguments, carried) in programs.items():
        start = time.process_time()
        jitted = jax.jit(function, donate_argnums=(0,) if carried else ())
        compiled = jitted.lower(*arguments).compile()
        found[name] = {
            "compile_seconds": time.process_time() - start,
            "temporaries": compiled.memory_analysis().temp_size_in_bytes,
        }
        calls[name] = timed(compiled, arguments, carried)
    times = [{name: next(calls[name]) for name in programs} for _ in range(turns + 1)]
    for name, row in found.items():
        row["seconds"] = float(np.median([turn[name] for turn in times[1:]]))
    return found


def timed(compiled: Any, arguments: tuple[Any, ...], carried: bool) -> Any:
    """Seconds of a call, again and again."""
    first, *rest = arguments
    while True:
        start = time.perf_counter()
        for _ in range(CALLS):
            out = compiled(first, *rest)
            first = out if carried else first
        jax.block_until_ready(out)
        yield (time.perf_counter() - start) / CALLS
