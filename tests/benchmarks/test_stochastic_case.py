"""The stochastic case, with everything small, and its tables by hand."""

import argparse
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from benchmarks import stochastic
from benchmarks.common.methods import Setting
from benchmarks.stochastic import experiment
from benchmarks.stochastic.contenders import CONTENDERS, FIXED, kind_of
from benchmarks.stochastic.problem import ALL, of_runs
from benchmarks.stochastic.supervised import least_squares
from benchmarks.stochastic.tables import ratios, summary

pytestmark = pytest.mark.usefixtures("fast_compilation")


def toy(size):
    """A bowl around random points, as a game whose return is its negative."""
    problem = of_runs(
        "toy",
        lambda key: jnp.ones(2),
        lambda x, key: jnp.sum(jnp.square(x - jax.random.normal(key, (2,)))),
        size,
        num_held_out=64,
        measure="return",
    )
    return dataclasses.replace(problem, test=lambda x: -problem.full(x))


SETTING = Setting(num_directions=4, radius=0.01)
TINY = {
    "least_squares": experiment.Part(
        ((functools.partial(least_squares, dimension=4, num_examples=16), (2, ALL)),),
        ("zo_sgd", "poem"),
        60,
        SETTING,
        num_tuning_seeds=1,
    ),
    "pendulum": experiment.Part(
        ((toy, (2,)),), ("zo_sgd",), 30, SETTING, num_tuning_seeds=1, bounded=True
    ),
}


def test_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", TINY)
    stochastic.run(argparse.Namespace(full=False, only=None, methods=None, out=tmp_path))
    result = json.loads((tmp_path / "stochastic.json").read_text())
    printed = capsys.readouterr().out
    assert (tmp_path / "stochastic.png").stat().st_size > 10_000
    for text in stochastic.tables(result).values():
        assert text in printed
    squares = result["parts"]["least_squares"]
    assert [(row["method"], row["batch"]) for row in squares["rows"]] == [
        ("zo_sgd", "batch 2"), ("zo_sgd", "all"), ("poem", "batch 2"), ("poem", "all")
    ]  # fmt: skip
    assert all(row["queries_spent"] <= 60 for row in squares["rows"])
    assert not set(squares["tuning_seeds"]) & set(squares["seeds"])
    (game,) = result["parts"]["pendulum"]["rows"]
    assert game["test"]["median"] == pytest.approx(-game["final"]["median"], rel=1e-5)


def test_some_parts_and_methods():
    whole = experiment.FULL
    some = experiment.chosen(whole, ["mnist", "cartpole"], ["openai_es", "mezo"])
    assert {name: part.methods for name, part in some.items()} == {
        "mnist": ("mezo",), "cartpole": ("mezo", "openai_es")
    }  # fmt: skip
    assert experiment.chosen(whole, None, None) == whole
    with pytest.raises(ValueError, match="only must name parts"):
        out = {"methods": None, "out": None}
        stochastic.run(argparse.Namespace(full=False, only=["mnist"], **out))


def test_rows_of_other_methods_are_kept():
    def rows(*names, value=0.0):
        return [row(problem, name, value) for problem in ("a", "b") for name in names]

    old = {"budget": 60, "rows": rows("zo_sgd", "fzoo", "poem", value=1.0)}
    new = {"budget": 60, "rows": rows("fzoo", "zo_adam", value=2.0)}
    found = [
        (row["problem"], row["method"], row["final"]["median"])
        for row in experiment.merged(new, old)["rows"]
    ]
    each = [("zo_sgd", 1.0), ("zo_adam", 2.0), ("fzoo", 2.0), ("poem", 1.0)]
    assert found == [(problem, *other) for problem in ("a", "b") for other in each]
    assert experiment.merged(new, old | {"budget": 30}) == new
    assert experiment.merged(new, None) == new


def test_the_level_is_the_batch_size():
    part = TINY["least_squares"]
    problem = part.problems[0][0](2)
    task = experiment.task_of(problem, part)
    x, key = jnp.arange(4.0), jax.random.key(3)
    ask = jax.jit(lambda level: task.query(x, key, 0, level))
    np.testing.assert_allclose(ask(jnp.float32(0)), problem.full(x), rtol=1e-6)
    assert ask(jnp.float32(1)) == pytest.approx(float(problem.batch(key, 1)(x)), rel=1e-6)
    assert ask(jnp.float32(2)) == pytest.approx(float(problem.batch(key)(x)), rel=1e-6)


def test_methods_that_change_the_radius_have_the_first_one():
    part = experiment.FULL["least_squares"]
    for name, method in CONTENDERS.items():
        assert method.tuned == (kind_of(name) != "no learning rate")
        assert part.setting_of(name).radius == (0.01 if method.tuned or name in FIXED else 0.1)


def test_a_game_in_which_all_look_farther():
    part = experiment.FULL["pendulum_three"]
    assert {part.setting_of(name).radius for name in part.methods} == {3.0}
    assert part.budget == experiment.FULL["pendulum"].budget
    assert part.problems[0][0](1).name == "Pendulum, μ = 3"


SLOW = [
    pytest.param(name, marks=pytest.mark.slow) for name in ("diagonal_newton", "low_rank_newton")
]


@pytest.mark.parametrize("name", ["zo_adam", "mechanic", "zoar_hadamard", "scalar_newton", *SLOW])
def test_steps_cost_what_they_declare(name):
    """On values that another batch changes, so that noise is found: at most, and in the end so.

    `low_rank_newton` may ask two values more where noise is found during a probe; here it is not.
    """
    method, setting = CONTENDERS[name], Setting(num_directions=8)
    optimizer, params = method.make(1e-3, jax.random.key(0), setting), jnp.ones(16)

    @jax.jit
    def run(params):
        def step(carry, key):
            params, state = carry
            shift = jax.random.normal(key, (16,))
            updates, new = optimizer.update(
                None, state, params, value_fn=lambda x: jnp.sum(jnp.square(x - 3 * shift))
            )
            spent = zo.num_queries(new) - zo.num_queries(state)
            return (optax.apply_updates(params, updates), new), spent

        keys = jax.random.split(jax.random.key(1), 60)
        return jax.lax.scan(step, (params, optimizer.init(params)), keys)[1]

    spared = 2 if name == "low_rank_newton" else 0
    assert max(run(params).tolist()) == method.queries(setting) - spared


def test_adam_on_true_gradients_is_optaxs():
    method, x = CONTENDERS["adam"], jnp.array([1.0, -2.0])
    optimizer = method.make(0.1, jax.random.key(0), SETTING)
    state = optimizer.init(x)
    updates, state = optimizer.update(None, state, x, value_fn=lambda x: jnp.sum(x**2))
    expected, _ = optax.adam(0.1).update(2 * x, optax.adam(0.1).init(x))
    np.testing.assert_allclose(updates, expected, rtol=1e-6)
    assert zo.num_queries(state) == method.queries(SETTING) == 5


def row(problem, method, final, diverged=0):
    values = {"median": final, "least": final, "most": final, "each": [final] * 3}
    label = CONTENDERS[method].label
    return {
        "problem": problem, "batch": "all", "method": method, "label": label,
        "kind": kind_of(method), "final": values, "diverged": diverged if final else 3,
    }  # fmt: skip


def cells(table):
    return [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()[2:]]


def test_a_lost_rival_is_no_rival():
    rows = [
        row("a", "zo_sgd", 1e-9, diverged=2), row("a", "mezo", None), row("a", "fzoo", 2.0),
        row("a", "poem", 1e-9, diverged=2), row("a", "scalar_newton", 3.0, diverged=1),
        row("b", "zo_sgd", None), row("b", "fzoo", 1e9, diverged=3), row("b", "poem", 1.0),
    ]  # fmt: skip
    assert cells(ratios(rows)) == [["a, all", "FZOO", "2", "1", "∞", "1.5"]]
    found = {line[0]: line[1:] for line in cells(summary({"mnist": rows}))}
    assert found["scalar Newton"][:4] == ["all: 1", "0 (0%)", "0 (0%)", "0 (0%)"]
    assert found["POEM, last iterate"][:4] == ["all: 1", "0 (0%)", "0 (0%)", "0 (0%)"]


def test_ratios_and_their_summary():
    rows = []
    for problem, newton, poem in (("a", 1.05, 1.2), ("b", 0.9, 2.0), ("c", None, 1.0)):
        finals = {
            "zo_sgd": 2.0, "fzoo": 1.0, "hizoo": 0.1, "adam": 0.01,
            "scalar_newton": newton, "poem": poem, "poem_average": None,
        }  # fmt: skip
        rows += [row(problem, method, final) for method, final in finals.items()]

    assert cells(ratios(rows)) == [
        ["a, all", "FZOO", "1", "1", "1.05", "1.2", "∞"],
        ["b, all", "FZOO", "1", "1", "0.9", "2", "∞"],
        ["c, all", "FZOO", "1", "1", "∞", "1", "∞"],
    ]
    found = {line[0]: line[1:] for line in cells(summary({"mnist": rows}))}
    assert found["scalar Newton"] == [
        "all: 3", "2 (67%)", "2 (67%)", "1 (33%)", "2 (67%)", "1 (33%)"
    ]  # fmt: skip
    assert found["POEM, last iterate"] == ["all: 3", "1 (33%)", "2 (67%)", "0 (0%)", "", "0 (0%)"]
