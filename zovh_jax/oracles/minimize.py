"""The loop for objectives outside JAX: ask, call, tell, until the queries are spent."""

import dataclasses
import importlib.util
import math
import os
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax import _checks
from zovh_jax._types import PyTree
from zovh_jax.diagnostics import Diagnostics, diagnostics
from zovh_jax.evaluators.randomness import parameters_of, wants_key
from zovh_jax.oracles.ask_tell import program_of
from zovh_jax.oracles.calls import Calls, OnError, Pool
from zovh_jax.oracles.from_host import bare
from zovh_jax.oracles.journal import Journal, identity
from zovh_jax.oracles.run import Round, Run

OUTAGES = 3
"""How often a round is called in which each call failed, before the run ends."""


class Progress(NamedTuple):
    """What a callback is given after each step.

    Attributes:
      num_steps: steps taken.
      diagnostics: what is known about the run; see `zo.diagnostics`.
      params, state: after the step.
      best_value: the least value met so far.
      best_params: where.
    """

    num_steps: int
    diagnostics: Diagnostics
    params: PyTree
    state: Any
    best_value: float
    best_params: PyTree


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run gave.

    Attributes:
      params: the last parameters.
      best_params: the point of the least value, a perturbed one mostly; numpy arrays.
      best_value: that value; where values are noisy it owes much to luck.
      num_queries: calls of the function, failed ones and those in the journal with them.
      num_steps: steps taken.
      num_errors: calls of this process that raised, were late or lost.
      reason: why it ended: "budget", "target", "stalled", "callback", "interrupted", or "failed"
        where each call of a round failed, three times over. Such a round is not in the journal: run
        the program again when the function works again.
      state: the optimiser's after the last step, to go on with.
    """

    params: PyTree
    best_params: PyTree
    best_value: float
    num_queries: int
    num_steps: int
    num_errors: int
    reason: str
    state: Any


def minimize(
    fun: Callable[..., Any],
    params: PyTree,
    optimizer: optax.GradientTransformation,
    *,
    max_queries: int,
    state: Any = None,
    executor: Pool = None,
    batched: bool = False,
    journal: str | os.PathLike | None = None,
    callback: Callable[[Progress], Any] | None = None,
    progress: bool = False,
    target: float | None = None,
    patience: int | None = None,
    on_error: OnError = "nan",
    timeout: float | None = None,
    retries: int = 0,
    max_pending: int = 1,
) -> Result:
    """Minimises a Python function that JAX cannot trace, with any optimiser.

    The points of a round are called side by side if there is an executor. Whatever happens to a
    call, the run goes on: its value counts as missing.

    Args:
      fun: maps a tree like params, of numpy arrays that are its own, to a number. If it has a
        parameter ``key`` it gets a seed, uint32 numbers for ``numpy.random.default_rng``, the same
        for all calls of a step, so that noise that does not depend on θ cancels.
      params: where to start.
      optimizer: any optimiser of this library, or a chain with one in it.
      max_queries: the most calls; no round is asked that would need more.
      state: the optimiser's, to go on from: an earlier `Result`'s, with its ``params``, or a saved
        one. Counts, budgets and the best value are those of this run alone. A new state by default.
      executor, batched, on_error, timeout, retries: as for `zo.from_host`.
      journal: a file that every value is written to before it is used. If it is there, the run is
        made again from it, to the bit and without a call, and goes on. It survives the death of the
        process at any instant, and is refused by another optimiser, key or start. (Optimisers are
        compared by the programs that JAX makes of them: not after a change of JAX's version.)
      callback: called after each step with `Progress`, those made again from the journal too; the
        run ends where it returns something true.
      progress: shows a progress bar, with tqdm if that is installed.
      target: the run ends with the first value that is not above it.
      patience: the run ends when so many queries brought no better value.
      max_pending: the most rounds that are asked at a time. From 2 on workers of uneven speed are
        kept busy: a step is taken as soon as one round is complete, and the next round is asked.
        Steps of rounds that are late are shorter where they have to be. Optimisers that compare
        rounds (those without a learning rate, ZO-SAH) refuse it.

    Returns:
      `Result`. After Ctrl-C too, with what there is by then; calls that wait are not made any more.
      Values are rounded to JAX's precision, float32 unless ``jax_enable_x64``: where they are large
      beside their differences, subtract a constant.

    Raises:
      ValueError: for arguments out of range, naming them, a journal of another run or a damaged
        one, an optimiser that asks nothing.
      RuntimeError: if each call of the first round failed, from the exception of the first.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, zovh_jax as zo
      >>> from concurrent.futures import ThreadPoolExecutor
      >>> simulate = lambda p: np.sum((p["x"] - 1) ** 2)
      >>> optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(0), noise=0)
      >>> with ThreadPoolExecutor(8) as pool:
      ...     result = zo.minimize(
      ...         simulate, {"x": np.zeros(4)}, optimizer, max_queries=200, executor=pool
      ...     )
      >>> result.num_queries, result.best_value < 1e-3
      (198, True)
    """
    _checks.positive_int("max_queries", max_queries)
    _checks.positive_int("max_pending", max_pending)
    if patience is not None:
        _checks.positive_int("patience", patience)
    calls = Calls(
        fun,
        executor=executor,
        on_error=on_error,
        timeout=timeout,
        retries=retries,
        batched=batched,
    )
    if max_pending > 1 and executor is None:
        raise ValueError(
            f"max_pending={max_pending} needs an executor: without one, calls are made one after "
            "the other."
        )
    params = jax.tree.map(_strong, params)
    run = Run(optimizer, params, max_pending, state)
    values = _Values(calls, max_pending, keyed=wants_key(parameters_of(fun)))
    book = None
    if journal is not None:
        who = identity(program_of(optimizer, *run.start), *run.start)
        book = Journal(journal, who | {"max_pending": str(max_pending)})
    bar = _Bar(max_queries) if progress else None
    entries = list(book.entries) if book else []
    # A journal that has more than the budget was asked under a larger one.
    more = sum(len(told) for _, told in entries) > max_queries
    limit = math.inf if more else max_queries
    reason = "budget"

    def finished(stepped: bool) -> str | None:
        if target is not None and run.best_value <= target:
            return "target"
        if patience is not None and run.num_queries - run.best_at >= patience:
            return "stalled"
        if stepped and callback and callback(_progress(run)):
            return "callback"
        return None

    try:
        while True:
            while len(run.pending) < max_pending and run.ask(limit):
                pass
            if not run.pending or run.num_queries >= max_queries:
                break
            if entries:
                number, told = entries.pop(0)
                told = np.asarray(told)
            else:
                number, told = values.next(run)
                if told is None:
                    reason = "failed"
                    break
                if book:
                    book.append(number, told)
            stepped = run.told(number, told)
            if bar:
                bar.show(run)
            if (ending := finished(stepped)) is not None:
                reason = ending
                break
    except KeyboardInterrupt:
        reason = "interrupted"
    finally:
        values.close()
        if book:
            book.close()
        if bar:
            bar.close()
    return Result(
        run.params,
        jax.device_get(bare(run.best_params)),
        run.best_value,
        run.num_queries,
        run.num_steps,
        calls.num_errors,
        reason,
        run.state_between,
    )


class _Values:
    """Values of rounds: of one at a time, or of whichever comes first."""

    def __init__(self, calls: Calls, max_pending: int, *, keyed: bool):
        self.calls, self.keyed = calls, keyed
        self.threads = None
        if max_pending > 1:  # each waits for the calls of one round
            self.threads = ThreadPoolExecutor(max_pending, thread_name_prefix="zovh_jax")
        self.futures: dict[int, Future] = {}

    def next(self, run: Run) -> tuple[int, np.ndarray | None]:
        """The number of a round that is complete, and its values; None where all calls failed."""
        if self.threads is None:
            (here,) = run.pending.values()
            number, values = here.number, self._of(here)
        else:
            for each in run.pending.values():
                if each.number not in self.futures:
                    self.futures[each.number] = self.threads.submit(self._of, each)
            wait(self.futures.values(), return_when=FIRST_COMPLETED)
            number = min(i for i, future in self.futures.items() if future.done())
            values = self.futures.pop(number).result()
        if values is None and run.num_queries == 0:
            raise RuntimeError(
                "each call of the first round failed; the first one raised what is above."
            ) from self.calls.first_error
        return number, values

    def _of(self, here: Round) -> np.ndarray | None:
        points = here.calls(keyed=self.keyed, batched=self.calls.batched)
        for _ in range(OUTAGES):
            values, num_failed = self.calls.values(points, here.asked.num_points)
            if num_failed < len(points):
                return values
        return None

    def close(self) -> None:
        """Lets go of the threads, without waiting for calls that are under way."""
        if self.threads is not None:
            self.threads.shutdown(wait=False, cancel_futures=True)
        self.calls.close()


def _strong(x: Any) -> Any:
    """A leaf as an array whose dtype is its own, so that the first step's program serves all."""
    x = jnp.asarray(x)
    return x if jnp.issubdtype(x.dtype, jax.dtypes.extended) else jnp.asarray(x, x.dtype)


_diagnostics = jax.jit(diagnostics)


def _progress(run: Run) -> Progress:
    return Progress(
        run.num_steps,
        _diagnostics(run.state),
        run.params,
        run.state_between,
        run.best_value,
        run.best_params,
    )


class _Bar:
    """A progress bar over the queries: tqdm's, or a line on stderr."""

    def __init__(self, total: int):
        self.total, self.bar = total, None
        if importlib.util.find_spec("tqdm"):
            self.bar = importlib.import_module("tqdm.auto").tqdm(total=total, unit="query")

    def show(self, run: Run) -> None:
        if self.bar is not None:
            self.bar.set_postfix(best=f"{run.best_value:.4g}", refresh=False)
            self.bar.update(run.num_queries - self.bar.n)
        else:
            line = f"\r{run.num_queries}/{self.total} queries, best {run.best_value:.4g}"
            print(line, end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        else:
            print(file=sys.stderr)


__all__ = ["Progress", "Result", "minimize"]
