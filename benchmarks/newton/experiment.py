"""Runs of the Newton optimisers, which have no learning rate, and of their tuned peers."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import tuning
from benchmarks.common.functions import FUNCTIONS
from benchmarks.common.methods import METHODS, Setting
from benchmarks.common.steps import stepping
from benchmarks.common.tuning import SEEDS
from zovh_jax.problems.curvature import BandedPlusLowRank

FRACTION = 1e-3
PEERS = ("zo_sgd_near", "zoar", "zo_sgd_hadamard", "zoar_hadamard")
NEWTONS = ("scalar_newton", "scalar_newton_16", "diagonal_newton", "low_rank_newton")
NUM_SPIKES = 10


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run."""

    gap_dimension: int
    gap_budget: int
    conditions: tuple[float, ...]
    dimension: int
    budget: int
    starts: int
    start_budget: int
    functions: tuple[str, ...]
    peers: tuple[str, ...]


FULL = Size(1_000, 200_000, (1e2, 1e3, 1e4), 10_000, 40_000, 20, 6_000, tuple(FUNCTIONS), PEERS)
QUICK = Size(200, 10_000, (1e3,), 1_000, 6_000, 4, 2_000, ("quadratic", "rosenbrock"), PEERS[:1])


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file: the results of the three experiments."""
    with jax.enable_x64(True):
        problems = quadratics(size.conditions, size.gap_dimension)
        gap = {name: reaching(f, size) for name, f in problems.items()}
        gap_rows = rows_of("gap", gap, (*size.peers, *NEWTONS))
    functions = {
        name: tuning.of_problem(FUNCTIONS[name], size.dimension, budget=size.budget)
        for name in size.functions
    }
    return {
        **tuning.facts(Setting()),
        "gap": {
            "dimension": size.gap_dimension,
            "budget": size.gap_budget,
            "fraction": FRACTION,
            "rows": gap_rows,
        },
        "functions": {
            "dimension": size.dimension,
            "budget": size.budget,
            "rows": rows_of("functions", functions, (*size.peers, *NEWTONS)),
        },
        "starts": {
            "dimension": size.dimension,
            "budget": size.start_budget,
            "rows": starts(size),
        },
    }


def rows_of(title: str, tasks: dict[str, tuning.Task], names) -> list[dict[str, Any]]:
    """A row for each problem and method."""
    pairs = [(problem, name) for problem in tasks for name in names]
    return [
        {"problem": problem, "method": name}
        | tuning.Trial(METHODS[name], Setting(), tasks[problem]).measure(SEEDS)
        for problem, name in tqdm(pairs, desc=title)
    ]


def quadratics(conditions, dimension: int) -> dict[str, Callable]:
    """The functions ½xᵀHx of the experiment ``gap``, by name."""
    key = jax.random.key(42)
    found: dict[str, Callable] = {
        f"condition {c:.0e}, axis-aligned".replace("e+0", "e"): zo.problems.quadratic(c)
        for c in conditions
    }
    found["condition 1e3, rotated"] = zo.problems.quadratic(1e3, rotated=True, key=key)
    found[f"{NUM_SPIKES} eigenvalues up to 1e4"] = spiked(dimension, key)
    return found


def spiked(dimension: int, key: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """The function ½xᵀ(I + V diag(λ − 1) Vᵀ)x, V random and orthonormal, λ from 10² to 10⁴."""
    vectors = jnp.linalg.qr(jax.random.normal(key, (dimension, NUM_SPIKES)))[0].T
    weights = jnp.geomspace(1e2, 1e4, NUM_SPIKES) - 1
    hessian = BandedPlusLowRank(jnp.ones(dimension), vectors=vectors, weights=weights)
    return lambda x: 0.5 * jnp.vdot(x, hessian.mv(x), precision="highest")


def reaching(f: Callable, size: Size) -> tuning.Task:
    """The task of bringing the value to a fraction of the start's, in few queries."""
    checkpoints = 1_000
    grid = np.linspace(0, size.gap_budget, checkpoints + 1)
    of_ratios = tuning.queries_to(FRACTION, grid)

    key = jax.random.key(0)
    d = size.gap_dimension
    probes = jax.random.rademacher(key, (16, d), jnp.result_type(float))
    curvature = float(jnp.mean(jax.vmap(f)(probes))) * 2 / d
    return tuning.Task(
        lambda x, key, spent, level: f(x),
        lambda x, spent, level: f(x),
        lambda key: jax.random.normal(key, (d,)),
        dimension=d,
        curvature=curvature,
        budget=size.gap_budget,
        checkpoints=checkpoints,
        score=lambda values: of_ratios(values / values[0]),
    )


def starts(size: Size) -> list[dict[str, Any]]:
    """First and last values of scalar Newton from starts of all scales."""
    rows = []
    for problem in tqdm(size.functions, desc="starts"):
        for count in (Setting().num_directions, 16):
            run = jax.jit(functools.partial(first_and_last, FUNCTIONS[problem], count, size))
            for seed, scale in enumerate(np.geomspace(0.1, 10, size.starts)):
                first, last = (tuning.finite(float(v)) for v in run(seed, float(scale)))
                row = {"problem": problem, "num_directions": count, "scale": tuning.tidy(scale)}
                rows.append(row | {"seed": seed, "first": first, "last": last})
    return rows


def first_and_last(
    f: zo.problems.Problem, num_directions: int, size: Size, seed: Any, scale: Any
) -> tuple[jax.Array, jax.Array]:
    """Values of f at the start of a run of scalar Newton, and at its end."""
    start_key, key = jax.random.split(jax.random.key(seed))
    optimizer = zo.scalar_newton(num_directions, Setting().radius, key=key)
    step = stepping(optimizer, f)
    start = scale * f.start(size.dimension, start_key)
    length = size.start_budget // (num_directions + 1)
    (end, _), _ = jax.lax.scan(
        lambda carry, _: (step(carry), None), (start, optimizer.init(start)), None, length=length
    )
    return f(start), f(end)
