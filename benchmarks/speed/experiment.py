"""Steps in turns with their pieces and with other libraries' steps."""

import dataclasses
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import report
from benchmarks.common.functions import FUNCTIONS
from benchmarks.common.methods import Setting
from benchmarks.common.steps import stepping
from benchmarks.common.timing import Turn, looped, take_turns
from benchmarks.speed import calls, compilation, others, pieces
from benchmarks.speed.others import RATE, Contender
from benchmarks.speed.tables import targets

DIMENSION = 10_000
SETTING = Setting(num_directions=3, radius=0.1, damping=0.1, history_size=4)
GENERATORS: dict[str, zo.directions.Directions] = {
    "threefry (jax.random)": zo.directions.gaussian(),
    "fast": zo.directions.gaussian(fast=True),
    "hadamard": zo.directions.hadamard(),
}
"""What directions are drawn with; the last is what we recommend."""
GRADIENTS_ONLY = ("hadamard",)
"""Signs do not see the Hessian's diagonal: ZoVH does not take them."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Numbers of turns, and their length."""

    turns: int
    seconds: float
    compilations: int


FULL = Size(15, 0.02, 3)
QUICK = Size(5, 0.02, 1)


ALONE: dict[str, Callable[[Size], Any]] = {
    "calls": lambda size: calls.measure(size.turns, size.seconds),
    "compile": lambda size: compilation.measure(size.compilations),
}
"""Parts that take no turns with others."""


def renewed(earlier: dict[str, Any], names: list[str], size: Size) -> dict[str, Any]:
    """An earlier result with these parts measured anew."""
    result = earlier | {name: ALONE[name](size) for name in names}
    return result | {"targets": targets(result)}


def measure(reference: Path | None, size: Size) -> dict[str, Any]:
    """The content of the JSON file; ``reference`` is a clone of the ZoVH authors' repository."""
    libraries = others.available(reference)
    result: dict[str, Any] = {
        "environment": report.environment() | {"others": others.versions(libraries)},
        "settings": {
            "dimension": DIMENSION,
            "num_directions": SETTING.num_directions,
            "radius": SETTING.radius,
            "damping": SETTING.damping,
            "history_size": SETTING.history_size,
            "turns": size.turns,
            "seconds_a_turn": size.seconds,
        },
        "generators": pieces.time_generators(
            SETTING.num_directions, DIMENSION, size.turns, size.seconds
        ),
        "pieces": [],
        "steps": [],
        "others": [],
    }
    for function in tqdm(FUNCTIONS, desc="functions", unit="function"):
        rows = time_function(function, libraries, size.turns, size.seconds)
        for name, part in rows.items():
            result[name] += part
    result |= {name: alone(size) for name, alone in ALONE.items()}
    result["targets"] = targets(result)
    chunked = {
        (label.split()[0], generator): optimizer
        for generator in GENERATORS
        for label, optimizer in optimizers(generator, evaluate=zo.evaluators.chunked(1)).items()
        if label in ("zoar N=1", "zovh N=1")
    }
    result["memory"] = pieces.memory(chunked)
    return result


def optimizers(generator: str, **options: Any) -> dict[str, optax.GradientTransformationExtraArgs]:
    """Our steps by label; the averaged baseline, so that all but the central one spend K."""
    options = SETTING.options(jax.random.key(0)) | {"directions": GENERATORS[generator]} | options
    size = SETTING.history_size
    histories: dict[str, dict[str, Any]] = {
        "N=1": {"history_size": 1},
        f"N={size} stored": {"history_size": size, "store_directions": True},
        f"N={size} replay": {"history_size": size, "store_directions": False},
    }
    steps = {}
    for kept, reuse in histories.items():
        steps[f"zoar {kept}"] = zo.zoar(RATE, **options, **reuse)
        if generator not in GRADIENTS_ONLY:
            steps[f"zovh {kept}"] = zo.zovh(RATE, damping=SETTING.damping, **options, **reuse)
    return steps | {"zo_sgd central": zo.zo_sgd(RATE, stencil=zo.stencils.central(), **options)}


def queries_of(label: str) -> int:
    """Function values that a step of ours asks for."""
    return SETTING.num_directions * (2 if "central" in label else 1)


def time_function(function: str, libraries: dict, turns: int, seconds: float) -> dict[str, list]:
    """The rows of one function: its ``pieces``, ``steps`` and ``others``."""
    f = FUNCTIONS[function]
    x = jnp.full(DIMENSION, 0.5)
    rivals = [c for make in libraries.values() for c in make(function, f, x, SETTING)]
    ours = contenders(f, x)
    theirs: dict[Hashable, Turn] = {i: rival.run for i, rival in enumerate(rivals)}
    times: dict[Any, float] = take_turns(theirs | ours, turns, seconds)
    found = [
        (
            {"generator": generator, "function": function},
            {"random": times[generator, "random"], "objective": times["objective"]},
        )
        for generator in GENERATORS
    ]
    return {
        "pieces": [which | parts for which, parts in found],
        "steps": [row for which, parts in found for row in step_rows(which, parts, times)],
        "others": [
            {"function": function} | other_row(rival, times[i], times)
            for i, rival in enumerate(rivals)
        ],
    }


def contenders(f: zo.problems.Problem, x: jax.Array) -> dict[Hashable, Turn]:
    """Our steps on a function, by (generator, label), and the pieces of their floors."""
    k = SETTING.num_directions
    found: dict[Hashable, Turn] = {
        "objective": looped(*pieces.evaluate_step(f, x, k, SETTING.radius))
    }
    for generator, directions in GENERATORS.items():
        found[generator, "random"] = looped(*pieces.draw_step(directions, k, DIMENSION))
        for label, optimizer in optimizers(generator).items():
            step, start = stepping(optimizer, f), (x, optimizer.init(x))
            found[generator, label] = looped(step, start)
    return found


def step_rows(
    which: dict[str, str], parts: dict[str, float], times: dict[Any, float]
) -> list[dict[str, Any]]:
    """The rows of our steps with one generator, over the floor that these parts make."""
    rows = []
    for key, microseconds in times.items():
        if not isinstance(key, tuple) or key[0] != which["generator"] or key[1] == "random":
            continue
        label = key[1]
        rounds = queries_of(label) / SETTING.num_directions
        rows.append(
            {
                **which,
                "step": label,
                "queries": queries_of(label),
                "microseconds": microseconds,
                "over_floor": microseconds / (parts["random"] + parts["objective"] * rounds),
            }
        )
    return rows


def other_row(rival: Contender, microseconds: float, times: dict[Any, float]) -> dict[str, Any]:
    """The row of another library's step, beside ours with each generator that ours takes."""
    ours = {g: times.get((g, rival.against)) for g in GENERATORS}
    steps = {g: microseconds / mine for g, mine in ours.items() if mine is not None}
    per_query = queries_of(rival.against) / rival.queries
    return {
        "library": rival.library,
        "method": rival.method,
        "queries": rival.queries,
        "microseconds": microseconds,
        "against": rival.against,
        "step_ratios": steps,
        "query_ratios": {g: ratio * per_query for g, ratio in steps.items()},
    }
