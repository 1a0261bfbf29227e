"""Calls that raise, hang or lose their worker."""

import concurrent.futures
import logging
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from workers import SPAWN, square_or_die

from zovh_jax.oracles.calls import Calls


def values(calls, xs):
    return calls.values([(x, {}) for x in xs], len(xs))[0]


def square(x):
    return x * x


def test_values_in_order_with_and_without_a_pool():
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for executor in (None, pool, lambda: concurrent.futures.ThreadPoolExecutor(2)):
            calls = Calls(square, executor=executor)
            np.testing.assert_array_equal(values(calls, [3, 1, 2]), [9, 1, 4])
            calls.close()


def test_batched():
    calls = Calls(lambda x: np.square(x), batched=True)
    np.testing.assert_array_equal(calls.values([(np.arange(4), {})], 4)[0], [0, 1, 4, 9])
    calls = Calls(lambda x: 1.0, batched=True)
    assert np.isnan(calls.values([(np.arange(4), {})], 4)[0]).all() and calls.num_errors == 1


@pytest.mark.parametrize("pool", [None, lambda: concurrent.futures.ThreadPoolExecutor(2)])
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3)])
def test_an_exception_is_nan_and_logged_once(pool, error, caplog):
    def fails(x):
        if x % 2:
            raise error
        return x

    calls = Calls(fails, executor=pool)
    with caplog.at_level(logging.WARNING, "zovh_jax"):
        got = values(calls, [0, 1, 2, 3])
    np.testing.assert_array_equal(got, [0, np.nan, 2, np.nan])
    assert calls.num_errors == 2 and calls.first_error is error
    assert len(caplog.records) == 1 and caplog.records[0].exc_info
    assert "fails failed, and its value counts as missing" in caplog.text
    calls.close()


def test_what_is_no_number_is_an_error():
    calls = Calls(lambda x: x)
    got = values(calls, [1.0, "a", None, [1, 2], np.ones((1, 1))])
    np.testing.assert_array_equal(got, [1, np.nan, np.nan, np.nan, 1])
    assert calls.num_errors == 3


def test_retries():
    seen = []

    def flaky(x):
        seen.append(x)
        if seen.count(x) < 3:
            raise OSError
        return x

    assert np.isnan(values(Calls(flaky, retries=1), [1])).all()
    seen.clear()
    calls = Calls(flaky, retries=2)
    np.testing.assert_array_equal(values(calls, [1, 2]), [1, 2])
    assert calls.num_errors == 0


def test_on_error_raise():
    calls = Calls(lambda x: 1 / x, on_error="raise")
    with pytest.raises(ZeroDivisionError):
        values(calls, [1, 0])


def test_a_time_out_of_the_functions_own_is_called_again():
    """As that of a service that does not answer; it is an exception like any other."""
    errors = iter([TimeoutError("no answer")])

    def asks(x):
        for error in errors:
            raise error
        return x

    calls = Calls(asks, retries=1)
    np.testing.assert_array_equal(values(calls, [1, 2]), [1, 2])
    assert calls.num_errors == 0


@pytest.mark.parametrize("pool", [None, lambda: concurrent.futures.ThreadPoolExecutor(2)])
def test_late_values_are_missing_and_their_pool_is_replaced(pool):
    stop, threads = threading.Event(), set()

    def hangs(x):
        threads.add(threading.current_thread())
        if x == 1:
            stop.wait(10)
        return x

    calls = Calls(hangs, executor=pool, timeout=0.3)
    start = time.monotonic()
    got = values(calls, [2, 1])
    assert time.monotonic() - start < 5
    np.testing.assert_array_equal(got, [2, np.nan])
    assert isinstance(calls.first_error, TimeoutError)
    np.testing.assert_array_equal(values(calls, [3, 4]), [3, 4])  # on other threads
    stop.set()
    calls.close()
    for thread in threads:
        thread.join(10)


def test_a_dead_worker_is_replaced(tmp_path):
    make = lambda: concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN)  # noqa: E731
    calls = Calls(square_or_die, executor=make)
    points = [(str(tmp_path / "died"), x) for x in range(4)]
    np.testing.assert_array_equal(values(calls, points), [0, 1, 4, 9])
    assert calls.num_errors == 0
    calls.close()


def test_a_point_that_always_kills_its_worker_is_lost_alone():
    make = lambda: concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN)  # noqa: E731
    calls = Calls(square_or_die, executor=make)
    got = values(calls, [("", x) for x in range(4)])
    np.testing.assert_array_equal(got, [0, 1, np.nan, 9])
    assert calls.num_errors == 1
    calls.close()


def test_a_broken_pool_of_the_callers_gives_nan_and_says_what_to_do(tmp_path, caplog):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        calls = Calls(square_or_die, executor=pool)
        points = [(str(tmp_path / "died"), x) for x in (2, 3)]
        assert np.isnan(values(calls, points)).all()
        assert np.isnan(values(calls, points)).all()
    assert calls.num_errors == 4
    assert "pass a function that makes one as executor" in caplog.text


def test_after_an_interrupt_nothing_that_waits_is_called():
    seen = []

    def note(x):
        seen.append(x)
        time.sleep(0.1)

    class Interrupts(Calls):
        def _wait(self, futures, deadline):
            raise KeyboardInterrupt

    with concurrent.futures.ThreadPoolExecutor(1) as pool, pytest.raises(KeyboardInterrupt):
        values(Interrupts(note, executor=pool), range(40))
    assert len(seen) <= 2


def test_closing_ends_a_round_that_waits():
    go = threading.Event()
    calls = Calls(lambda x: go.wait(20), executor=lambda: concurrent.futures.ThreadPoolExecutor(1))
    waiting = threading.Thread(target=values, args=(calls, range(40)))
    waiting.start()
    time.sleep(0.1)
    calls.close()
    waiting.join(10)
    assert not waiting.is_alive()
    go.set()


SCRIPT = """
import time
from concurrent.futures import ProcessPoolExecutor
from workers import SPAWN
from zovh_jax.oracles.calls import Calls
for pool in (None, lambda: ProcessPoolExecutor(1, mp_context=SPAWN)):
    calls = Calls(time.sleep, executor=pool, timeout=0.2)
    calls.values([(1000, {})], 1)
    calls.close()
print("done")
"""


def test_calls_that_hang_do_not_keep_the_process_alive():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "done\n", done.stderr


def test_a_pool_that_refuses_gives_nan():
    class Refuses(concurrent.futures.Executor):
        def submit(self, fn, /, *args, **kwargs):
            raise OSError("no more processes")

    calls = Calls(square, executor=Refuses())
    assert np.isnan(values(calls, [1, 2])).all() and calls.num_errors == 2
    with pytest.raises(TypeError, match="it made 3"):
        values(Calls(square, executor=lambda: 3), [1])


class DaskLike(concurrent.futures.ThreadPoolExecutor):
    """Its shutdown is that of Dask's executor."""

    def shutdown(self, wait=True):
        super().shutdown(wait)


def test_pools_whose_shutdown_cancels_by_itself():
    calls = Calls(square, executor=lambda: DaskLike(1))
    np.testing.assert_array_equal(values(calls, [3]), [9])
    calls.close()


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_error": "zero"}, ValueError, 'on_error must be "nan" or "raise"'),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"retries": -1}, ValueError, "retries must be an integer from 0 on"),
        ({"executor": 3}, TypeError, "executor must be one of concurrent.futures"),
    ],
)
def test_wrong_arguments_raise(options, error, message):
    with pytest.raises(error, match=message):
        Calls(square, **options)


def test_a_function_must_be_callable():
    with pytest.raises(TypeError, match="must be callable"):
        Calls(3)
