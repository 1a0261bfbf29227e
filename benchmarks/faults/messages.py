"""Values that are told twice, too late, or in another order."""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo
from benchmarks.faults.subjects import Subject, Tally, bits, ratio, read, start, write
from benchmarks.faults.workers import value
from zovh_jax.oracles.run import Run, compares_rounds

MAX_PENDING = 3
applied = jax.jit(optax.apply_updates)


def by_hand(
    subject: Subject,
    seed: int,
    budget: int,
    arranged: Callable[[list[float]], Any] = lambda values: values,
    after: Callable[..., None] = lambda *told: None,
) -> Any:
    """A run by ask and tell.

    Args:
      subject, seed, budget: of the run.
      arranged: the values as they are told.
      after: called after each step with the state, the parameters and what was told before.
    """
    optimizer, params = subject.optimizer, jnp.asarray(start(seed))
    state = optimizer.init(params)
    told: list[tuple[Any, list[float]]] = []
    while True:
        asked = zo.ask(optimizer, state, params)
        if asked.ticket + asked.num_points > budget:
            return SimpleNamespace(params=params, state=state)
        values = [value(x) for x in np.asarray(asked.points)]
        updates, state = zo.tell(optimizer, state, params, asked, arranged(values))
        params = applied(params, updates)
        told.append((asked, values))
        after(state, params, told)


def same_end(tally: Tally, found: Any, clean: Any) -> None:
    """Counts a run by hand as off that is not the loop's to the bit."""
    if found is not None:
        both = [zo.pack((x.params, x.state)) for x in (found, clean.result)]
        if any(x.tobytes() != y.tobytes() for x, y in zip(*map(dict.values, both), strict=True)):
            tally.off += 1
            tally.notes.append("off: the end is not the clean run's")


def refused(tally: Tally, subject: Subject, wrong: list[str], *args: Any) -> None:
    """Tells values that must be refused."""
    tally.faults += 1
    try:
        zo.tell(subject.optimizer, *args)
    except ValueError:
        return
    wrong.append("wrong: values of another time were taken")


def told_twice(subject: Subject, seeds: Sequence[int], budget: int, folder: str) -> Tally:
    """The values of each step once more after it, and lines of a journal twice."""
    tally = Tally()
    for seed in seeds:

        def body(wrong, seed=seed):
            def again(state, params, told):
                refused(tally, subject, wrong, state, params, *told[-1])

            return by_hand(subject, seed, budget, after=again)

        same_end(tally, tally.run(body), subject.clean(seed, budget))
    path = os.path.join(folder, "doubled")
    subject.minimize(seeds[0], budget, journal=path)
    lines = read(path).splitlines(keepends=True)

    def doubled(wrong):
        for i in range(1, len(lines), max(1, len(lines) // 5)):
            write(path, b"".join([*lines[: i + 1], *lines[i:]]))
            tally.faults += 1
            try:
                subject.minimize(seeds[0], budget, journal=path)
            except ValueError:
                continue
            wrong.append("wrong: a journal with a line twice was taken")

    tally.run(doubled)
    return tally


def told_late(subject: Subject, seeds: Sequence[int], budget: int) -> Tally:
    """Values of an earlier step, told to each later state."""
    tally = Tally()
    for seed in seeds:
        rng = np.random.default_rng(seed)

        def body(wrong, seed=seed, rng=rng):
            def earlier(state, params, told):
                if len(told) > 1:
                    old = told[rng.integers(len(told) - 1)]
                    refused(tally, subject, wrong, state, params, *old)

            return by_hand(subject, seed, budget, after=earlier)

        same_end(tally, tally.run(body), subject.clean(seed, budget))
    return tally


def told_in_another_order(subject: Subject, seeds: Sequence[int], budget: int) -> Tally:
    """The values of each step as a dict whose order is random."""
    tally = Tally()
    for seed in seeds:
        rng = np.random.default_rng(seed)

        def shuffled(values, rng=rng):
            tally.faults += 1
            return {int(i): values[i] for i in rng.permutation(len(values))}

        def body(wrong, seed=seed, shuffled=shuffled):
            return by_hand(subject, seed, budget, shuffled)

        same_end(tally, tally.run(body), subject.clean(seed, budget))
    return tally


def rounds_out_of_order(
    subject: Subject, seeds: Sequence[int], budget: int, folder: str
) -> Tally | None:
    """Rounds whose values take random times, three at a time; then again from the journal.

    The steps depend on the order, so that the end is compared as one with missing values is, with
    that of as many rounds at a time that come in order; but from the journal it must come out to
    the bit. None for optimisers that refuse.
    """
    tally = Tally()
    if compares_rounds(subject.optimizer.init(jnp.asarray(start(0)))):
        return None
    options: dict[str, Any] = {"max_pending": MAX_PENDING}
    for seed in seeds:
        options["journal"] = path = os.path.join(folder, f"pending-{seed}")

        def slow(x, key, seed=seed):
            time.sleep(np.random.default_rng([seed, *key]).choice([0, 0.04]))  # by round
            return value(x)

        def body(wrong, seed=seed, slow=slow):
            calls = []
            with ThreadPoolExecutor(32 * MAX_PENDING) as pool:
                found = subject.minimize(seed, budget, slow, executor=pool, **options)
                again = subject.minimize(seed, budget, calls.append, executor=pool, **options)
            if calls:
                wrong.append("wrong: a run was not made again from its journal alone")
            if bits(found) != bits(again):
                tally.off += 1
                tally.notes.append("off: from the journal it ends elsewhere")
            return found

        found = tally.run(body)
        tally.faults += out_of_order(path)
        if found is not None:
            want = value(in_order(subject, seed, budget))
            tally.ratios.append(ratio(seed, found.params, want))
    return tally


def in_order(subject: Subject, seed: int, budget: int) -> Any:
    """The last parameters where as many rounds are asked at a time, and the oldest is told."""
    run = Run(subject.optimizer, jnp.asarray(start(seed)), MAX_PENDING)
    while True:
        while len(run.pending) < MAX_PENDING and run.ask(budget):
            pass
        if not run.pending:
            return run.params
        oldest = min(run.pending)
        points = np.asarray(run.pending[oldest].asked.points)
        run.told(oldest, np.asarray([value(x) for x in points]))


def out_of_order(path: str) -> int:
    """How many rounds of a journal were told before an earlier one."""
    numbers = [json.loads(line[9:])[0] for line in read(path).splitlines()[1:]]
    return sum(any(late < n for late in numbers[i + 1 :]) for i, n in enumerate(numbers))
