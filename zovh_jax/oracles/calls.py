"""Calls of a Python function, which may fail, hang or lose its worker."""

import logging
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future, wait
from typing import Any, Literal, TypeAlias

import numpy as np

from zovh_jax import _checks

logger = logging.getLogger("zovh_jax")

Pool: TypeAlias = Executor | Callable[[], Executor] | None
"""Where calls run: an executor, or a function that makes one; None for one after the other."""
LOOK_UP = 0.5
"""Seconds after which one that waits looks whether all is over."""
OnError: TypeAlias = Literal["nan", "raise"]


class _TooLateError(TimeoutError):
    """A call is over its time: unlike one that raised a TimeoutError it is not made again."""


class Calls:
    """A function with the rules for what may go wrong.

    Args:
      fn: gives a number; with ``batched`` a vector of them.
      executor: an executor of ``concurrent.futures``, or a function that makes one. That of a
        function is replaced where it broke, or where calls that are too late still occupy it.
      on_error: "nan", or "raise" to pass on the first exception.
      timeout: the seconds that the calls of a round may take together, the start of workers with
        them; None for no limit. Late calls go on in their threads; processes of a pool that was
        made here are killed.
      retries: how many times more a call is made that raised an exception.
      batched: whether one call takes all points.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        *,
        executor: Pool = None,
        on_error: OnError = "nan",
        timeout: float | None = None,
        retries: int = 0,
        batched: bool = False,
    ):
        if not callable(fn):
            raise TypeError(f"the function must be callable, got {fn!r}.")
        if on_error not in ("nan", "raise"):
            raise ValueError(f'on_error must be "nan" or "raise", got {on_error!r}.')
        if timeout is not None:
            _checks.positive("timeout", timeout)
        if not isinstance(retries, int) or retries < 0:
            raise ValueError(f"retries must be an integer from 0 on, got {retries!r}.")
        if not (executor is None or isinstance(executor, Executor) or callable(executor)):
            raise TypeError(
                "executor must be one of concurrent.futures, or a function that makes one, got "
                f"{executor!r}."
            )
        if executor is None and timeout is not None:
            executor = OneThread
        self.fn, self.on_error, self.timeout, self.retries = fn, on_error, timeout, retries
        self.batched = batched
        self.num_errors = 0
        self.first_error: BaseException | None = None
        self._make = None if isinstance(executor, Executor) else executor
        self._executor = executor if isinstance(executor, Executor) else None
        self._lock = threading.Lock()
        self._waiting: set[Future] = set()
        self._closed = False

    def values(
        self, points: Sequence[tuple[Any, dict[str, Any]]], num_values: int
    ) -> tuple[np.ndarray, int]:
        """The values of all points, [num_values], NaN for what failed; how many calls failed.

        Args:
          points: positional argument and keyword arguments of each call: one for each value, or a
            single one with ``batched``.
          num_values: how many values there are.
        """
        each = num_values if self.batched else 1
        values = np.full((len(points), each), np.nan)
        deadline = math.inf if self.timeout is None else time.monotonic() + self.timeout
        todo, attempts = list(range(len(points))), self.retries + 1
        spare = self._make is not None  # calls that were lost with others' worker are made again
        lost: dict[int, BaseException] = {}
        while todo and attempts and not self._closed:
            results, broken = self._round([points[i] for i in todo], each, deadline)
            for i, result in zip(todo, results, strict=True):
                lost.pop(i, None)
                if isinstance(result, BaseException):
                    lost[i] = result
                else:
                    values[i] = result
            attempts -= not (broken and spare)
            spare &= not broken
            todo = [i for i in todo if i in lost and not isinstance(lost[i], _TooLateError)]
        for i, error in list(lost.items()):
            # One of these kills its worker, and the others with it: alone it is lost alone.
            if self._make is not None and isinstance(error, (BrokenExecutor, CancelledError)):
                (result,), _ = self._round([points[i]], each, deadline)
                if not isinstance(result, BaseException):
                    values[i] = result
                    del lost[i]
        for error in lost.values() if not self._closed else ():
            self._failed(error)
        return values.reshape(-1), len(lost)

    def _round(self, points, num_values, deadline) -> tuple[list[Any], bool]:
        """Values or exceptions of one call for each of the points; whether the pool broke."""
        if self._executor is None and self._make is None:
            return [self._here(point, num_values) for point in points], False
        executor = self._pool()
        results: list[Any] = [None] * len(points)
        futures: dict[Future, int] = {}
        try:
            for i, (args, kwargs) in enumerate(points):
                try:
                    futures[executor.submit(self.fn, args, **kwargs)] = i
                except Exception as error:  # broken, shut down, or out of processes
                    results[i] = error
            done, late = self._wait(set(futures), deadline)
        finally:  # after an interrupt, nothing that waits in a queue is called any more
            running = [not future.cancel() for future in futures if not future.done()]
        for future in done:
            results[futures[future]] = _result(future, num_values)
        for future in late:
            results[futures[future]] = _TooLateError(f"no value within {self.timeout} seconds")
        broken = any(isinstance(x, (BrokenExecutor, CancelledError)) for x in results)
        # Another round may have let go of the pool meanwhile.
        broken |= executor is not self._executor and any(
            isinstance(x, RuntimeError) for x in results
        )
        if broken or any(running):
            self._forget(executor)
        return results, broken

    def _wait(self, futures: set[Future], deadline: float) -> tuple[set[Future], set[Future]]:
        """Those that are done, and those that are not by the deadline or when all is closed."""
        with self._lock:
            self._waiting |= futures
        done: set[Future] = set()
        late = futures
        while late and not self._closed and (left := deadline - time.monotonic()) > 0:
            more, late = wait(late, timeout=min(left, LOOK_UP))
            done |= more
        with self._lock:
            self._waiting -= futures
        return done, late

    def _here(self, point: tuple[Any, dict[str, Any]], num_values: int) -> Any:
        args, kwargs = point
        try:
            return numbers(self.fn(args, **kwargs), num_values)
        except (Exception, SystemExit) as error:
            return error

    def _pool(self) -> Executor:
        with self._lock:
            if self._executor is None:
                assert self._make is not None
                made = self._make()
                if not isinstance(made, Executor):
                    raise TypeError(
                        "executor must be a function that makes an executor of "
                        f"concurrent.futures; it made {made!r}."
                    )
                self._executor = made
            return self._executor

    def _forget(self, executor: Executor) -> None:
        """Lets go of a pool that can be made again, and of processes that would go on for ever."""
        with self._lock:
            if self._make is None or executor is not self._executor:
                return
            self._executor = None
        processes = list((getattr(executor, "_processes", None) or {}).values())
        executor.shutdown(wait=False)
        for process in processes:  # a thread cannot be stopped, a process can
            process.kill()

    def _failed(self, error: BaseException) -> None:
        """Counts an error, and tells of it: in full of the first, which is kept."""
        with self._lock:
            self.num_errors += 1
            first = self.first_error is None
            if first:
                self.first_error = error
        if self.on_error == "raise":
            raise error
        name = getattr(self.fn, "__name__", repr(self.fn))
        hint = ""
        if isinstance(error, BrokenExecutor) and self._make is None:
            hint = " A pool that broke stays so: pass a function that makes one as executor."
        level = logging.WARNING if first else logging.DEBUG
        message = "%s failed, and its value counts as missing: %r.%s"
        told = (type(error), error, error.__traceback__) if first else None
        logger.log(level, message, name, error, hint, exc_info=told)

    def close(self) -> None:
        """Ends what waits, and shuts down a pool that was made here."""
        self._closed = True
        with self._lock:
            for future in self._waiting:
                future.cancel()
            executor = self._executor
        if self._make is not None and executor is not None:
            executor.shutdown(wait=False)


def numbers(value: Any, num_values: int) -> np.ndarray:
    """What a function returned, as [num_values] floats.

    Raises:
      TypeError: for anything else.
    """
    array = None if value is None else np.asarray(value, np.float64)
    if array is None or array.size != num_values:
        raise TypeError(f"it must return {num_values} real number(s), got {value!r}.")
    return array.reshape(num_values)


def _result(future: Future, num_values: int) -> Any:
    try:
        return numbers(future.result(), num_values)
    except (Exception, SystemExit) as error:
        return error


class OneThread(Executor):
    """Calls one after the other, in a thread that does not keep the process alive if it hangs."""

    def __init__(self) -> None:
        self._tasks: queue.SimpleQueue = queue.SimpleQueue()
        threading.Thread(target=self._run, name="zovh_jax", daemon=True).start()

    def submit(self, fn, /, *args, **kwargs):
        """As ``concurrent.futures`` has it."""
        future: Future = Future()
        self._tasks.put((future, fn, args, kwargs))
        return future

    def shutdown(self, wait=True, *, cancel_futures=False):
        """Ends the thread after what was submitted."""
        del wait, cancel_futures
        self._tasks.put(None)

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            future, fn, args, kwargs = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(error)


__all__ = ["Calls", "OnError", "Pool", "numbers"]
