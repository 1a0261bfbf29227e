"""What a step costs: against its floor, and against what a user would pick instead.

The floor is drawing a round's directions once and evaluating its objectives. Ours run inside one
compiled loop, so that dispatch does not count, and, in the rows "called", as one compiled call a
step from Python; `benchmarks.speed_others` says what they are compared with, and how. All that a
function is timed with takes turns in one run; the median of the turns is reported.

``--reference PATH`` adds the ZoVH authors' PyTorch optimisers; PATH is a clone of
https://github.com/Qjbtiger/ZoVH. ``speed.json`` holds

- ``environment``, with the versions of ``others``; ``settings`` (d, K, μ, λ, N, turns, seconds
  a turn);
- ``generators``: [{name, ns_per_number, ks_distance, excess_kurtosis}], of a million numbers;
- ``pieces``: [{generator, function, random, objective}], μs a round of K;
- ``steps``: [{generator, function, step, loop, queries, microseconds, over_floor}], where
  ``loop`` is "compiled" or "called", and the floor that of as many queries, of the same generator
  and function;
- ``others``: [{library, method, function, queries, microseconds, against, step_ratios,
  query_ratios}]: how many times as long as the step ``against`` of ours, for each generator, a step
  and a query take;
- ``targets``: [{target, generator, bound, value, where, met}]: the worst case of each;
- ``memory``: [{method, generator, parameters, temporaries}], in bytes: a step of a tree of ten
  million parameters with ``chunked(1)``, from XLA's memory analysis.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks import speed_others, speed_pieces
from benchmarks.methods import Setting
from benchmarks.report import environment, write_json
from benchmarks.speed_others import RATE
from benchmarks.speed_plot import plot
from benchmarks.speed_tables import tables, targets
from benchmarks.timing import called, looped, take_turns

DIMENSION = 10_000
FUNCTIONS = {
    "quadratic": zo.problems.quadratic(),
    "levy": zo.problems.levy(),
    "rosenbrock": zo.problems.rosenbrock(),
    "ackley": zo.problems.ackley(),
}
SETTING = Setting(num_directions=3, radius=0.1, damping=0.1, history_size=4)
GENERATORS = {
    "threefry (jax.random)": zo.directions.gaussian(),
    "fast": zo.directions.gaussian(fast=True),
}
CALLED = ("zovh N=1", "zovh N=4 stored")


def add_arguments(parser):
    parser.add_argument(
        "--reference", type=Path, help=f"a clone of {speed_others.REPOSITORY}, to compare with"
    )


def run(args) -> None:
    turns, seconds = (15, 0.02) if args.full else (5, 0.02)
    others = speed_others.available(args.reference)
    result: dict[str, Any] = {
        "environment": environment() | {"others": speed_others.versions(others)},
        "settings": {
            "dimension": DIMENSION,
            "num_directions": SETTING.num_directions,
            "radius": SETTING.radius,
            "damping": SETTING.damping,
            "history_size": SETTING.history_size,
            "turns": turns,
            "seconds_a_turn": seconds,
        },
        "generators": speed_pieces.time_generators(
            SETTING.num_directions, DIMENSION, turns, seconds
        ),
        "pieces": [],
        "steps": [],
        "others": [],
    }
    for function in tqdm(FUNCTIONS, desc="functions", unit="function"):
        for name, rows in time_function(function, others, turns, seconds).items():
            result[name] += rows
    result["targets"] = targets(result)
    chunked = {
        (method.split()[0], name): optimizers(directions, evaluate=zo.evaluators.chunked(1))[method]
        for name, directions in GENERATORS.items()
        for method in ("zoar N=1", "zovh N=1")
    }
    result["memory"] = speed_pieces.memory(chunked)
    write_json(args.out / "speed.json", result)
    env = result["environment"]
    print(f"\n{env['device']}, {env['cpu']}, {env['cores']} cores; JAX {env['jax']}")
    print(f"d = {DIMENSION}, K = {SETTING.num_directions}; medians of {turns} turns")
    for rendered in tables(result).values():
        print(f"\n{rendered}")
    plot(result, args.out / "speed.png")
    print(f"\nwrote {args.out / 'speed.json'} and {args.out / 'speed.png'}")


def optimizers(directions, **options) -> dict[str, optax.GradientTransformationExtraArgs]:
    """Our steps by label; the averaged baseline, so that all but the central one spend K."""
    options = SETTING.options(jax.random.key(0)) | {"directions": directions} | options
    damped = options | {"damping": SETTING.damping}
    size = SETTING.history_size
    steps = {
        "zoar N=1": zo.zoar(RATE, history_size=1, **options),
        "zovh N=1": zo.zovh(RATE, **damped),
    }
    for kept, store in (("stored", True), ("replay", False)):
        reuse = {"history_size": size, "store_directions": store}
        steps[f"zoar N={size} {kept}"] = zo.zoar(RATE, **options, **reuse)
        steps[f"zovh N={size} {kept}"] = zo.zovh(RATE, **damped, **reuse)
    return steps | {"zo_sgd central": zo.zo_sgd(RATE, stencil=zo.stencils.central(), **options)}


def time_function(function: str, others: dict, turns: int, seconds: float) -> dict[str, list]:
    """The rows of one function: its ``pieces``, ``steps`` and ``others``."""
    f, k = FUNCTIONS[function], SETTING.num_directions
    x = jnp.full(DIMENSION, 0.5)
    rivals = [c for make in others.values() for c in make(function, f, x, SETTING)]
    contenders = {("other", i): rival.run for i, rival in enumerate(rivals)}
    contenders["objective",] = looped(*speed_pieces.evaluate_step(f, x, k, SETTING.radius))
    queries = {}
    for generator, directions in GENERATORS.items():
        contenders[generator, "random"] = looped(*speed_pieces.draw_step(directions, k, DIMENSION))
        for label, tx in optimizers(directions).items():

            def step(carry, tx=tx):
                params, state = carry
                updates, state = tx.update(None, state, params, value_fn=f)
                return optax.apply_updates(params, updates), state

            start = x, tx.init(x)
            queries[label] = 2 * k if "central" in label else k
            contenders[generator, label, "compiled"] = looped(step, start)
            if label in CALLED:
                contenders[generator, label, "called"] = called(step, start)
    times = take_turns(contenders, turns, seconds)

    rows: dict[str, list] = {"pieces": [], "steps": [], "others": []}
    for generator in GENERATORS:
        pieces = {"random": times[generator, "random"], "objective": times["objective",]}
        rows["pieces"].append({"generator": generator, "function": function} | pieces)
        for key in (key for key in times if key[0] == generator and key[1] != "random"):
            _, label, loop = key
            floor = pieces["random"] + pieces["objective"] * queries[label] / k
            rows["steps"].append(
                {
                    "generator": generator,
                    "function": function,
                    "step": label,
                    "loop": loop,
                    "queries": queries[label],
                    "microseconds": times[key],
                    "over_floor": times[key] / floor,
                }
            )
    for i, rival in enumerate(rivals):
        steps = {g: times["other", i] / times[g, rival.against, "compiled"] for g in GENERATORS}
        per_query = queries[rival.against] / rival.queries
        rows["others"].append(
            {
                "library": rival.library,
                "method": rival.method,
                "function": function,
                "queries": rival.queries,
                "microseconds": times["other", i],
                "against": rival.against,
                "step_ratios": steps,
                "query_ratios": {g: ratio * per_query for g, ratio in steps.items()},
            }
        )
    return rows


__all__ = ["add_arguments", "run", "tables"]
