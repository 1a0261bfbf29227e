"""The zo-sah case, with everything small, and its problems against closed forms."""

import argparse
import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import zo_sah
from benchmarks.common import tuning
from benchmarks.common.steps import stepping
from benchmarks.zo_sah import contenders, experiment, fits, network, problems
from benchmarks.zo_sah.tables import tables

pytestmark = pytest.mark.usefixtures("fast_compilation")
TINY = dataclasses.replace(
    experiment.FULL,
    starts=2,
    near=120,
    queries=2,
    intervals=(2,),
    network_queries=30,
    images=8,
)


def one_of(part, place):
    return lambda size: itertools.islice(part(size), place, place + 1)


def test_what_it_writes_and_prints(tmp_path, monkeypatch, capsys):
    places = {"rosenbrock": 0, "logistic": 2}  # ZO-SAH, and RSPG
    parts = {name: one_of(experiment.PARTS[name], place) for name, place in places.items()}
    monkeypatch.setattr(experiment, "QUICK", dataclasses.replace(TINY, parts=tuple(parts)))
    monkeypatch.setattr(experiment, "PARTS", parts)
    found = {"learning_rate": 0.5, "interior": True, "grid": []}
    monkeypatch.setattr(tuning, "tune", lambda *_: found)
    errors = {"problem": "P", "num_subspaces": 1, "age": 0, "fit": 0.1, "kept": 0.2, "fresh": 0.3}
    monkeypatch.setattr(fits, "compared", lambda *_: [errors])
    zo_sah.run(argparse.Namespace(full=False, out=tmp_path, part="all"))
    result = json.loads((tmp_path / "zo-sah.json").read_text())
    assert (tmp_path / "zo-sah.png").stat().st_size > 10_000
    assert [row["part"] for row in result["rows"]] == list(parts)
    assert all(row["queries_spent"] <= row["budget"] for row in result["rows"])
    assert ["curve" in row for row in result["rows"]] == [False, True]
    printed = capsys.readouterr().out
    assert all(text in printed for text in tables(result).values())

    def anew(size, parts):
        return [{**row, "budget": 7} for row in result["rows"] if row["part"] in parts]

    monkeypatch.setattr(experiment, "measured", anew)
    zo_sah.run(argparse.Namespace(full=False, out=tmp_path, part="rosenbrock"))
    result["rows"][0]["budget"] = 7
    assert json.loads((tmp_path / "zo-sah.json").read_text()) == result


def test_a_part_that_varies_an_option():
    entries = list(experiment.PARTS["T"](TINY))
    assert [entry.facts for entry in entries] == [{"T": 2}, {"T": 2}]
    assert [entry.task.dimension for entry in entries] == [31, 65]


def test_the_contenders_cost_what_they_say():
    """A switching step of ZO-SAH spends the most that is declared."""
    x, setting = jnp.ones(8), contenders.setting(8)
    method = contenders.sah("", 2, 1, dimension=3)
    optimizer = method.make(1.0, jax.random.key(0), setting)
    step = jax.jit(stepping(optimizer, lambda x: jnp.sum(x**2)))
    _, state = step((x, optimizer.init(x)))
    assert int(zo.num_queries(state)) == method.queries(setting) == 1 + 2 * (3 + 6)
    assert contenders.moving(64) == 8 and contenders.moving(3) == 1


def test_queries_to():
    score = tuning.queries_to(1e-2, np.array([0, 10, 20]))
    assert score(np.array([1.0, 1e-2, 1.0])) == 10
    assert score(np.array([1.0, 1.0, 1.0])) == pytest.approx(60)


def test_the_least_logistic_loss_is_a_minimum(x64):
    rng = np.random.default_rng(0)
    features, positive = rng.normal(size=(40, 3)), rng.random(40) < 0.5
    wide, signs = problems.with_bias(features, positive)
    x = jnp.zeros(4)

    def loss(x):
        return problems.logistic_loss(wide, signs, x)

    newton = jax.jit(lambda x: x - jnp.linalg.solve(jax.hessian(loss)(x), jax.grad(loss)(x)))
    for _ in range(20):
        x = newton(x)
    assert problems.minimum(features, positive) == pytest.approx(float(loss(x)), abs=1e-9)


def test_the_quadratic_of_blocks_has_the_correlation_that_it_says(x64):
    task = problems.blocks(8, 1)
    hessian = np.asarray(jax.hessian(fits.value_of(task))(jnp.zeros(8)))
    scale = np.sqrt(np.diag(hessian))
    strengths = np.sort(np.abs(hessian / np.outer(scale, scale)), axis=1)
    np.testing.assert_allclose(strengths[:, -2:], [[problems.CORRELATION, 1]] * 8)
    assert not strengths[:, :-2].any()


def test_fits_of_a_quadratic_are_exact_and_so_are_differences(x64):
    matrix = jnp.array([[3.0, 1.0, 0.5], [1.0, 2.0, 0.0], [0.5, 0.0, 1.0]])
    f = lambda x: 0.5 * x @ matrix @ x  # noqa: E731
    rows = fits.errors(f, jnp.ones(3), 1, fits.EVERY)
    assert [row["age"] for row in rows] == list(fits.AGES)
    assert all(row[name] < 1e-4 for row in rows for name in ("fit", "kept", "fresh"))
    found = fits.differences(f, jnp.ones(3), jnp.array([[0, 2]]))
    np.testing.assert_allclose(found[0], [[3, 0.5], [0.5, 1]], rtol=1e-6)


def test_the_networks_convolution_is_xlas():
    params = network.initial(jax.random.key(0))
    x = jax.random.normal(jax.random.key(1), (2, 7, 7, network.SMALL[0]))
    for stride in (1, 2):
        kernel = params["1 in"].reshape(3, 3, *params["1 in"].shape[1:])
        expected = jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride, stride),
            ((1, 1), (1, 1)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        np.testing.assert_allclose(
            network.convolution(params, "1 in", x, stride), expected, atol=1e-5
        )
    layers = [name for name in params if params[name].ndim > 1 and not name.endswith("past")]
    assert len(layers) == 8


@pytest.mark.parametrize(
    ("channels", "pixels", "dimension"), [(network.SMALL, 7, 1342), (network.LARGER, 14, 5058)]
)
def test_the_networks_task(channels, pixels, dimension):
    task = network.resnet(10, 8, channels, pixels)
    start = jax.jit(task.start)(jax.random.key(0))
    assert start.shape == (task.dimension,) == (dimension,)
    value, accuracy = jax.jit(lambda x: (task.measure(x, 0, 0.0), task.test(x)))(start)
    assert 1 < float(value) < 10 and 0 <= float(accuracy) <= 1
