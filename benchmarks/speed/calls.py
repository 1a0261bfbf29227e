"""What a step costs that Python calls, where parameters are few: beside ``optax.adam``."""

import multiprocessing
from collections.abc import Callable, Collection, Hashable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import optax

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.common.timing import Turn, called, looped, take_turns
from benchmarks.speed.pieces import sum_of_squares

SMALL, LARGE = 10, 10_000
"""Parameters: where the call is all that costs, and where it should no longer count."""
ADAM = "optax.adam, true gradients"
FORMS: dict[str, Callable[[Any], Any]] = {"plain": lambda optimizer: optimizer, "packed": zo.packed}
INLINE = "jax_cpu_enable_async_dispatch"
"""JAX's option: False has a CPU run a program in the thread that calls it."""


def optimizers() -> dict[str, optax.GradientTransformationExtraArgs]:
    """Ours by label, K = 3."""
    options: dict[str, Any] = {"num_directions": 3, "radius": 0.1, "key": jax.random.key(0)}
    signs = zo.directions.hadamard()
    return {
        "zo_sgd": zo.zo_sgd(1e-3, **options),
        "zoar N=1, hadamard": zo.zoar(1e-3, directions=signs, history_size=1, **options),
        "zoar N=4": zo.zoar(1e-3, history_size=4, **options),
        "zoar N=4, stored": zo.zoar(1e-3, history_size=4, store_directions=True, **options),
        "zovh N=4": zo.zovh(1e-3, damping=1.0, history_size=4, **options),
        "zovh N=4, stored": zo.zovh(
            1e-3, damping=1.0, history_size=4, store_directions=True, **options
        ),
        "scalar_newton, hadamard": zo.scalar_newton(directions=signs, **options),
    }


def adam_step(x_and_state: tuple[jax.Array, Any]) -> tuple[jax.Array, Any]:
    """A step along the true gradient."""
    x, state = x_and_state
    updates, state = optax.adam(1e-3).update(jax.grad(sum_of_squares)(x), state, x)
    return optax.apply_updates(x, updates), state


def measure(
    turns: int, seconds: float, labels: Collection[str] | None = None
) -> list[dict[str, Any]]:
    """A row for each step and number of parameters.

    The second times are of a process of its own, since JAX reads `INLINE` once, when it starts.
    """
    labels = labels or tuple(optimizers())
    start = multiprocessing.get_context("spawn")
    rows = []
    with ProcessPoolExecutor(1, start, run_inline) as process:
        for size in (SMALL, LARGE):
            times = timed(labels, size, turns, seconds)
            inline = process.submit(timed, labels, size, turns, seconds).result()
            for label in labels:
                rows.append(
                    {
                        "step": label,
                        "parameters": size,
                        "adam": times[ADAM],
                        "compiled": times[label, "compiled"],
                        **{form: times[label, form] for form in FORMS},
                        "inline": {"adam": inline[ADAM], "packed": inline[label, "packed"]},
                        **{f"{form}_arrays": times[label, form, "arrays"] for form in FORMS},
                    }
                )
    return rows


def run_inline() -> None:
    """Sets JAX's option, before JAX starts."""
    jax.config.update(INLINE, False)


def timed(labels: Collection[str], size: int, turns: int, seconds: float) -> dict[Hashable, float]:
    """Microseconds of adam's step and of ours in every form, and arrays of their states."""
    x = jnp.full(size, 0.5)
    contenders: dict[Hashable, Turn] = {ADAM: called(adam_step, (x, optax.adam(1e-3).init(x)))}
    arrays: dict[Hashable, float] = {}
    for label in labels:
        optimizer = optimizers()[label]
        for form, wrap in FORMS.items():
            each = wrap(optimizer)
            step, start = stepping(each, sum_of_squares), (x, each.init(x))
            contenders[label, form] = called(step, start)
            arrays[label, form, "arrays"] = len(jax.tree.leaves(start[1]))
            if form == "plain":
                contenders[label, "compiled"] = looped(step, start)
    return take_turns(contenders, turns, seconds) | arrays
