"""The populations case, with everything small."""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import populations
from benchmarks.common import grid
from benchmarks.populations import contenders, experiment, network
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


def test_what_it_writes_and_prints(tmp_path, monkeypatch, capsys):
    tuned = contenders.ours()[1]
    fixed = dataclasses.replace(
        tuned, method="fixed", guess=None, make=lambda rate, sizes: tuned.make(0.01, sizes)
    )
    monkeypatch.setattr(populations, "available", lambda *clones: [tuned, fixed])
    for name, value in {"WIDE": TINY, "RUNS": TINY, "BUDGET": 160, "TURNS": 1}.items():
        monkeypatch.setattr(populations, name, {False: value})
    monkeypatch.setattr(experiment, "NOTED", 2)
    monkeypatch.setattr(grid, "LONGEST", 3)  # every rate compiles
    populations.run(argparse.Namespace(full=False, out=tmp_path, shardes=None, eggroll=None))
    result = json.loads((tmp_path / "populations.json").read_text())
    assert [row["library"] for row in result["costs"]] == ["", "zovh_jax", "zovh_jax"]
    assert result["costs"][0]["times_forwards"] == pytest.approx(1)
    descent, alone = result["worth"]
    assert descent["queries"] == alone["queries"] == [0, 80, 160]
    assert descent["rate"] in [row["rate"] for row in descent["grid"]] and alone["rate"] is None
    assert "zovh_jax fixed" in capsys.readouterr().out
    assert (tmp_path / "populations.png").stat().st_size > 10_000


def test_clones_that_are_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"--eggroll must be a clone of .*HyperscaleES, got"):
        contenders.available(None, tmp_path)
