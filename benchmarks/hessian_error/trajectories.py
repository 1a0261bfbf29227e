"""Hessian errors along descents, with the amounts of Fig. 2 and 3 of the ZoVH paper.

Fig. 2: twenty starts in the ball, of each 25 points, steps of 10⁻⁴ apart; three queries a round,
μ = 0.1, and N = 6 rounds with reuse; no noise. Fig. 3: the layers of a network in training
(`benchmarks.hessian_error.training`).
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import victim
from benchmarks.hessian_error import training
from benchmarks.hessian_error.measure import METHODS, errors, in_the_ball, locate, quartiles

QUERIES = 3
STEP, RADIUS, ROUNDS = 1e-4, 0.1, 6
COUNTS = tuple(
    (name, METHODS[name].directions(QUERIES)) for name in ("s2", "s3", "cd", "zovh", "zovh_reuse")
)
"""Directions of each method for as many queries, as in the paper's reference code."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts: d, starts and points of each; SGD's steps, and from one point to the next."""

    dimension: int = 5_000
    starts: int = 20
    points: int = 25
    steps: int = 1_875
    every: int = 15


QUICK = Size(dimension=200, starts=2, points=4, steps=8, every=4)


def measure(
    size: Size,
    problems: dict[str, zo.problems.Problem],
    settings: victim.Settings = victim.Settings(),
) -> list[dict[str, Any]]:
    """A row for each function and for each layer of the network of these settings."""
    rows = [
        row(name, size.dimension, ROUNDS, RADIUS, on_function(problem, size))
        for name, problem in tqdm(problems.items(), desc="trajectories")
    ]
    along = training.on_layers(size.steps, size.every, COUNTS, settings)
    return rows + [
        row(name, d, training.ROUNDS, training.RADIUS, found) for name, d, found in along
    ]


def row(problem: str, dimension: int, rounds: int, radius: float, found: list[dict]) -> dict:
    """One row: mean and quartiles of each method's errors over all points."""
    together = {
        name: np.concatenate([np.ravel(each[name, k]) for each in found]) for name, k in COUNTS
    }
    return {
        "problem": problem,
        "dimension": dimension,
        "rounds": rounds,
        "radius": radius,
        "points": len(together["zovh"]),
        "errors": {
            method: {"mean": float(np.mean(each)), **quartiles(each.tolist())}
            for method, each in together.items()
        },
    }


def on_function(problem: zo.problems.Problem, size: Size) -> list[dict]:
    """For each start the errors of `COUNTS` at its points."""

    @jax.jit
    def run(seed):
        from_key, key = jax.random.split(jax.random.key(seed))
        theta = in_the_ball(size.dimension)(from_key)
        path, _ = locate(problem, theta, STEP, count=size.points + ROUNDS - 1)

        def at(index):
            window = jax.lax.dynamic_slice_in_dim(path, index, ROUNDS)
            exact = problem.hessian(window[-1])
            own = jax.random.fold_in(key, index)
            return errors(problem, window, exact, own, RADIUS, counts=COUNTS)

        return jax.lax.map(at, jnp.arange(size.points))

    return [run(seed) for seed in range(size.starts)]
