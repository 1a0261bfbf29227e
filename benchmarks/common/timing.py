"""Timing side by side: contenders take turns, so that what slows the machine slows all of them."""

import time
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

Turn = Callable[[int], Any]
"""Takes so many steps and waits for the last one."""
WARM_UP = 8
MOST_STEPS = 10_000
SLOW = 0.1
SLOW_TURNS = 3


def looped(step: Callable, carry: Any) -> Turn:
    """Makes steps inside one compiled loop from ``carry``, so that dispatch does not count."""
    loop = jax.jit(lambda n, carry: jax.lax.fori_loop(0, n, lambda _, c: step(c), carry))
    return lambda steps: jax.block_until_ready(loop(steps, carry))


def called(step: Callable, carry: Any) -> Turn:
    """Makes steps one compiled call at a time, from Python, as in a training loop."""
    compiled = jax.jit(step)

    def run(steps):
        latest = carry
        for _ in range(steps):
            latest = compiled(latest)
        return jax.block_until_ready(latest)

    return run


def take_turns(
    contenders: dict[Hashable, Turn], turns: int, seconds: float
) -> dict[Hashable, float]:
    """Median microseconds a step of each contender.

    Args:
      contenders: by name; each is warmed up first, and its turns' steps chosen to last ``seconds``.
      turns: how many each takes; three for those with steps of more than a tenth of a second.
      seconds: roughly how long a turn lasts.
    """
    sizes = {}
    for name, run in contenders.items():
        run(1)
        took = clock(run, 1)
        if took < SLOW:
            run(WARM_UP)  # compiles again, where results are of another type than what went in
            took = clock(run, WARM_UP) / WARM_UP
        sizes[name] = round(float(np.clip(seconds / took, 1, MOST_STEPS))), took
    times: dict[Hashable, list[float]] = {name: [] for name in contenders}
    for turn in range(turns):
        for name, run in contenders.items():
            steps, took = sizes[name]
            if took < SLOW or turn < SLOW_TURNS:
                times[name].append(clock(run, steps) / steps)
    return {name: float(np.median(each)) * 1e6 for name, each in times.items()}


def clock(run: Turn, steps: int) -> float:
    """Seconds that ``steps`` steps take."""
    start = time.perf_counter()
    run(steps)
    return time.perf_counter() - start
