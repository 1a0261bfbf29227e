"""Calls of a Python function, which may fail, hang or lose its worker."""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor, wait
from typing import Any, Literal, TypeAlias

import numpy as np

from zovh_jax import _checks

logger = logging.getLogger("zovh_jax")

Pool: TypeAlias = Executor | Callable[[], Executor] | None
"""Where calls run: an executor, or a function that makes one; None for one after the other."""
OnError: TypeAlias = Literal["nan", "raise"]


class Calls:
    """A function with the rules for what may go wrong.

    Args:
      fn: gives a number; with ``batched`` a vector of them.
      executor: an executor of ``concurrent.futures``, or a function that makes one. That of a
        function is replaced where it broke, or where calls that are too late still occupy it.
      on_error: "nan", or "raise" to pass on the first exception.
      timeout: the seconds that the calls of a round may take together, None for no limit. Calls
        that are late are not stopped, only forgotten.
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
            executor = _one_thread
        self.fn, self.on_error, self.timeout, self.retries = fn, on_error, timeout, retries
        self.batched = batched
        self.num_errors = 0
        self.first_error: BaseException | None = None
        self._make = None if isinstance(executor, Executor) else executor
        self._executor = executor if isinstance(executor, Executor) else None
        self._lock = threading.Lock()

    def values(self, points: Sequence[tuple[Any, dict[str, Any]]], num_values: int) -> np.ndarray:
        """The values of all points, [num_values]; NaN for what failed.

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
        while todo and attempts:
            results, broken = self._round([points[i] for i in todo], each, deadline)
            for i, result in zip(todo, results, strict=True):
                lost.pop(i, None)
                if isinstance(result, BaseException):
                    lost[i] = result
                else:
                    values[i] = result
            attempts -= not (broken and spare)
            spare &= not broken
            todo = [i for i in todo if i in lost and not isinstance(lost[i], TimeoutError)]
        for error in lost.values():
            self._failed(error)
        return values.reshape(-1)

    def _round(self, points, num_values, deadline) -> tuple[list[Any], bool]:
        """Values or exceptions of one call for each of the points; whether the pool broke."""
        if self._executor is None and self._make is None:
            return [self._here(point, num_values) for point in points], False
        executor = self._pool()
        results: list[Any] = [None] * len(points)
        futures: dict[Future, int] = {}
        for i, (args, kwargs) in enumerate(points):
            try:
                futures[executor.submit(self.fn, args, **kwargs)] = i
            except (BrokenExecutor, RuntimeError) as error:  # broken, or shut down
                results[i] = error
        left = None if deadline == math.inf else max(deadline - time.monotonic(), 0)
        done, late = wait(futures, timeout=left)
        for future in done:
            results[futures[future]] = _result(future, num_values)
        stuck = [not future.cancel() for future in late]
        for future in late:
            results[futures[future]] = TimeoutError(f"no value within {self.timeout} seconds")
        broken = any(isinstance(x, BrokenExecutor) for x in results)
        if broken or any(stuck):
            self._forget(executor)
        return results, broken

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
                self._executor = self._make()
            return self._executor

    def _forget(self, executor: Executor) -> None:
        """Lets go of a pool that can be made again."""
        with self._lock:
            if self._make is None or executor is not self._executor:
                return
            self._executor = None
        try:
            executor.shutdown(wait=False, cancel_futures=True)
        except TypeError:  # that of Dask takes no such argument, and cancels anyway
            executor.shutdown(wait=False)

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
        """Shuts down a pool that was made here."""
        if self._make is not None and self._executor is not None:
            self._forget(self._executor)


def numbers(value: Any, num_values: int) -> np.ndarray:
    """What a function returned, as [num_values] floats.

    Raises:
      TypeError: for anything else.
    """
    array = np.asarray(np.nan if value is None else value, np.float64)
    if value is None or array.size != num_values:
        raise TypeError(f"it must return {num_values} real number(s), got {value!r}.")
    return array.reshape(num_values)


def _result(future: Future, num_values: int) -> Any:
    try:
        return numbers(future.result(), num_values)
    except (Exception, SystemExit) as error:
        return error


def _one_thread() -> Executor:
    return ThreadPoolExecutor(1, thread_name_prefix="zovh_jax")


__all__ = ["Calls", "OnError", "Pool", "numbers"]
