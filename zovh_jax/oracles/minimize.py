"""The loop for objectives outside JAX: ask, call, tell, until the queries are spent."""

import dataclasses
import importlib.util
import os
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax import _checks
from zovh_jax._types import PyTree
from zovh_jax.diagnostics import Diagnostics, diagnostics
from zovh_jax.evaluators.randomness import parameters_of, wants_key
from zovh_jax.oracles.ask_tell import Asked, Midway, ask, program_of, tell
from zovh_jax.oracles.calls import Calls, OnError, Pool
from zovh_jax.oracles.journal import Journal, identity
from zovh_jax.transforms import num_queries


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
      reason: why it ended: "budget", "target", "stalled", "callback" or "interrupted".
      state: the optimiser's, to go on with.
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
      max_queries: the most calls; no step is begun that would need more.
      executor, batched, on_error, timeout, retries: as for `zo.from_host`.
      journal: a file that every value is written to before it is used. If it is there, the run is
        made again from it, to the bit and without a call, and goes on. It survives the death of the
        process at any instant, and is refused by another optimiser, key or start.
      callback: called after each step with `Progress`; the run ends where it returns something
        true.
      progress: shows a progress bar, with tqdm if that is installed.
      target: the run ends with the first value that is not above it.
      patience: the run ends when so many queries brought no better value.

    Returns:
      `Result`. After Ctrl-C too, with what there is by then.

    Raises:
      ValueError: for arguments out of range, naming them, a journal of another run or a damaged
        one, an optimiser that asks nothing.
      RuntimeError: if each call of the first step failed, from the exception of the first.

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
    params = jax.tree.map(jnp.asarray, params)
    run = _Run(optimizer, params, keyed=wants_key(parameters_of(fun)))
    book = None
    if journal is not None:
        book = Journal(journal, identity(program_of(optimizer, run.state, params), *run.start))
    bar = _Bar(max_queries) if progress else None
    reason = "budget"
    try:
        for ticket, values in book.entries if book else ():
            run.told(run.ask(), np.asarray(values), ticket)
        while run.num_queries < max_queries:
            asked = run.ask()
            if run.num_queries + asked.num_points > max_queries:
                if not run.num_queries:
                    raise ValueError(
                        f"max_queries={max_queries} is less than the first step needs: "
                        f"{asked.num_points}."
                    )
                break
            values = calls.values(run.points(asked, batched), asked.num_points)
            if calls.num_errors == run.num_queries + asked.num_points:
                raise RuntimeError(
                    f"all {asked.num_points} calls of the first step failed."
                ) from calls.first_error
            if book:
                book.append(asked.ticket, values)
            stepped = run.told(asked, values, asked.ticket)
            if bar:
                bar.show(run)
            if target is not None and run.best_value <= target:
                reason = "target"
                break
            if patience is not None and run.num_queries - run.best_at >= patience:
                reason = "stalled"
                break
            if stepped and callback and callback(run.progress()):
                reason = "callback"
                break
    except KeyboardInterrupt:
        reason = "interrupted"
    finally:
        calls.close()
        if book:
            book.close()
        if bar:
            bar.close()
    return Result(
        run.params,
        run.best_params,
        run.best_value,
        run.num_queries,
        run.num_steps,
        calls.num_errors,
        reason,
        run.state,
    )


class _Run:
    """A run at some step, and the best that it met."""

    def __init__(self, optimizer: optax.GradientTransformation, params: PyTree, *, keyed: bool):
        self.optimizer, self.params, self.keyed = optimizer, params, keyed
        self.state = optimizer.init(params)
        self.start = self.state, params
        self.best_value, self.best_params, self.best_at = np.inf, jax.device_get(params), 0
        self.num_queries = self.num_steps = 0

    def ask(self) -> Asked:
        return ask(self.optimizer, self.state, self.params)

    def points(self, asked: Asked, batched: bool) -> list[tuple[PyTree, dict[str, Any]]]:
        """The arguments of each call, in arrays of its own."""
        points = jax.device_get(asked.points)
        extra = {"key": self._seed()} if self.keyed else {}
        if batched:
            return [(jax.tree.map(np.array, points), extra)]
        rows = range(asked.num_points)
        return [(jax.tree.map(lambda x, i=i: np.array(x[i]), points), extra) for i in rows]

    def _seed(self) -> np.ndarray:
        """Of this step: the same where it is asked again."""
        state = self.state.state if isinstance(self.state, Midway) else self.state
        key = optax.tree.get_all_with_path(state, "key")[0][1]
        words = np.asarray(jax.random.key_data(key)).reshape(-1)
        return np.append(words, np.asarray(num_queries(state), np.uint32))

    def told(self, asked: Asked, values: np.ndarray, ticket: int) -> bool:
        """Goes on with these values; whether they made a step."""
        if (ticket, len(values)) != (asked.ticket, asked.num_points):
            raise ValueError(
                f"the journal has {len(values)} values with the ticket {ticket} where the "
                f"optimiser asks for {asked.num_points} with {asked.ticket}: it is that of "
                "another run."
            )
        updates, state = tell(self.optimizer, self.state, self.params, asked, values)
        stepped = not isinstance(state, Midway)
        params = _applied(self.params, updates) if stepped else self.params
        finite = np.where(np.isfinite(values), values, np.inf)
        best = int(np.argmin(finite))
        point = None
        if finite[best] < self.best_value:
            point = jax.device_get(jax.tree.map(lambda x: x[best], asked.points))
        jax.block_until_ready((params, state))
        # All at once: an interrupt leaves the run before the step or after it.
        self.params, self.state = params, state
        self.num_queries += asked.num_points
        self.num_steps += stepped
        if point is not None:
            self.best_value, self.best_params = float(finite[best]), point
            self.best_at = self.num_queries
        return stepped

    def progress(self) -> Progress:
        return Progress(
            self.num_steps,
            diagnostics(self.state),
            self.params,
            self.state,
            self.best_value,
            self.best_params,
        )


_applied = jax.jit(optax.apply_updates)


class _Bar:
    """A progress bar over the queries: tqdm's, or a line on stderr."""

    def __init__(self, total: int):
        self.total, self.bar = total, None
        if importlib.util.find_spec("tqdm"):
            self.bar = importlib.import_module("tqdm.auto").tqdm(total=total, unit="query")

    def show(self, run: _Run) -> None:
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
