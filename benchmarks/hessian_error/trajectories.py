"""Hessian errors along descents, with the amounts of Fig. 2 of the ZoVH paper.

Twenty starts in the ball, of each 25 points, steps of 10⁻⁴ apart; three queries a round, μ = 0.1,
and N = 6 rounds with reuse; no noise.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.hessian_error.measure import METHODS, errors, in_the_ball, locate, quartiles

QUERIES = 3
STEP, RADIUS, ROUNDS = 1e-4, 0.1, 6
COUNTS = tuple(
    (name, METHODS[name].directions(QUERIES)) for name in ("s2", "s3", "cd", "zovh", "zovh_reuse")
)
"""Directions of each method for as many queries, as in the paper's reference code."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts: d, starts, and points of each."""

    dimension: int = 5_000
    starts: int = 20
    points: int = 25


QUICK = Size(dimension=200, starts=2, points=4)


def measure(size: Size, problems: dict[str, zo.problems.Problem]) -> list[dict[str, Any]]:
    """A row for each function: mean and quartiles of each method's errors."""
    rows = []
    for name, problem in tqdm(problems.items(), desc="trajectories"):
        found = on_function(problem, size)
        rows.append(
            {
                "problem": name,
                "dimension": size.dimension,
                "rounds": ROUNDS,
                "radius": RADIUS,
                "points": len(found["zovh"]),
                "errors": {
                    method: {"mean": float(np.mean(each)), **quartiles(each.tolist())}
                    for method, each in found.items()
                },
            }
        )
    return rows


def on_function(problem: zo.problems.Problem, size: Size) -> dict[str, np.ndarray]:
    """Errors of all points of all starts, by method."""

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

    found = [run(seed) for seed in range(size.starts)]
    return {name: np.concatenate([each[name, count] for each in found]) for name, count in COUNTS}
