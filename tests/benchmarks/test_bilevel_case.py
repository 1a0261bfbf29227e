"""The bilevel case, with everything small."""

import argparse
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import bilevel
from benchmarks.bilevel import contenders, experiment, tasks
from benchmarks.bilevel.problem import Bilevel
from benchmarks.bilevel.tables import queries_to_near

pytestmark = pytest.mark.usefixtures("fast_compilation")
SCALES = jnp.array([1.0, 2.0, 4.0])
TARGET = jnp.array([0.5, -0.2, 0.3])


def quadratic(black_box="y", note=lambda name, x, y: 0.0, scale=1.0):
    """y* = x/h and outer s/2 ‖y − t‖²: with s = 1 the gradient of x is (x/h − t)/h."""

    def inner(x, y):
        return 0.5 * jnp.sum(SCALES * y**2) - jnp.sum(x * y) + note("inner", x, y)

    def outer(x, y):
        return 0.5 * scale * jnp.sum((y - TARGET) ** 2) + note("outer", x, y)

    return Bilevel(
        inner=inner,
        outer=outer,
        accuracy=lambda y: -outer(0, y),
        start=jnp.array([1.0, 1.0, -1.0]),
        weights=jnp.zeros(3),
        curvature=(1.0, 4.0),
        black_box=black_box,
        references={"right": (SCALES * TARGET)[None]},
        steps=8,
        num_directions=4,
    )


@pytest.mark.parametrize(
    ("name", "black_box", "most"),
    [
        ("first_order", "y", 1e-3),
        ("values", "y", 0.02),
        ("mixed", "y", 0.02),
        ("mixed", "x", 1e-3),
        ("whole", "x", 0.05),
        ("pzobo", "x", 1e-3),
        ("random", "y", 10.0),
    ],
)
def test_gradients_and_costs(name, black_box, most, monkeypatch):
    """A step is along the gradient of the closed form, and asks for the values that it is charged.

    Four directions are an epoch, solves are nearly exact, and Neumann has enough terms. Forward
    differences through whole solves keep an error of O(μ).
    """
    monkeypatch.setattr(contenders, "TERMS", 40)
    monkeypatch.setattr(contenders.optax, "adam", contenders.optax.sgd)
    asked = {"inner": 0, "outer": 0}

    @functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
    def note(name, x, y):
        def call(_):
            asked[name] += 1
            return np.float32(0)

        like = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(call, like, jnp.sum(x + y), vmap_method="sequential")

    note.defjvp(lambda name, primals, tangents: (jnp.zeros(()), jnp.zeros(())))
    problem = dataclasses.replace(quadratic(black_box, note), steps=30)
    loop = contenders.CONTENDERS[name].loop(problem, 1.0)
    run = jax.block_until_ready(jax.jit(loop.start)(jax.random.key(0)))
    first = [asked["inner"], asked["outer"]]
    after = jax.block_until_ready(jax.jit(loop.step)(run, jax.random.key(1)))
    step = [asked["inner"] - first[0], asked["outer"] - first[1]]
    assert (first, step) == (loop.first[:2].tolist(), loop.cost[:2].tolist())
    assert (loop.cost[2] > 0) == (name in ("first_order", "mixed") or black_box == "x")
    exact = (problem.start / SCALES - TARGET) / SCALES
    np.testing.assert_allclose(run.x - after.x, exact, atol=most)


def test_labels_are_wrong_as_often_as_said():
    data, clean = (tasks.cleaning(p, 400, 3).data(0) for p in (0.5, 0.0))
    assert tasks.cleaning(0.5, 40, None).data(0)["test"][0].shape == (4920, 784)
    changed = data["train"][1] != clean["train"][1]
    assert np.mean(changed) == pytest.approx(0.45, abs=5 * 0.5 / 20)  # a tenth stays as it was
    assert not np.any(changed & ~data["wrong"])
    assert len(data["valid"][1]) == 400 and len(data["test"][1]) == 4200


def test_the_program_that_changes_digits_has_no_derivative():
    image = jnp.asarray(tasks._digits()[0][0].reshape(8, 8))
    draws = np.random.default_rng(0).normal(size=67).astype(np.float32)
    changed = jax.jit(lambda x: tasks._changed(image, draws, x))
    np.testing.assert_array_equal(changed(jnp.zeros(3)), image)
    assert not np.allclose(changed(jnp.ones(3)), image)
    assert not np.any(jax.jit(jax.jacfwd(changed))(jnp.ones(3)))


def test_where_the_ceiling_is_near():
    ceiling = {"test": {"each": [0.9, 0.8]}}
    row = {
        "curve": {"queries": [1, 2, 3, 4], "test": [[0.9, 0.8, 0.9, 0.9], [0.8, 0.7, 0.79, 0.8]]}
    }
    assert queries_to_near(row, ceiling) == 3
    row["curve"]["test"][0][-1] = 0.8
    assert queries_to_near(row, ceiling) is None


def test_run(tmp_path, monkeypatch, capsys):
    task = tasks.Task(
        data=lambda seed: {"scale": np.float32(1 + seed % 7)},
        problem=lambda data: quadratic(scale=data["scale"]),
    )
    both, less = ("first_order", "mixed"), {"mixed": 1500}
    part = experiment.Part({"0.5": task}, "0.5", both, 3000, less)
    fixed = dataclasses.replace(part, rate=0.5, seeds=(2,))
    monkeypatch.setattr(experiment, "parts", lambda *sizes: {"cleaning": part, "fixed": fixed})
    bilevel.run(argparse.Namespace(full=False, only=None, sizes=(40, 2), out=tmp_path))
    result = json.loads((tmp_path / "bilevel.json").read_text())
    assert (tmp_path / "bilevel.png").stat().st_size > 10_000
    for row, budget in zip(result["rows"], 2 * (3000, 1500), strict=True):
        assert row["spent"]["inner"] + row["spent"]["outer"] + row["spent"]["derivatives"] <= budget
        assert row["curve"]["queries"][-1] == sum(row["spent"].values())
        assert all(one[-1] < 0.3 * one[0] for one in row["curve"]["outer"])
    assert result["rows"][-1]["learning_rate"] == 0.5
    assert len(result["rows"][-1]["test"]["each"]) == 1
    assert result["references"][-1]["final"]["most"] == pytest.approx(0, abs=1e-6)
    assert not set(result["tuning_seeds"]) & set(result["seeds"])
    table = bilevel.tables(result)["cleaning_0.5"]
    assert len(table.splitlines()) == 2 + 2 + 2
    assert table in capsys.readouterr().out
