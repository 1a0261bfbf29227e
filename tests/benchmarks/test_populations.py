"""The populations case, with everything small."""

import argparse
import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import populations
from benchmarks.__main__ import main
from benchmarks.common import grid, programs
from benchmarks.populations import contenders, experiment, network, spread
from benchmarks.populations.network import Batch, Sizes

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = Sizes((4,), batch=2, pairs=2)
BATCH = Batch(jnp.ones((2, 784)) * jnp.array([[0.1], [0.2]]), jnp.array([3, 7]))


@pytest.mark.parametrize(
    "one", [contenders.ours()[1], contenders.evosax()], ids=lambda one: one.library
)
def test_a_step_asks_the_population_and_descends(one, monkeypatch):
    asked, loss = [], network.loss

    def counted(params, batch):
        value = loss(params, batch)
        jax.debug.callback(lambda v: asked.append(np.size(v)), value)
        return value

    monkeypatch.setattr(network, "loss", counted)
    steps = one.make(0.01, TINY)
    params = network.init(jax.random.key(0), TINY.hidden)
    carry, step = steps.start(params, jax.random.key(1)), jax.jit(steps.step)
    for _ in range(30):
        carry = step(carry, BATCH)
    jax.effects_barrier()
    assert sum(asked) == 30 * TINY.queries
    assert steps.queries is None or int(steps.queries(carry)) == sum(asked)
    assert loss(steps.params(carry), BATCH) < 0.9 * loss(params, BATCH)


def test_networks_of_all_libraries_are_the_same():
    """A library's own product changes nothing where nothing is perturbed."""
    params = network.init(jax.random.key(0), (4, 3))
    own = network.loss(params, BATCH, lambda x, weight: jnp.einsum("ni,oi->no", x, weight))
    np.testing.assert_allclose(own, network.loss(params, BATCH), rtol=1e-6)
    assert jax.tree.map(jnp.shape, params)["1"] == {"weight": (3, 4), "bias": (3,)}


@pytest.mark.slow
def test_what_it_writes_and_prints(tmp_path, monkeypatch, capsys):
    tuned = contenders.ours()[1]
    fixed = dataclasses.replace(
        tuned, method="fixed", guess=None, make=lambda rate, sizes: tuned.make(0.01, sizes)
    )
    monkeypatch.setattr(populations, "available", lambda *clones: [tuned, fixed])
    tiny = {"WIDE": TINY, "RUNS": TINY, "BUDGET": 160, "TURNS": 1, "DEVICES": (1, 2)}
    for name, value in tiny.items():
        monkeypatch.setattr(populations, name, {False: value})
    asked = []

    def elsewhere(sizes, devices, turns, clones):
        asked.append((sizes, devices, turns, clones))
        row = {"library": "zovh_jax", "method": "fixed", "operations": 4e9, "difference": 0.0}
        row |= {"temporary_bytes": 3_000_000, "exchanged_bytes": 16, "microseconds": 5.0}
        return [row | {"devices": count} for count in devices]

    monkeypatch.setattr(populations.spread, "elsewhere", elsewhere)
    monkeypatch.setattr(populations.os, "cpu_count", lambda: 1)
    monkeypatch.setattr(experiment, "NOTED", 2)
    monkeypatch.setattr(grid, "LONGEST", 3)  # every rate compiles
    options = {"full": False, "out": tmp_path, "shardes": None, "eggroll": None}
    populations.run(argparse.Namespace(**options, parts=None))
    assert asked == [(TINY, (1, 2), 0, (None, None)), (TINY, [1], 1, (None, None))]
    result = json.loads((tmp_path / "populations.json").read_text())
    assert [row["library"] for row in result["costs"]] == ["", "zovh_jax", "zovh_jax"]
    assert result["costs"][0]["times_forwards"] == pytest.approx(1)
    descent, alone = result["worth"]
    assert descent["queries"] == alone["queries"] == [0, 80, 160]
    assert descent["rate"] in [row["rate"] for row in descent["grid"]] and alone["rate"] is None
    assert "zovh_jax fixed" in capsys.readouterr().out
    assert (tmp_path / "populations.png").stat().st_size > 10_000
    # One part anew, at the same settings: the rest stays.
    populations.run(argparse.Namespace(**options, parts=["devices"]))
    assert len(asked) == 3
    assert json.loads((tmp_path / "populations.json").read_text())["worth"] == result["worth"]
    monkeypatch.setattr(populations, "BUDGET", {False: 80})
    with pytest.raises(ValueError, match="--parts needs an earlier result with the same settings"):
        populations.run(argparse.Namespace(**options, parts=["devices"]))


def test_what_a_program_does():
    """Loops count as often as they run, products twice the sums' lengths."""
    x = jnp.ones((8, 4))

    def f(x):
        return jax.lax.scan(lambda c, _: (jnp.tanh(c @ x.T @ x), ()), x, length=5)[0]

    found = programs.work(jax.jit(f).lower(x).compile())
    products = 5 * 2 * 2 * 8 * 8 * 4
    assert products + 5 * 32 <= found.operations <= 1.02 * products + 5 * 32
    assert found.exchanged == 0


def test_a_row_of_one_device():
    (row,) = spread.compiled([contenders.ours()[1]], [TINY])
    assert row.keys() <= set(re.findall(r"\w+", populations.__doc__))
    assert row["operations"] > 2 * 785 * 4 * TINY.batch  # one forward, at least
    assert row["difference"] == row["exchanged_bytes"] == 0 and row["devices"] == 1


@pytest.mark.slow
def test_a_device_of_two_has_half():
    """Ours and evosax, in a process that has two devices: the same step, and what they exchange."""
    rows = spread.elsewhere(Sizes((32,), 16, 8), (1, 2), 0, (None, None))
    cells = {(row["method"], row["devices"]): row for row in rows}
    for method in ("ZO-SGD, psum", "ZO-SGD, rank one, psum", "OpenAI-ES"):
        one, two = cells[method, 1], cells[method, 2]
        assert two["operations"] < 0.9 * one["operations"], method
        assert two["difference"] < 1e-4 and one["difference"] == one["exchanged_bytes"] == 0
    assert cells["ZO-SGD", 2]["exchanged_bytes"] <= 8 * 16  # values alone
    numbers = 785 * 32 + 33 * 10
    assert 4 * numbers <= cells["ZO-SGD, psum", 2]["exchanged_bytes"] <= 4 * numbers + 8 * 16


def test_speed_with_rivals_is_this_case(monkeypatch):
    called = []
    monkeypatch.setattr(populations, "run", called.append)
    main(["speed", "--rivals", "--full", "--parts", "costs", "scaling"])
    assert called[0].full and called[0].parts == ["costs", "scaling"]


def test_clones_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"--eggroll must be a clone of .*HyperscaleES, got"):
        contenders.available(None, tmp_path)
