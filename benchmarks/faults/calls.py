"""Faults of single calls: values that are missing, late, or lost with their worker."""

import dataclasses
import itertools
import multiprocessing
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import numpy as np

import zovh_jax as zo
from benchmarks.faults.subjects import Subject, Tally, ratio
from benchmarks.faults.workers import die, value

TIMEOUT = 1.0
"""The seconds that a round may take where calls hang; alone, others take less than a thousandth."""
SHARE = 0.1
"""Of calls that go wrong."""
PROCESSES = multiprocessing.get_context("forkserver")
"""Its server has loaded all that is needed, and no threads of JAX's: a new worker costs little."""
PROCESSES.set_forkserver_preload(["benchmarks.faults"])


def not_a_number(x: Any) -> float:
    """Returns NaN."""
    del x
    return np.nan


def infinite(x: Any) -> float:
    """Returns +Inf."""
    del x
    return np.inf


def minus_infinite(x: Any) -> float:
    """Returns −Inf."""
    del x
    return -np.inf


def too_large(x: Any) -> float:
    """Returns a number that is infinite in single precision."""
    del x
    return 1e300


def hang(x: Any) -> float:
    """Comes long after the round is over."""
    time.sleep(3 * TIMEOUT)
    return value(x)


def returns(what: Any) -> Callable[[Any], Any]:
    """A function that returns what is no number."""
    return lambda x: what


def raises(error: BaseException) -> Callable[[Any], Any]:
    """A function that raises."""

    def call(x):
        raise error

    return call


ERRORS = (
    raises(ValueError("no value")),
    raises(OSError("no such simulator")),
    raises(TimeoutError("the service did not answer")),
    raises(SystemExit(3)),
    returns(None),
    returns("text"),
    returns([1.0, 2.0]),
)


def anywhere(rng: np.random.Generator, budget: int, size: int) -> set[int]:
    """A share of all calls."""
    del size
    return set(np.flatnonzero(rng.random(2 * budget) < SHARE).tolist())


def in_bursts(rng: np.random.Generator, budget: int, size: int) -> set[int]:
    """About half of the calls of some rounds: each such round costs the time-out."""
    first = rng.choice(budget - size, 4, replace=False)
    near = first[:, None] + np.arange(size)
    return set(near[rng.random(near.shape) < 0.5].tolist())


def one_a_round(rng: np.random.Generator, budget: int, size: int) -> set[int]:
    """Now and then a call, never two of a round even if all of the round is called again."""
    gaps = 2 * size + 1 + rng.integers(0, size, budget)
    return set(itertools.takewhile(lambda i: i < budget, np.cumsum(gaps).tolist()))


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of fault.

    Attributes:
      faults: what is called in place of the function, in turn.
      plan: the numbers of the calls that go wrong, of (generator, budget, points of a round).
      heals: whether the call is made again, so that no value is missing in the end.
      is_error: whether the library must count an error.
      processes: whether workers are processes.
      options: of `zo.minimize`.
    """

    faults: Sequence[Callable[..., Any]]
    plan: Callable[[np.random.Generator, int, int], set[int]] = anywhere
    heals: bool = False
    is_error: bool = True
    processes: bool = False
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


KINDS = {
    "NaN": Kind([not_a_number], is_error=False),
    "infinite": Kind([infinite, minus_infinite, too_large], is_error=False),
    "exception": Kind(ERRORS),
    "time-out": Kind([hang], in_bursts, options={"timeout": TIMEOUT}),
    "exception, called again": Kind(ERRORS, heals=True, options={"retries": 6}),
    "dead worker, replaced": Kind([die], one_a_round, heals=True, processes=True),
}


class Pools:
    """Makes pools in which the planned calls go wrong."""

    def __init__(self, kind: Kind, plan: set[int]):
        self.kind, self.plan = kind, plan
        self.calls = self.faults = 0

    def __call__(self) -> Executor:
        pool: Any
        if self.kind.processes:
            pool = ProcessPoolExecutor(2, mp_context=PROCESSES)
        else:
            pool = ThreadPoolExecutor(4 if "timeout" not in self.kind.options else 32)
        submit = pool.submit

        def other(fn, *args, **kwargs):
            if self.calls in self.plan:
                fn = self.kind.faults[self.faults % len(self.kind.faults)]
                self.faults += 1
            self.calls += 1
            return submit(fn, *args, **kwargs)

        pool.submit = other
        return pool


def measure(subject: Subject, name: str, seeds: Sequence[int], budget: int) -> Tally:
    """Runs with one kind of fault."""
    kind, tally = KINDS[name], Tally()
    size = subject.largest_round(budget)
    for seed in seeds[:2] if kind.processes else seeds:  # each death costs two new processes
        rng = np.random.default_rng([seed, *subject.name.encode(), *name.encode()])
        pools = Pools(kind, kind.plan(rng, budget, size))
        clean = subject.clean(seed, budget)

        def body(wrong, seed=seed, pools=pools, clean=clean):
            result = subject.minimize(seed, budget, executor=pools, **kind.options)
            missing = 0 if kind.heals else pools.faults
            known = zo.diagnostics(result.state)
            for what, found, want in (
                ("values missing", int(known.num_nonfinite), missing),
                ("errors", result.num_errors, missing if kind.is_error else 0),
                ("queries in the state", int(known.num_queries), result.num_queries),
                ("the best value", result.best_value, value(result.best_params)),
            ):
                if found != want:
                    wrong.append(f"wrong: {what}: {found}, not {want}")
            return result

        result = tally.run(body)
        tally.faults += pools.faults
        if result is None:
            continue
        if result.num_queries <= budget - size or not np.isfinite(result.params).all():
            tally.lose(f"ended after {result.num_queries} queries at {result.params}")
        elif kind.heals:
            tally.compare(result, clean)
        else:
            want = clean.value_after(result.num_queries - pools.faults)
            tally.ratios.append(ratio(seed, result.params, want))
    return tally
