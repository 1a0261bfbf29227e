"""Steps without a learning rate: are they ever far from the best tuned ones, and do they diverge?

Three experiments; peers are tuned for each problem (`benchmarks.tuning`), the Newton optimisers
have no learning rate and run with one set of defaults:

- ``gap``: queries until the gap is 10⁻³ of what it was, on quadratics in d = 10³ and in double
  precision: axis-aligned, rotated, and with ten dominating eigenvalues in random directions;
- ``functions``: values of the papers' functions in d = 10⁴ over four times as many queries as in
  the case ``synthetic``;
- ``starts``: scalar Newton from twenty random starts with scales from 0.1 to 10.

DIR/newton.json:
  environment   versions and machine
  setting       num_directions, radius, damping, history_size (of the peers)
  seeds         of the reported runs; tuning_seeds, of the others
  gap, functions: {dimension, budget, rows}: as in ``synthetic.json``; the score of ``gap`` is the
                number of queries; where the gap was not reached, it is above the budget
  starts        {dimension, budget, rows: [{problem, num_directions, scale, seed, first, last}]}
"""

import argparse
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks import report, tuning
from benchmarks.methods import METHODS, Setting
from benchmarks.synthetic import FUNCTIONS, SEEDS, matrix
from zovh_jax.problems.curvature import BandedPlusLowRank

FRACTION = 1e-3
PEERS = ("zo_sgd_near", "zoar", "zo_sgd_hadamard", "zoar_hadamard")
NEWTONS = ("scalar_newton", "scalar_newton_16", "diagonal_newton", "low_rank_newton")
NUM_SPIKES = 10


@dataclasses.dataclass(frozen=True)
class Size:
    """How much of everything is run."""

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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser  # the common options are all


def run(args: argparse.Namespace) -> None:
    result = experiments(FULL if args.full else QUICK)
    for text in tables(result).values():
        print(f"\n{text}")
    report.write_json(args.out / "newton.json", result)
    from benchmarks.newton_plot import plot

    plot(result, args.out / "newton.png")
    print(f"\nNumbers: {args.out / 'newton.json'}\nPicture: {args.out / 'newton.png'}")


def experiments(size: Size) -> dict[str, Any]:
    """All of them; the content of the JSON file."""
    with jax.enable_x64(True):
        problems = quadratics(size.conditions, size.gap_dimension)
        gap = {name: reaching(f, size) for name, f in problems.items()}
        gap_rows = rows_of("gap", gap, (*size.peers, *NEWTONS))
    functions = {
        name: tuning.of_problem(FUNCTIONS[name], size.dimension, budget=size.budget)
        for name in size.functions
    }
    return {
        "environment": report.environment(),
        "setting": dataclasses.asdict(Setting()),
        "seeds": list(SEEDS),
        "tuning_seeds": tuning.tuning_seeds(),
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
    """½xᵀHx by name."""
    key = jax.random.key(42)
    found: dict[str, Callable] = {
        f"condition {c:.0e}, axis-aligned".replace("e+0", "e"): zo.problems.quadratic(c)
        for c in conditions
    }
    found["condition 1e3, rotated"] = zo.problems.quadratic(1e3, rotated=True, key=key)
    found[f"{NUM_SPIKES} eigenvalues up to 1e4"] = spiked(dimension, key)
    return found


def spiked(dimension: int, key: jax.Array) -> Callable[[jax.Array], jax.Array]:
    """½xᵀ(I + V diag(λ − 1) Vᵀ)x with orthonormal random V and λ from 10² to 10⁴."""
    vectors = jnp.linalg.qr(jax.random.normal(key, (dimension, NUM_SPIKES)))[0].T
    weights = jnp.geomspace(1e2, 1e4, NUM_SPIKES) - 1
    hessian = BandedPlusLowRank(jnp.ones(dimension), vectors=vectors, weights=weights)
    return lambda x: 0.5 * jnp.vdot(x, hessian.mv(x), precision="highest")


def reaching(f: Callable, size: Size) -> tuning.Task:
    """The task of bringing the value to a fraction of the start's, in few queries."""
    checkpoints = 1_000
    grid = np.linspace(0, size.gap_budget, checkpoints + 1)

    def score(values: np.ndarray) -> float:
        ratio = values / values[0]
        if (ratio <= FRACTION).any():
            return float(grid[np.argmax(ratio <= FRACTION)])
        return size.gap_budget * (1 + math.log10(max(float(ratio[-1]), FRACTION) / FRACTION))

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
        score=score,
    )


def starts(size: Size) -> list[dict[str, Any]]:
    """Scalar Newton from starts of all scales; values first and last."""
    scales = np.geomspace(0.1, 10, size.starts)
    rows = []
    for problem in tqdm(size.functions, desc="starts"):
        f = FUNCTIONS[problem]
        for count in (Setting().num_directions, 16):

            def last(seed, scale, f=f, count=count):
                start_key, key = jax.random.split(jax.random.key(seed))
                optimizer = zo.scalar_newton(count, Setting().radius, key=key)

                def step(carry, _):
                    params, state = carry
                    updates, state = optimizer.update(None, state, params, value_fn=f)
                    return (optax.apply_updates(params, updates), state), None

                start = scale * f.start(size.dimension, start_key)
                carry = start, optimizer.init(start)
                length = size.start_budget // (count + 1)
                (params, _), _ = jax.lax.scan(step, carry, None, length=length)
                return f(start), f(params)

            compiled = jax.jit(last)
            for seed, scale in enumerate(scales):
                values = [float(v) for v in compiled(seed, float(scale))]
                first, end = (tuning.finite(v) for v in values)
                row = {"problem": problem, "num_directions": count, "scale": tuning.tidy(scale)}
                rows.append(row | {"seed": seed, "first": first, "last": end})
    return rows


# What is printed, and filled into the README.


def tables(result: dict[str, Any]) -> dict[str, str]:
    """Name → markdown table, from the content of the JSON file."""
    return {
        "gap": reached(result["gap"]),
        "functions": matrix("method", "label", result["functions"]["rows"]),
        "starts": kept(result["starts"]["rows"]),
    }


def reached(part: dict[str, Any]) -> str:
    """Queries until the gap is small: methods down the side, problems across; the least is bold."""
    problems = list(dict.fromkeys(row["problem"] for row in part["rows"]))
    labels = list(dict.fromkeys(row["label"] for row in part["rows"]))
    found = {(row["label"], row["problem"]): row["score"]["median"] for row in part["rows"]}
    lines = []
    for label in labels:
        cells = [label]
        for problem in problems:
            queries = found[label, problem]
            least = min(found[each, problem] for each in labels)
            text = f"{queries:,.0f}" if queries <= part["budget"] else f"> {part['budget']:,}"
            cells.append(f"**{text}**" if queries == least else text)
        lines.append(cells)
    return report.table(["method", *problems], lines)


def kept(rows: list[dict[str, Any]]) -> str:
    """The worst of final over first values, and how many runs ended above their start."""
    lines = []
    for problem in dict.fromkeys(row["problem"] for row in rows):
        for count in dict.fromkeys(row["num_directions"] for row in rows):
            runs = [r for r in rows if (r["problem"], r["num_directions"]) == (problem, count)]
            ratios = [math.inf if r["last"] is None else r["last"] / r["first"] for r in runs]
            above = sum(ratio > 1 for ratio in ratios)
            low, high = (report.number(tuning.finite(edge)) for edge in (min(ratios), max(ratios)))
            lines.append([problem, count, len(runs), low, high, above])
    header = ["problem", "K", "starts", "least final/first", "most", "ended above"]
    return report.table(header, lines)


__all__ = ["add_arguments", "run", "tables"]
