"""Several rounds asked at a time."""

import concurrent.futures
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.oracles.run import Run

pytestmark = pytest.mark.usefixtures("fast_compilation")
OPTIMIZER = zo.zoar(0.05, num_directions=4, radius=0.1, key=jax.random.key(0))
MASKED = {"a": jnp.zeros(3), "n": jnp.arange(2)}


def value(x):
    return np.sum((x - 1) ** 2, -1)


def started(max_pending=3, optimizer=OPTIMIZER, x=jnp.zeros(4)):
    run = Run(optimizer, x, max_pending)
    for _ in range(max_pending):
        run.ask(10**6)
    return run


def test_each_round_has_directions_of_its_own():
    run = started()
    points = np.concatenate([run.pending[i].asked.points for i in range(3)])
    assert len(np.unique(points[:, 0])) == 12
    run.told(1, value(points[4:8]))
    fourth = run.ask(10**6)
    assert not set(np.asarray(fourth.asked.points)[:, 0] - float(run.params[0])) & set(points[:, 0])


def test_rounds_in_order_without_delay_are_the_usual_steps():
    """A pending round that is told at once has no staleness: nothing is lost by max_pending."""
    run, plain = Run(OPTIMIZER, jnp.zeros(4), 2), Run(OPTIMIZER, jnp.zeros(4), 1)
    for i in range(6):
        for each in (run, plain):
            asked = each.ask(10**6).asked
            each.told(i, value(np.asarray(asked.points)))
    np.testing.assert_array_equal(run.params, plain.params)
    for x, y in zip(*(zo.pack(r.state).values() for r in (run, plain)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_late_round_is_used_along_its_own_directions():
    """Told last, it moves θ as far along its own directions as it would have moved it first."""
    optimizer = zo.zo_sgd(0.01, num_directions=4, radius=0.1, key=jax.random.key(0))
    first, last = started(optimizer=optimizer), started(optimizer=optimizer)
    values = {i: value(np.asarray(each.asked.points)) for i, each in first.pending.items()}
    first.told(0, values[0])
    for i in (2, 1):
        last.told(i, values[i])
    before = last.params
    last.told(0, values[0])
    share = last.weight(2, 5)
    np.testing.assert_allclose(last.params - before, share * first.params, rtol=1e-4, atol=1e-7)


def test_late_steps_are_shorter_where_they_would_oscillate():
    run = started(x=jnp.zeros(20))
    assert run.weight(0, 1) == run.weight(0, 100) == 1
    assert run.weight(3, 4) == 1 and run.weight(3, 20) == 0.5
    many = Run(OPTIMIZER, jnp.zeros(20), 16)
    rng = np.random.default_rng(0)
    for _ in range(300):
        while len(many.pending) < 16:
            many.ask(10**6)
        i = rng.choice(sorted(many.pending))
        many.told(i, value(np.asarray(many.pending[i].asked.points)))
    assert value(np.asarray(many.params)) < 1  # from 20


def test_frozen_numbers_do_not_count_for_that():
    directions = zo.directions.masked(zo.directions.gaussian(), {"a": True, "n": False})
    optimizer = zo.zo_sgd(
        0.05, num_directions=4, radius=0.1, key=jax.random.key(0), directions=directions
    )
    run = started(2, optimizer, {"a": jnp.zeros(3), "n": jnp.zeros(10_000)})
    assert run.size == 3


def test_without_an_executor_calls_stay_one_after_the_other():
    with pytest.raises(ValueError, match="max_pending=2 needs an executor"):
        zo.minimize(value, np.zeros(4), OPTIMIZER, max_queries=100, max_pending=2)


def test_frozen_leaves_stay():
    directions = zo.directions.masked(zo.directions.gaussian(), {"a": True, "n": False})
    optimizer = zo.zo_sgd(
        0.05, num_directions=4, radius=0.1, key=jax.random.key(0), directions=directions
    )
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        options = {"max_queries": 40, "max_pending": 2, "executor": pool}
        result = zo.minimize(lambda p: value(p["a"]) + p["n"][0], MASKED, optimizer, **options)
    np.testing.assert_array_equal(result.params["n"], [0, 1])
    assert np.any(result.params["a"] != 0)


@pytest.mark.parametrize(
    "optimizer",
    [
        zo.scalar_newton(4, 0.1, key=jax.random.key(0)),
        zo.zo_sah(0.1, num_subspaces=1, radius=0.1, key=jax.random.key(0)),
        zo.zoar(
            0.1,
            num_directions=4,
            radius=0.1,
            key=jax.random.key(0),
            reuse=zo.reuse.importance(),
        ),
    ],
    ids=["scalar_newton", "zo_sah", "importance"],
)
def test_optimisers_that_compare_rounds_refuse(optimizer):
    with pytest.raises(ValueError, match=r"max_pending=2: this optimiser compares each round"):
        Run(optimizer, jnp.zeros(4), 2)


class Uneven:
    """Calls of the first round wait until there were sixteen."""

    def __init__(self):
        self.calls, self.lock, self.go = 0, threading.Lock(), threading.Event()

    def __call__(self, x, key):
        with self.lock:
            self.calls += 1
            if self.calls == 16:
                self.go.set()
        if key[-1] == 0:
            assert self.go.wait(20)
        return value(x)


def test_workers_go_on_while_others_are_late_and_the_journal_keeps_their_order(tmp_path):
    path, fun = tmp_path / "journal", Uneven()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        options = {"optimizer": OPTIMIZER, "executor": pool, "max_pending": 3, "journal": path}
        first = zo.minimize(fun, np.zeros(4), max_queries=60, **options)
        assert first.num_queries == 60 and first.num_steps == 15
        assert not path.read_text().splitlines()[1][9:].startswith("[0,")
        # The rounds that are pending at the end of the shorter run were asked at other times.
        again = Uneven()
        second = zo.minimize(again, np.zeros(4), max_queries=60, **options)
    assert again.calls == 0
    for x, y in zip(*(zo.pack(r.state).values() for r in (first, second)), strict=True):
        np.testing.assert_array_equal(x, y)
    np.testing.assert_array_equal(first.params, second.params)
    fewer = zo.minimize(again, np.zeros(4), max_queries=30, **options)
    assert (fewer.num_queries, fewer.reason, again.calls) == (32, "budget", 0)
    with pytest.raises(ValueError, match="it differs in max_pending"):
        zo.minimize(again, np.zeros(4), max_queries=60, **options | {"max_pending": 2})
