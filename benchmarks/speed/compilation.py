"""What it costs to compile a step: on many leaves, and on a model beside its forwards alone."""

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.speed import encoder
from benchmarks.speed.pieces import sum_of_squares

FAMILIES: dict[str, zo.directions.Directions] = {
    "gaussian": zo.directions.gaussian(),
    "gaussian, fast": zo.directions.gaussian(fast=True),
    "rademacher": zo.directions.rademacher(),
    "hadamard": zo.directions.hadamard(),
}
LEAVES = 100
SHAPES = [(20 + i % 5, 20) for i in range(LEAVES)]
"""Five shapes, as models have many leaves of few shapes."""
MODEL = encoder.Config()
BATCH, LENGTH = 16, 64
Program = tuple[Callable, tuple[Any, ...]]
"""A function and the shapes of its arguments."""


def measure(turns: int) -> dict[str, Any]:
    """Medians over turns: on one leaf and on many for every family, and on the model."""
    steps = []
    for generator, directions in FAMILIES.items():
        costs = compile_in_turns(
            {
                "one_leaf": step_on(one_leaf(), directions),
                "many_leaves": step_on(many(), directions),
            },
            turns,
        )
        ratio = costs["many_leaves"] / costs["one_leaf"]
        steps.append({"generator": generator, **costs, "ratio": ratio})
    return {"steps": steps, "model": on_model(turns)}


def one_leaf() -> dict[str, jax.ShapeDtypeStruct]:
    """All parameters in one leaf."""
    size = sum(rows * columns for rows, columns in SHAPES)
    return {"x": jax.ShapeDtypeStruct((size,), jnp.float32)}


def many() -> dict[str, jax.ShapeDtypeStruct]:
    """As many parameters in a hundred leaves."""
    return {f"{i:03d}": jax.ShapeDtypeStruct(s, jnp.float32) for i, s in enumerate(SHAPES)}


def step_on(params: Any, directions: zo.directions.Directions) -> Program:
    """A step of ZoAR on the sum of squares."""
    optimizer = zo.zoar(
        0.1,
        num_directions=4,
        radius=0.1,
        history_size=1,
        key=jax.random.key(0),
        directions=directions,
    )
    return stepping(optimizer, sum_of_squares), ((params, jax.eval_shape(optimizer.init, params)),)


def on_model(turns: int) -> dict[str, Any]:
    """The row of the model: a step of MeZO, and its two forwards at two points."""
    params = encoder.shapes(MODEL)
    batch = (
        jax.ShapeDtypeStruct((BATCH, LENGTH), jnp.int32),
        jax.ShapeDtypeStruct((BATCH, MODEL.width), jnp.float32),
    )
    optimizer = zo.mezo(1e-6, radius=1e-3, key=jax.random.key(0))
    state = jax.eval_shape(optimizer.init, params)

    def step(carry, tokens, targets):
        value_fn = functools.partial(encoder.loss, tokens=tokens, targets=targets, config=MODEL)
        return stepping(optimizer, value_fn)(carry)

    def forwards(one, other, tokens, targets):
        return [encoder.loss(params, tokens, targets, MODEL) for params in (one, other)]

    costs = compile_in_turns(
        {
            "step": (step, ((params, state), *batch)),
            "forwards": (forwards, (params, params, *batch)),
        },
        turns,
    )
    leaves = jax.tree.leaves(params)
    return {
        "leaves": len(leaves),
        "parameters": sum(leaf.size for leaf in leaves),
        **costs,
        "ratio": costs["step"] / costs["forwards"],
    }


def compile_in_turns(programs: dict[str, Program], turns: int) -> dict[str, float]:
    """The median CPU seconds of each program, compiled from nothing, one after the other."""
    costs: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, (function, arguments) in programs.items():
            costs[name].append(compile_seconds(function, *arguments))
    return {name: float(np.median(each)) for name, each in costs.items()}


def compile_seconds(function: Callable, *arguments: Any) -> float:
    """CPU seconds, of all threads, that lowering and compiling takes; nothing is run."""
    jax.clear_caches()  # what an earlier program has traced would be had for nothing
    start = time.process_time()
    jax.jit(lambda *args: function(*args)).lower(*arguments).compile()
    return time.process_time() - start
