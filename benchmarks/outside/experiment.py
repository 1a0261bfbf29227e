"""Timings of the loop around functions that wait."""

import dataclasses
import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import report

K = 8
"""Directions a step, and workers."""
DIMENSION = 100
EVEN = 0.02
"""Seconds of a call."""
UNEVEN = np.geomspace(0.02, 0.2, K).tolist()
"""Seconds of a call, by worker."""


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything that is run.

    Attributes:
      even_steps, uneven_steps: of each run.
      max_pending: all that are tried.
      repeats: runs of each.
    """

    even_steps: int
    uneven_steps: int
    max_pending: tuple[int, ...]
    repeats: int


FULL = Size(200, 100, (1, 2, 3, 4, 6), 5)
QUICK = Size(30, 15, (1, 3), 1)


class Waiting:
    """A function that waits; how long depends on the thread.

    Attributes:
      spans: (begin, end) of each call.
    """

    def __init__(self, seconds: Sequence[float]):
        self.seconds = seconds
        self.spans: list[tuple[float, float]] = []
        self._count = itertools.count()
        self._here = threading.local()

    def __call__(self, x: np.ndarray) -> float:
        if not hasattr(self._here, "worker"):
            self._here.worker = next(self._count)
        begin = time.perf_counter()
        value = float(np.sum((x - 1) ** 2))
        time.sleep(self.seconds[self._here.worker])
        self.spans.append((begin, time.perf_counter()))
        return value

    def busy(self) -> float:
        """The share of the workers' time in which they did something."""
        begins, ends = np.transpose(self.spans)
        first, last = begins.min(), begins.max()  # later there is nothing left to do
        return float(np.sum(np.minimum(ends, last) - begins) / (len(self.seconds) * (last - first)))

    def calls_per_second(self) -> float:
        """Of the same time."""
        begins, ends = np.transpose(self.spans)
        last = begins.max()
        return float(np.sum(ends <= last) / (last - begins.min()))


def measure(size: Size) -> dict[str, Any]:
    """The content of the JSON file."""
    optimizer = zo.zoar(0.001, num_directions=K, radius=0.1, key=jax.random.key(0))
    for max_pending in (1, 2):
        run(optimizer, Waiting([0.0] * K), 4, max_pending=max_pending)  # compiles
    even = []
    for _ in tqdm(range(size.repeats), desc="even"):
        times: list[float] = []
        run(optimizer, Waiting([EVEN] * K), size.even_steps, times=times)
        step = 1e3 * float(np.median(np.diff(times)))
        even.append({"oracle_ms": 1e3 * EVEN, "step_ms": step, "ratio": step / (1e3 * EVEN)})
    uneven = []
    for max_pending in tqdm(size.max_pending, desc="uneven"):
        found = [Waiting(UNEVEN) for _ in range(size.repeats)]
        for fun in found:
            run(optimizer, fun, size.uneven_steps, max_pending=max_pending)
        uneven.append(
            {
                "max_pending": max_pending,
                "busy": summary([fun.busy() for fun in found]),
                "calls_per_second": summary([fun.calls_per_second() for fun in found]),
                "possible": sum(1 / seconds for seconds in UNEVEN),
            }
        )
    return {
        "environment": report.environment(),
        "setting": {
            "num_directions": K,
            "workers": K,
            "dimension": DIMENSION,
            "repeats": size.repeats,
        },
        "even": even,
        "uneven": uneven,
    }


def run(
    optimizer: optax.GradientTransformation,
    fun: Waiting,
    num_steps: int,
    *,
    max_pending: int = 1,
    times: list[float] | None = None,
) -> None:
    """A run in a pool of as many threads as the function has workers; notes when steps end."""

    def note(progress):
        if times is not None:
            times.append(time.perf_counter())

    with ThreadPoolExecutor(len(fun.seconds)) as pool:
        zo.minimize(
            fun,
            np.zeros(DIMENSION),
            optimizer,
            max_queries=K * num_steps,
            executor=pool,
            max_pending=max_pending,
            callback=note,
        )


def summary(values: Sequence[float]) -> dict[str, Any]:
    """Median and range."""
    return {
        "median": float(np.median(values)),
        "least": min(values),
        "most": max(values),
        "each": list(values),
    }
