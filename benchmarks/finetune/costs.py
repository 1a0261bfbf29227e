"""What a step on all parameters costs beside a plain forward of as many sentences."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.finetune.tables import FORWARD, RIVAL, STEPS
from benchmarks.finetune.trained import Trained

MEZO = STEPS[RIVAL]
FULL = zo.directions.gaussian(fast=True)
FAMILIES: dict[str, Callable[[Any], zo.directions.Directions]] = {
    STEPS["zoar_low_rank"]: lambda split: zo.directions.low_rank(split=split),
    STEPS["zoar_signs"]: lambda split: zo.directions.hadamard(factored=True, split=split),
    "ZoAR, Gaussian": lambda split: FULL,
}
"""Directions from words for factored ones: those of steps of ZoAR without reuse."""
Loss = Callable[[Trained, Any, jax.Array], jax.Array]
"""From a model, its parameters and its inputs."""
CALLS = 5
"""Calls to an accelerator that follow each other, so that starting them costs nothing."""


class Program(NamedTuple):
    """A program to be timed.

    Attributes:
      function, arguments: what is called.
      sentences: how many it evaluates.
      carried: whether what it returns is the next call's first argument.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    sentences: int
    carried: bool = True


def classified(trained: Trained, params: Any, tokens: jax.Array) -> jax.Array:
    """The cross-entropy, as if every label were 0."""
    labels = jnp.zeros(len(tokens), jnp.int32)
    logits = trained.logits(params, tokens)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def measure(
    trained: Trained,
    sizes: tuple[tuple[int, int], ...],
    turns: int,
    loss: Loss = classified,
    families: Iterable[str] = FAMILIES,
) -> list[dict[str, Any]]:
    """A row for each size (K, sentences a query) and program.

    Args:
      trained: the model.
      sizes: of steps.
      turns: how often each program is timed.
      loss: of some sentences, from the model and its parameters.
      families: which directions ZoAR is timed along, of `FAMILIES`.

    Returns:
      rows of ``num_directions``, ``batch``, ``program``, ``sentences`` a step, ``seconds`` (the
      median over turns), ``compile_seconds`` (of the processor; null if not measured),
      ``temporaries`` in bytes, and ``throughput``: sentences a second, over the plain forward's of
      K·batch sentences.
    """
    rows = []
    for num_directions, batch in sizes:
        programs = {FORWARD: forward(trained, loss, num_directions * batch)}
        for label in families:
            optimizer = zo.zoar(
                1e-7,
                num_directions=num_directions,
                radius=1e-3,
                history_size=1,
                key=jax.random.key(0),
                directions=FAMILIES[label](trained.split),
            )
            programs[label] = step(trained, loss, optimizer, batch, num_directions * batch)
        one = zo.mezo(1e-7, radius=1e-3, key=jax.random.key(0), directions=FULL)
        programs[MEZO] = step(trained, loss, one, batch, 2 * batch)
        found = in_turns(programs, turns)
        plain = found[FORWARD]
        for name, row in found.items():
            share = (row["sentences"] / row["seconds"]) * (plain["seconds"] / plain["sentences"])
            where = {"num_directions": num_directions, "batch": batch, "program": name}
            rows.append(where | row | {"throughput": share})
    return rows


def forward(trained: Trained, loss: Loss, count: int) -> Program:
    """The loss of so many sentences."""
    arguments = trained.params, sentences(trained, count)
    return Program(lambda params, tokens: loss(trained, params, tokens), arguments, count, False)


def step(
    trained: Trained,
    loss: Loss,
    optimizer: optax.GradientTransformationExtraArgs,
    batch: int,
    count: int,
) -> Program:
    """A step of an optimiser, of so many sentences in all: the queries, and the update."""

    def one(carry, tokens):
        return stepping(optimizer, lambda params: loss(trained, params, tokens))(carry)

    carry = jax.tree.map(jnp.copy, (trained.params, optimizer.init(trained.params)))
    return Program(one, (carry, sentences(trained, batch)), count)


def sentences(trained: Trained, count: int) -> jax.Array:
    """Tokens of so many sentences, repeated where there are not enough."""
    tokens = trained.inputs.training
    return tokens[jnp.arange(count) % len(tokens)]


def in_turns(programs: dict[str, Program], turns: int) -> dict[str, dict[str, Any]]:
    """Costs of each program, timed one after the other in every turn."""
    found: dict[str, dict[str, Any]] = {}
    calls = {}
    for name, program in programs.items():
        start = time.process_time()
        donated = (0,) if program.carried else ()
        jitted = jax.jit(program.function, donate_argnums=donated)
        compiled = jitted.lower(*program.arguments).compile()
        seconds = time.process_time() - start
        memory: Any = compiled.memory_analysis()
        found[name] = {
            "sentences": program.sentences,
            "compile_seconds": seconds,
            "temporaries": memory.temp_size_in_bytes,
        }
        calls[name] = timed(compiled, program)
    times = [{name: next(calls[name]) for name in programs} for _ in range(turns + 1)]
    for name, row in found.items():
        row["seconds"] = float(np.median([turn[name] for turn in times[1:]]))
    return found


def timed(compiled: Any, program: Program) -> Iterator[float]:
    """Seconds of a call, again and again."""
    first, *rest = program.arguments
    calls = 1 if jax.default_backend() == "cpu" else CALLS
    while True:
        start = time.perf_counter()
        for _ in range(calls):
            out = compiled(first, *rest)
            first = out if program.carried else first
        jax.block_until_ready(out)
        yield (time.perf_counter() - start) / calls
