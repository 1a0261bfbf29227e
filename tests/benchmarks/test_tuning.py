"""Runs at equal queries, and the search for a learning rate."""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from benchmarks.common import grid, tuning
from benchmarks.common.methods import METHODS, Method, Setting
from benchmarks.common.tuning import Runs, Task, Trial, each, one_run, runner, spread, tune

pytestmark = pytest.mark.usefixtures("fast_compilation")
D = 5
bowl = zo.problems.quadratic()


def task(budget=50, checkpoints=4, **changes):
    plain = Task(
        query=lambda x, key, spent, level: bowl(x),
        measure=lambda x, spent, level: bowl(x),
        start=lambda key: jax.random.normal(key, (D,)),
        dimension=D,
        curvature=1.0,
        budget=budget,
        checkpoints=checkpoints,
    )
    return dataclasses.replace(plain, **changes)


def test_a_run_is_the_plain_loop():
    method, setting = METHODS["zo_sgd"], Setting(num_directions=4)
    outcome = runner(method, setting, task())([3], [0.05])

    start_key, method_key, _ = jax.random.split(jax.random.key(3), 3)
    params, expected = jax.random.normal(start_key, (D,)), []
    optimizer = method.make(0.05, method_key, setting)
    state = optimizer.init(params)
    step = jax.jit(lambda s, x: optimizer.update(None, s, x, value_fn=bowl))
    for allowed in (0, 12, 25, 38, 50):  # five queries a step
        while int(zo.num_queries(state)) + 5 <= allowed:
            updates, state = step(state, params)
            params = optax.apply_updates(params, updates)
        expected.append(float(bowl(params)))
    np.testing.assert_allclose(outcome.values, [expected], rtol=1e-4)
    assert outcome.spent.tolist() == [50]


def test_the_budget_is_never_exceeded():
    outcome = runner(METHODS["hizoo"], Setting(), task(budget=20))([0, 1], [1e-2, 1e-3])
    assert outcome.values.shape == (2, 5)
    assert outcome.spent.tolist() == [18, 18]  # three a step


class Twice(NamedTuple):
    """State of `looks_twice`."""

    num_queries: jax.Array


def looks_twice(rate, key, setting):
    """An optimiser that asks a second query where the first value is above 1."""

    def update(updates, state, params, *, value_fn):
        value = value_fn(params)
        ask, more = value > 1, lambda: value_fn(params / 2)
        value = jax.lax.cond(ask, more, lambda: value)
        return -rate * value * params, Twice(state.num_queries + 1 + ask)

    return optax.GradientTransformationExtraArgs(lambda params: Twice(jnp.int32(0)), update)


def test_runs_are_those_of_vmap_without_the_queries_that_no_run_asks():
    method, asked = Method("twice", looks_twice, lambda setting: 2), []

    def query(x, key, spent, level):
        jax.debug.callback(lambda x: asked.append(1), x)
        return bowl(x)

    counted, seeds, rates = task(query=query), [0, 1, 2, 3], [0.3, 0.1, 0.03, 0.01]
    outcome = runner(method, Setting(), counted)(seeds, rates)
    jax.effects_barrier()
    assert len(asked) == outcome.spent.sum()
    assert outcome.spent.min() < outcome.spent.max()

    asked.clear()
    pairs = jnp.asarray(seeds, jnp.uint32), jnp.asarray(rates)
    together = jax.jit(jax.vmap(one_run(method, Setting(), counted), (0, 0, None)))
    values, spent = together(*pairs, 0.0)
    jax.effects_barrier()
    np.testing.assert_allclose(outcome.values, values, rtol=1e-5)
    np.testing.assert_array_equal(outcome.spent, spent)
    assert len(asked) > spent.sum()


def test_runs_that_are_made_at_once_are_the_same():
    """Seven of them three at a time: the last group is filled up."""
    seeds, rates = [0, 1, 2, 3, 4, 5, 6], [0.1, 0.01, 0.1, 0.02, 0.03, 0.04, 0.05]
    setting, method = Setting(num_directions=4), METHODS["scalar_newton"]
    alone = runner(method, setting, task(test=jnp.sum))(seeds, rates)
    at_once = runner(method, setting, task(test=jnp.sum, together=3))(seeds, rates)
    np.testing.assert_allclose(at_once.values, alone.values, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(at_once.tested, alone.tested, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(at_once.spent, alone.spent)


def test_steps_see_the_level_the_queries_spent_and_new_keys():
    # The objective leaks what it gets into a value that moves the parameters measurably.
    told = task(
        budget=12,
        checkpoints=3,
        query=lambda x, key, spent, level: level * spent * jnp.sum(x),
        measure=lambda x, spent, level: jnp.sum(x) + 1000 * spent,
    )
    run = runner(METHODS["mezo"], Setting(), told)
    still, moving = run([0], [1.0], 0.0), run([0], [1.0], 1.0)
    sums = still.values - 1000 * np.arange(0, 13, 4)
    np.testing.assert_allclose(sums, np.broadcast_to(sums[:, :1], sums.shape), atol=2e-3)
    assert np.ptp(moving.values - still.values) > 0.1

    noise = task(
        budget=4,
        checkpoints=1,
        query=lambda x, key, spent, level: jax.random.normal(key) * jnp.sum(x),
    )
    first, second = runner(METHODS["mezo"], Setting(), noise)([0, 1], [1.0, 1.0]).values
    assert first[1] != second[1]


def as_runs(finals):
    """Runs from a start at 99 to these values."""
    values = np.stack([np.full(len(finals), 99.0), finals], 1)
    return Runs(values, np.zeros(len(finals)), ~(finals <= 99))


def fake(best, seen, narrow=math.inf):
    """Runs whose score is the distance of log10(rate) from ``best``; above ``narrow``, infinite."""

    def run(seeds, rates, level):
        seen.extend(zip(seeds, rates, strict=True))
        score = np.abs(np.log10(rates) - best)
        score = np.where(np.log10(rates) > narrow, np.nan, score)
        return as_runs(score)

    return run


@pytest.mark.parametrize("best", [-4.0, -3.75, -2.5, -1.9, -1.0, 0.6, 1.0])
def test_the_grid_grows_until_the_best_is_inside(best):
    seen = []
    found = tune(task(), fake(best, seen), centre=-4, level=0.0, seeds=1)
    assert found["interior"]
    assert abs(math.log10(found["learning_rate"]) - best) <= 0.125 + 1e-5
    scores = {row["rate"]: row["score"] for row in found["grid"]}
    rates = sorted(scores)
    i = rates.index(found["learning_rate"])
    assert scores[rates[i]] <= min(scores[rates[i - 1]], scores[rates[i + 1]])
    assert rates[i + 1] / rates[i - 1] < 10 ** (0.5 + 1e-6)  # quarter decades beside the best
    assert {seed for seed, _ in seen} == set(tuning.tuning_seeds())


def test_rates_that_diverge_lose_and_are_counted():
    found = tune(task(), fake(0.0, [], narrow=-3.2), centre=-4, level=0.0, seeds=2)
    assert found["learning_rate"] == pytest.approx(10**-3.25, rel=1e-5)
    assert found["interior"]
    above = [row for row in found["grid"] if row["rate"] > 10**-3.2]
    assert above and all(row["score"] is None and row["diverged"] == 2 for row in above)


def test_a_rate_above_one_that_diverged_is_not_trusted():
    def lucky(seeds, rates, level):
        score = np.abs(np.log10(rates))  # best at 1, but 0.3 diverges
        score = np.where(np.abs(np.log10(rates) + 0.5) < 0.1, np.nan, score)
        return as_runs(score)

    found = tune(task(), lucky, centre=0, level=0.0, seeds=1)
    assert found["learning_rate"] == pytest.approx(10**-0.75, rel=1e-5)


def test_a_method_that_only_gets_worse_is_left_at_the_edge():
    def hopeless(seeds, rates, level):
        return as_runs(100 + np.asarray(rates))

    found = tune(task(), hopeless, centre=0, level=0.0, seeds=1)
    assert not found["interior"]
    assert len(found["grid"]) <= grid.LONGEST + 5


def test_reported_runs_have_their_own_seeds():
    seen = []
    trial = Trial(METHODS["zoar_1"], Setting(), task())
    trial.run = trial.attempt = fake(-1.0, seen)
    entry = trial.measure([0, 1, 2])
    tuned, reported = seen[:-3], seen[-3:]
    assert {seed for seed, _ in tuned} == set(tuning.tuning_seeds())
    assert reported == [(seed, entry["learning_rate"]) for seed in (0, 1, 2)]

    seen.clear()
    entry = trial.measure([4], learning_rate=0.5)
    assert seen == [(4, 0.5)] and "grid" not in entry and "interior" not in entry


def test_rates_are_chosen_without_the_test():
    tested = dataclasses.replace(task(), test=lambda params: jnp.float32(7))
    trial = Trial(METHODS["zoar_1"], Setting(), tested)
    assert trial.attempt([0], [0.01]).tested is None
    np.testing.assert_array_equal(trial.run([0], [0.01]).tested, 7)


def test_what_is_reported():
    trial = Trial(METHODS["zoar_1"], Setting(), task())
    entry = trial.measure([0, 1, 2], learning_rate=0.01)
    assert entry["queries_per_step"] == 3 and entry["queries_spent"] == 48
    assert entry["curve"]["queries"] == [0, 12, 25, 38, 50]
    assert entry["curve"]["median"][-1] == entry["final"]["median"]
    assert entry["final"]["least"] == min(entry["final"]["each"])
    assert entry["score"] == entry["final"]


def test_the_answers_are_tested_where_the_task_says_how():
    plain = Trial(METHODS["zoar_1"], Setting(), task()).measure([0, 1], learning_rate=0.01)
    assert "test" not in plain
    tested = task(test=lambda x: 1 - 2 * bowl(x))
    entry = Trial(METHODS["zoar_1"], Setting(), tested).measure([0, 1], learning_rate=0.01)
    expected = [1 - 2 * value for value in entry["final"]["each"]]
    np.testing.assert_allclose(entry["test"]["each"], expected, rtol=1e-4)


def test_a_run_that_is_lost_counts_as_infinite():
    assert each(np.asarray([3.0, np.nan, 1.0])) == {
        "median": 3.0,
        "least": 1.0,
        "most": None,
        "each": [3.0, None, 1.0],
    }
    assert spread(np.asarray([np.inf, np.nan, 1.0]))["median"] == math.inf


def test_a_run_has_diverged_above_the_worst_that_the_task_allows():
    # A rate of zero stands still; one of −0.1 climbs.
    worst = {"worst": lambda first, level: level * first}
    run = runner(METHODS["zo_sgd"], Setting(), task(budget=12, checkpoints=1, **worst))
    for level, lost in ((1.0, [False, True]), (1e3, [False, False]), (0.5, [True, True])):
        assert run([0, 0], [0.0, -0.1], level).diverged.tolist() == lost
    nowhere = task(
        budget=12, checkpoints=1, measure=lambda x, spent, level: jnp.log(-jnp.sum(x**2))
    )
    assert runner(METHODS["zo_sgd"], Setting(), nowhere)([0], [0.0]).diverged.tolist() == [True]
