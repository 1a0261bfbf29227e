"""What a step costs against its floor: drawing the round's directions once, and K objectives.

Everything is timed inside one jitted ``lax.scan`` of many steps, so that dispatch does not count;
contenders take turns, and the median of the turns is reported. ``speed.json`` holds

- ``environment``, ``settings`` (d, K, μ, λ, steps a turn, turns);
- ``generators``: [{name, ns_per_number, ks_distance, excess_kurtosis}], of a million numbers;
- ``pieces``: [{generator, function, random, objective}], μs a round of K;
- ``steps``: [{generator, function, method, history_size, store_directions, microseconds,
  over_floor}], where the floor is random + objective of the same generator and function;
- ``memory``: [{method, generator, parameters, temporaries}], in bytes: a step of a tree of ten
  million parameters with ``chunked(1)``, from XLA's memory analysis.
"""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.functions import FUNCTIONS
from benchmarks.report import environment, table, write_json

DIMENSION, NUM_DIRECTIONS, RADIUS, DAMPING = 10_000, 3, 0.1, 0.1
TARGET = 1.3
ROUNDS_OF_POINTS = 32
GENERATORS = {
    "threefry (jax.random)": zo.directions.gaussian(),
    "fast": zo.directions.gaussian(fast=True),
}
METHODS = [
    ("zo_sgd", 1, False),
    ("zovh", 1, False),
    ("zoar", 4, True),
    ("zovh", 4, True),
    ("zoar", 4, False),
    ("zovh", 4, False),
]


def add_arguments(parser):
    del parser  # the common options are all


def run(args) -> None:
    steps, turns = (200, 21) if args.full else (100, 7)
    generators = GENERATORS if args.full else dict(list(GENERATORS.items())[:1])
    result: dict[str, Any] = {
        "environment": environment(),
        "settings": {
            "dimension": DIMENSION,
            "num_directions": NUM_DIRECTIONS,
            "radius": RADIUS,
            "damping": DAMPING,
            "steps_per_turn": steps,
            "turns": turns,
        },
        "generators": time_generators(steps, turns),
        "pieces": [],
        "steps": [],
    }
    for generator, directions in generators.items():
        for function in tqdm(FUNCTIONS, desc=f"steps, {generator}"):
            pieces, measured = time_function(generator, directions, function, steps, turns)
            result["pieces"].append(pieces)
            result["steps"] += measured
    result["memory"] = memory(GENERATORS)
    write_json(args.out / "speed.json", result)
    report(result)
    from benchmarks.speed_plot import plot

    plot(result, args.out / "speed.png")
    print(f"\nwrote {args.out / 'speed.json'} and {args.out / 'speed.png'}")


def in_a_loop(step: Callable, steps: int) -> Callable:
    """A compiled function that takes ``steps`` steps."""
    return jax.jit(lambda carry: jax.lax.scan(lambda c, _: (step(c), None), carry, length=steps)[0])


def take_turns(contenders: dict[Any, tuple[Callable, Any]], steps: int, turns: int) -> dict:
    """Median microseconds a step of each (step, initial carry), after a warm-up."""
    loops = {name: (in_a_loop(step, steps), carry) for name, (step, carry) in contenders.items()}
    for loop, carry in loops.values():
        jax.block_until_ready(loop(carry))
    seconds: dict[Any, list[float]] = {name: [] for name in loops}
    for _ in range(turns):
        for name, (loop, carry) in loops.items():
            start = time.perf_counter()
            jax.block_until_ready(loop(carry))
            seconds[name].append(time.perf_counter() - start)
    return {name: float(np.median(times)) / steps * 1e6 for name, times in seconds.items()}


def draw_step(directions, key=None) -> tuple[Callable, Any]:
    """Draws a round and keeps it; the round's number is the carry's first part."""
    key = jax.random.key(0) if key is None else key
    like = jax.ShapeDtypeStruct((DIMENSION,), jnp.float32)

    def step(carry):
        i, _ = carry
        round_key = jax.random.fold_in(key, i)
        return i + 1, zo.Plan(
            round_key, directions, num_directions=NUM_DIRECTIONS, block_size=NUM_DIRECTIONS
        ).draw(like)

    return step, (jnp.zeros((), jnp.int32), jnp.zeros((NUM_DIRECTIONS, DIMENSION)))


def time_generators(steps: int, turns: int) -> list[dict]:
    rbg = jax.random.key(0, impl="rbg")
    contenders = {
        "gaussian, threefry (jax.random)": draw_step(zo.directions.gaussian()),
        "gaussian, fast (fused threefry-13)": draw_step(zo.directions.gaussian(fast=True)),
        "gaussian, rbg key": draw_step(zo.directions.gaussian(), key=rbg),
        "sphere, fast": draw_step(zo.directions.sphere(fast=True)),
        "rademacher (1 bit)": draw_step(zo.directions.rademacher()),
    }
    times = take_turns(contenders, steps, turns)
    rows = []
    for name, (step, _) in contenders.items():
        sample = np.concatenate(
            [np.asarray(step((i, None))[1], np.float64).ravel() for i in range(34)]
        )
        rows.append(
            {
                "name": name,
                "ns_per_number": times[name] / (NUM_DIRECTIONS * DIMENSION) * 1e3,
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


def optimizer(method: str, history_size: int, store: bool, directions, **options):
    """A named method; zo_sgd uses the mean as its baseline, so that all spend K queries a step."""
    options = {
        "num_directions": NUM_DIRECTIONS,
        "radius": RADIUS,
        "key": jax.random.key(0),
        "directions": directions,
        **options,
    }
    if method == "zo_sgd":
        return zo.zo_sgd(1e-6, baseline=zo.baselines.mean(), **options)
    options |= {"history_size": history_size, "store_directions": store}
    if method == "zoar":
        return zo.zoar(1e-6, **options)
    return zo.zovh(1e-6, damping=DAMPING, **options)


def time_function(generator, directions, function, steps, turns) -> tuple[dict, list[dict]]:
    f = FUNCTIONS[function]
    x = jnp.full(DIMENSION, 0.5)

    # The floor sees new points in every round, as a step does: on the same ones over and over, a
    # processor learns the branches of the cosine by heart and takes half the time.
    shape = (ROUNDS_OF_POINTS, NUM_DIRECTIONS, DIMENSION)
    points = x + RADIUS * jax.random.normal(jax.random.key(1), shape)

    def evaluate(carry):
        i, points, total = carry
        # The total makes a dependence, or rounds could be evaluated once and for all.
        chosen = points[i % ROUNDS_OF_POINTS] + 1e-30 * total
        return i + 1, points, jnp.sum(jax.vmap(f)(chosen))

    start = (jnp.zeros((), jnp.int32), points, jnp.zeros(()))
    contenders: dict[Any, tuple[Callable, Any]] = {
        "random": draw_step(directions),
        "objective": (evaluate, start),
    }
    for method, history_size, store in METHODS:
        tx = optimizer(method, history_size, store, directions)

        def step(carry, tx=tx):
            params, state = carry
            updates, state = tx.update(None, state, params, value_fn=f)
            return optax.apply_updates(params, updates), state

        contenders[method, history_size, store] = (step, (x, tx.init(x)))
    times = take_turns(contenders, steps, turns)
    pieces = {"generator": generator, "function": function}
    pieces |= {piece: times[piece] for piece in ("random", "objective")}
    floor = times["random"] + times["objective"]
    measured = [
        {
            "generator": generator,
            "function": function,
            "method": method,
            "history_size": history_size,
            "store_directions": store,
            "microseconds": times[method, history_size, store],
            "over_floor": times[method, history_size, store] / floor,
        }
        for method, history_size, store in METHODS
    ]
    return pieces, measured


def memory(generators) -> list[dict]:
    """Temporaries of a step with ``chunked(1)``, ten layers of a thousand by a thousand."""
    layer = {
        "kernel": jax.ShapeDtypeStruct((1000, 1000), jnp.float32),
        "bias": jax.ShapeDtypeStruct((1000,), jnp.float32),
    }
    params = {f"layer{i}": layer for i in range(10)}
    size = sum(leaf.size * 4 for leaf in jax.tree.leaves(params))
    rows = []
    for generator, directions in generators.items():
        for method in ("zo_sgd", "zovh"):
            tx = optimizer(method, 1, False, directions, evaluate=zo.evaluators.chunked(1))

            def step(params, state, tx=tx):
                f = lambda p: sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(p))  # noqa: E731
                updates, state = tx.update(None, state, params, value_fn=f)
                return optax.apply_updates(params, updates), state

            compiled = jax.jit(step).lower(params, jax.eval_shape(tx.init, params)).compile()
            analysis = compiled.memory_analysis()
            rows.append(
                {
                    "method": method,
                    "generator": generator,
                    "parameters": size,
                    "temporaries": analysis.temp_size_in_bytes,
                }
            )
    return rows


def report(result: dict[str, Any]) -> None:
    env, settings = result["environment"], result["settings"]
    print(f"\n{env['device']}, {env['cpu']}, {env['cores']} cores; JAX {env['jax']}")
    print(
        f"d = {settings['dimension']}, K = {settings['num_directions']}; medians of "
        f"{settings['turns']} turns of {settings['steps_per_turn']} steps\n"
    )
    rows = [
        [g["name"], f"{g['ns_per_number']:.2f}", f"{g['ks_distance']:.1e}"]
        for g in result["generators"]
    ]
    print(table(["random numbers", "ns each", "KS distance (n ≈ 10⁶)"], rows), "\n")
    rows = []
    floors = {(p["generator"], p["function"]): p for p in result["pieces"]}
    for row in result["steps"]:
        piece = floors[row["generator"], row["function"]]
        where = (
            "" if row["history_size"] == 1 else ("stored" if row["store_directions"] else "replay")
        )
        rows.append(
            [
                f"{row['method']} N={row['history_size']} {where}".rstrip(),
                row["function"],
                row["generator"].split()[0],
                f"{piece['random']:.0f} + {piece['objective']:.0f}",
                f"{row['microseconds']:.0f}",
                f"{row['over_floor']:.2f}×",
            ]
        )
    print(table(["step", "function", "numbers", "floor μs", "μs", "step/floor"], rows), "\n")
    rows = [
        [m["method"], m["generator"], f"{m['temporaries'] / m['parameters']:.2f}"]
        for m in result["memory"]
    ]
    print(table(["10⁷ parameters, chunked(1)", "numbers", "temporaries, copies"], rows))
    worst = max(
        row["over_floor"]
        for row in result["steps"]
        if row["history_size"] == 1 or row["store_directions"]
    )
    verdict = "met" if worst <= TARGET else "missed"
    print(
        f"\ntarget (N = 1, and N = 4 stored, at most {TARGET}× the floor): {verdict}, {worst:.2f}×"
    )
