"""What a step is made of: random numbers, objectives, memory."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.common.timing import looped, take_turns

ROUNDS_OF_POINTS = 32


def draw_step(directions, num_directions, dimension, key=None) -> tuple[Callable, Any]:
    """Draws a round and keeps it; the round's number is the carry's first part."""
    key = jax.random.key(0) if key is None else key
    like = jax.ShapeDtypeStruct((dimension,), jnp.float32)

    def step(carry):
        i, _ = carry
        round_key = jax.random.fold_in(key, i)
        return i + 1, zo.Plan(
            round_key, directions, num_directions=num_directions, block_size=num_directions
        ).draw(like)

    return step, (jnp.zeros((), jnp.int32), jnp.zeros((num_directions, dimension)))


def evaluate_step(f, x, num_directions, radius) -> tuple[Callable, Any]:
    """Evaluates a round of objectives.

    It sees new points in every round, as a step does: on the same ones over and over, a processor
    learns the branches of the cosine by heart and takes half the time.
    """
    shape = (ROUNDS_OF_POINTS, num_directions, x.size)
    points = x + radius * jax.random.normal(jax.random.key(1), shape)

    def step(carry):
        i, points, total = carry
        # The total makes a dependence, or rounds could be evaluated once and for all.
        chosen = points[i % ROUNDS_OF_POINTS] + 1e-30 * total
        return i + 1, points, jnp.sum(jax.vmap(f)(chosen))

    return step, (jnp.zeros((), jnp.int32), points, jnp.zeros(()))


def time_generators(num_directions, dimension, turns, seconds) -> list[dict]:
    """Nanoseconds a number of each generator, and the distance of a million from normal."""
    rbg = jax.random.key(0, impl="rbg")

    def drawing(directions, key=None):
        return draw_step(directions, num_directions, dimension, key)

    steps = {
        "gaussian, threefry (jax.random)": drawing(zo.directions.gaussian()),
        "gaussian, fast (fused threefry-13)": drawing(zo.directions.gaussian(fast=True)),
        "gaussian, rbg key": drawing(zo.directions.gaussian(), rbg),
        "sphere, fast": drawing(zo.directions.sphere(fast=True)),
        "rademacher (1 bit)": drawing(zo.directions.rademacher()),
        "hadamard (signs, no replacement)": drawing(zo.directions.hadamard()),
    }
    times = take_turns({name: looped(*step) for name, step in steps.items()}, turns, seconds)
    rows = []
    for name, (step, _) in steps.items():
        rounds = [step((i, None))[1] for i in range(1 + 10**6 // (num_directions * dimension))]
        sample = np.concatenate([np.asarray(draws, np.float64).ravel() for draws in rounds])
        rows.append(
            {
                "name": name,
                "ns_per_number": times[name] / (num_directions * dimension) * 1e3,
                "ks_distance": ks_distance(sample),
                "excess_kurtosis": float(np.mean(sample**4) / np.mean(sample**2) ** 2 - 3),
            }
        )
    return rows


def ks_distance(sample: np.ndarray) -> float:
    """Kolmogorov–Smirnov distance from the standard normal law."""
    cdf = np.asarray(jax.scipy.stats.norm.cdf(np.sort(sample)), np.float64)
    grid = np.arange(len(sample) + 1) / len(sample)
    return float(max(np.max(grid[1:] - cdf), np.max(cdf - grid[:-1])))


def sum_of_squares(tree: Any) -> jax.Array:
    """An objective that costs next to nothing, of any tree."""
    return sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.zeros(()))


def memory(optimizers: dict[tuple[str, str], Any]) -> list[dict]:
    """Temporaries of a step of each optimiser, on ten layers of a thousand by a thousand."""
    layer = {
        "kernel": jax.ShapeDtypeStruct((1000, 1000), jnp.float32),
        "bias": jax.ShapeDtypeStruct((1000,), jnp.float32),
    }
    params = {f"layer{i}": layer for i in range(10)}
    rows = []
    for (method, generator), optimizer in optimizers.items():
        start = params, jax.eval_shape(optimizer.init, params)
        compiled = jax.jit(stepping(optimizer, sum_of_squares)).lower(start).compile()
        used: Any = compiled.memory_analysis()
        rows.append(
            {
                "method": method,
                "generator": generator,
                "parameters": sum(leaf.size * 4 for leaf in jax.tree.leaves(params)),
                "temporaries": used.temp_size_in_bytes,
            }
        )
    return rows
