"""The loop: budgets, reasons to stop, and runs that are made again from their journal."""

import concurrent.futures
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

START = {"x": np.zeros(5)}
pytestmark = pytest.mark.usefixtures("fast_compilation")


class Quadratic:
    """|x − 1|², that counts its calls and raises Ctrl-C at one of them."""

    def __init__(self, interrupt=None):
        self.calls, self.interrupt = 0, interrupt

    def __call__(self, p):
        self.calls += 1
        if self.calls == self.interrupt:
            raise KeyboardInterrupt
        return np.sum((p["x"] - 1) ** 2)


def make(rate=0.05, seed=0):
    return zo.zoar(rate, num_directions=4, radius=0.1, key=jax.random.key(seed))


ZOAR = make()
"""One for all tests: what is compiled for an optimiser is kept."""


def minimize(fun, max_queries=80, *, optimizer=ZOAR, start=START, **options):
    return zo.minimize(fun, start, optimizer, max_queries=max_queries, **options)


def same(a, b):
    """To the bit, in all that a run has."""
    for x, y in zip(jax.tree.leaves(zo.pack(a)), jax.tree.leaves(zo.pack(b)), strict=True):
        np.testing.assert_array_equal(x, y)


def test_it_is_the_loop_with_update():
    fun = Quadratic()
    result = minimize(fun)
    x, state = jax.tree.map(jnp.asarray, START), ZOAR.init(START)
    step = jax.jit(
        lambda x, s: ZOAR.update(None, s, x, value_fn=lambda p: jnp.sum((p["x"] - 1) ** 2))
    )
    for _ in range(20):
        updates, state = step(x, state)
        x = jax.tree.map(jnp.add, x, updates)
    np.testing.assert_allclose(result.params["x"], x["x"], rtol=1e-4, atol=1e-6)
    assert result.num_queries == fun.calls == zo.num_queries(result.state) == 80
    assert result.num_steps == 20 and result.reason == "budget" and result.num_errors == 0
    assert result.best_value == Quadratic()(result.best_params)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": 1.0}, "target"),
        ({"patience": 40}, "stalled"),
        ({"callback": lambda progress: progress.num_steps == 3}, "callback"),
    ],
)
def test_reasons_to_stop(options, reason):
    result = minimize(Quadratic(), 4000, **options)
    assert result.reason == reason and result.num_queries < 4000


def test_a_budget_is_never_exceeded():
    assert minimize(Quadratic(), 83).num_queries == 80
    with pytest.raises(ValueError, match="max_queries=3 is less than the first step needs: 4"):
        minimize(Quadratic(), 3)


def test_the_callback_sees_diagnostics():
    seen = []
    result = minimize(Quadratic(), callback=seen.append)
    assert [p.num_steps for p in seen] == list(range(1, 21))
    assert [int(p.diagnostics.num_queries) for p in seen] == list(range(4, 81, 4))
    assert seen[-1].best_value == result.best_value
    same(seen[-1].state, result.state)


def test_ctrl_c_gives_what_there_is():
    result = minimize(Quadratic(interrupt=30))
    assert result.reason == "interrupted" and result.num_queries == 28
    same(result.params, minimize(Quadratic(), 28).params)


def test_calls_that_fail_are_missing():
    fun = Quadratic()

    def fails(p):
        if fun.calls % 5 == 4:
            fun.calls += 1
            raise OSError("no such simulator")
        return fun(p)

    result = minimize(fails)
    assert result.num_errors == 16 == zo.diagnostics(result.state).num_nonfinite
    assert np.isfinite(result.best_value)
    with pytest.raises(RuntimeError, match="each call of the first round failed") as error:
        minimize(lambda p: 1 / 0)
    assert isinstance(error.value.__cause__, ZeroDivisionError)


def test_a_run_is_made_again_from_its_journal(tmp_path):
    """To the bit and without a call, and it goes on as if it had not been interrupted."""
    path, whole = tmp_path / "journal", minimize(Quadratic())
    first = Quadratic(interrupt=50)
    minimize(first, journal=path)
    second = Quadratic()
    result = minimize(second, journal=path)
    same((whole.params, whole.state), (result.params, result.state))
    assert second.calls == 80 - 48 and result.num_queries == 80
    assert (result.best_value, result.num_steps) == (whole.best_value, whole.num_steps)
    again = Quadratic()
    same(minimize(again, journal=path).state, whole.state)
    assert again.calls == 0


@pytest.mark.parametrize(
    "options",
    [
        {"target": 1.0},
        {"patience": 40},
        {"callback": lambda progress: progress.num_steps == 3},
    ],
    ids=["target", "patience", "callback"],
)
def test_a_run_that_ended_early_ends_there_again(tmp_path, options):
    path = tmp_path / "journal"
    first = minimize(Quadratic(), 4000, journal=path, **options)
    fun = Quadratic()
    again = minimize(fun, 4000, journal=path, **options)
    assert fun.calls == 0
    assert (again.reason, again.num_queries) == (first.reason, first.num_queries)
    same((first.params, first.state), (again.params, again.state))


def test_journals_of_other_runs_are_refused(tmp_path):
    path = tmp_path / "journal"
    minimize(Quadratic(), 8, journal=path)
    for options, name in (
        ({"optimizer": make(rate=0.1)}, "optimizer"),
        ({"optimizer": make(seed=1)}, "key and state"),
        ({"start": {"x": np.ones(5)}}, "start"),
    ):
        fun = Quadratic()
        with pytest.raises(ValueError, match=f"another run: it differs in {name}"):
            minimize(fun, journal=path, **options)
        assert fun.calls == 0


SCRIPT = """
import sys, jax, numpy as np, zovh_jax as zo
path, = sys.argv[1:]
optimizer = zo.zoar(0.05, num_directions=4, radius=0.1, key=jax.random.key(0))
def fun(p):
    print("call", flush=True)
    return np.sum((p["x"] - 1) ** 2)
zo.minimize(fun, {"x": np.zeros(5)}, optimizer, max_queries=10**6, journal=path)
"""


def test_a_killed_run_is_not_lost(tmp_path):
    path = tmp_path / "journal"
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},  # as here
    )
    assert process.stdout
    for _ in range(100):
        assert process.stdout.readline() == "call\n"
    process.kill()
    process.communicate()
    lines = path.read_bytes().split(b"\n")
    num_rounds = len(lines) - 2
    assert num_rounds >= 24 and json.loads(lines[1][9:])[0] == 0
    fun = Quadratic()
    result = minimize(fun, 4 * num_rounds + 4, journal=path)
    assert fun.calls <= 8  # one round may have been torn
    same(result.params, minimize(Quadratic(), 4 * num_rounds + 4).params)


def test_an_outage_ends_the_run_and_is_not_in_the_journal(tmp_path):
    path, fun, down = tmp_path / "journal", Quadratic(), True

    def simulate(p):
        if down and fun.calls >= 8:
            raise OSError("no licence")
        return fun(p)

    result = minimize(simulate, journal=path)
    assert (result.reason, result.num_queries, result.num_errors) == ("failed", 8, 12)
    down = False
    same(minimize(simulate, journal=path).state, minimize(Quadratic()).state)
    assert fun.calls == 80


def test_the_state_is_one_that_the_optimiser_takes():
    """A budget that ends between a step's two questions leaves the state before that step."""

    def twice(updates, state, params, *, value_fn):
        first = value_fn(params)
        second = jax.lax.cond(first > 0, lambda: value_fn(0.5 * params), lambda: first)
        return -0.1 * second * params, {"num_queries": state["num_queries"] + 2}

    optimizer = optax.GradientTransformationExtraArgs(
        lambda params: {"num_queries": jnp.zeros((), jnp.int32)}, twice
    )
    result = zo.minimize(np.sum, np.ones(2), optimizer, max_queries=3)
    assert (result.num_queries, result.num_steps) == (3, 1)
    assert result.state == {"num_queries": 2}


def test_noise_that_the_seeds_fix_is_common_to_a_step(tmp_path):
    seeds = []

    def noisy(p, key):
        seeds.append(tuple(key))
        return np.sum((p["x"] - 1) ** 2) + np.random.default_rng(key).normal(scale=100)

    result = minimize(noisy, 400)
    assert len(set(seeds)) == 100 and all(seeds.count(seed) == 4 for seed in set(seeds))
    assert np.sum((result.params["x"] - 1) ** 2) < 1


@pytest.mark.parametrize("max_pending", [1, 2])
def test_a_run_goes_on_from_a_state(max_pending, tmp_path):
    """As if it had never ended, seeds and all; its journal is that of no new run."""
    seeds = []

    def noisy(p, key):
        seeds.append(tuple(key))
        return np.sum((p["x"] - 1) ** 2) + 0.1 * np.random.default_rng(key).normal()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        how = {"executor": pool, "max_pending": max_pending}
        first = minimize(noisy, 40, **how)
        how |= {"start": first.params, "journal": tmp_path / "run"}
        second = minimize(noisy, 40, state=first.state, **how)
        assert second.num_queries == 40 and zo.num_queries(second.state) == 80
        assert len(set(seeds)) == 20
        with pytest.raises(ValueError, match="key and state"):
            minimize(noisy, **how)
    if max_pending == 1:
        same(second.state, minimize(noisy, 80).state)


def test_batched_and_pools():
    want = minimize(Quadratic())
    batched = minimize(lambda p: np.sum((p["x"] - 1) ** 2, 1), batched=True)
    np.testing.assert_allclose(batched.params["x"], want.params["x"], rtol=1e-4)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        same(minimize(Quadratic(), executor=pool).params, want.params)


def test_progress_is_shown(capsys):
    minimize(Quadratic(), progress=True)
    assert "80" in capsys.readouterr().err
