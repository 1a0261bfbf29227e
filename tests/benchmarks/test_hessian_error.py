"""The Hessian-error case: matrix-free numbers against dense ones, and what the files hold."""

import argparse
import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import hessian_error, hessian_layers, hessian_measure, report, victim
from benchmarks.hessian_measure import METHODS

TINY = victim.Settings(channels=(2, 3), hidden=4, epochs=1, train_size=640)
KEY = jax.random.key(8)
ROW = ("sweep", "problem", "dimension", "method", "num_directions", "radius", "step")
COMMITTED = Path(hessian_error.__file__).parent / "results" / "hessian-error.json"
SMALL = hessian_error.Size(
    functions=("rosenbrock",),
    dimension=8,
    seeds=2,
    sweep_seeds=2,
    counts=(3, 4),
    dimensions=(6, 8),
    radii=(0.1, 1.0),
    steps=(1e-4,),
    bias_directions=64,
    inverse_dimensions=(20, 40),
    inverse_counts=(3,),
)

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.usefixtures("x64")
def test_errors_are_those_of_dense_matrices():
    """Every estimator again by its formula, from the same directions, in numpy."""
    f, d, k, rounds, mu = zo.problems.rosenbrock(), 6, 4, 3, 0.2
    path, exact = hessian_measure.locate(f, jnp.linspace(-1, 1, d), 0.05, count=rounds)
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=0), axis=1), 0.05, rtol=1e-9)
    counts = (*((name, k) for name in METHODS), ("s2", 2), ("cd", 1))
    found = jax.jit(hessian_measure.errors, static_argnums=0, static_argnames="counts")(
        f, path, exact, KEY, mu, counts=counts
    )

    u = np.stack(
        [
            zo.Plan(jax.random.fold_in(KEY, i), zo.directions.gaussian(), num_directions=k).draw(
                path[0]
            )
            for i in range(rounds)
        ]
    )
    plus = np.stack([jax.vmap(f)(x + mu * v) for x, v in zip(path, u, strict=True)])
    minus, f0 = np.asarray(jax.vmap(f)(path[-1] - mu * u[-1])), float(f(path[-1]))
    even = (plus[-1] - 2 * f0 + minus) / (2 * mu**2)
    eye, truth = np.eye(d), np.asarray(jax.hessian(f)(path[-1]))

    def outer(weights, v, identity):
        return sum(w * (np.outer(x, x) - identity) for w, x in zip(weights, v, strict=True))

    def zovh(values, v):
        return outer((values - values.mean()) / mu**2, v, 0) / (len(v) - 1)

    s2 = (plus[-1] - f0) / mu**2
    want = {
        ("s1", k): outer(plus[-1] / mu**2, u[-1], eye) / k,
        ("s2", k): outer(s2, u[-1], eye) / k,
        ("s2", 2): outer(s2[:2], u[-1][:2], eye) / 2,
        ("s3", k): outer(even, u[-1], eye) / k,
        ("cd", k): outer(even, u[-1], 0) / k,
        ("cd", 1): outer(even[:1], u[-1][:1], 0),
        ("zovh", k): zovh(plus[-1], u[-1]),
        ("zovh_reuse", k): zovh(plus.reshape(-1), u.reshape(-1, d)),
        ("trace", k): 2 * s2.mean() / d * eye,
        ("trace_pairs", k): 2 * even.mean() / d * eye,
        ("trace_exact", 0): np.trace(truth) / d * eye,
        ("zero", 0): 0 * eye,
    }
    assert set(found) == set(want)
    for which, dense in want.items():
        error = np.linalg.norm(dense - truth) / np.linalg.norm(truth)
        np.testing.assert_allclose(found[which], error, rtol=1e-9, err_msg=str(which))


def test_queries_are_charged_with_the_centre():
    assert {name: method.cost(3) for name, method in METHODS.items()} == {
        **dict.fromkeys(("s1", "zovh", "zovh_reuse"), 3),
        **dict.fromkeys(("s2", "trace"), 4),
        **dict.fromkeys(("s3", "cd", "trace_pairs"), 7),
    }
    for queries in (3, 7, 12):
        for method in METHODS.values():
            assert method.cost(method.directions(queries)) <= queries
            assert method.cost(method.directions(queries) + 1) > queries


@pytest.mark.usefixtures("x64")
def test_inner_products_and_the_inverses_gap_are_those_of_dense_matrices():
    f, d, damping = zo.problems.rosenbrock(), 9, 0.5
    x = jnp.linspace(-1, 1, d)

    @jax.jit
    def two_estimates():
        rounds = [
            zo.query(f, x, key, num_directions=3, radius=0.1, store_directions=True, origin=True)
            for key in (KEY, jax.random.key(1))
        ]
        a = zo.estimators.hessian(rounds[0], x)
        b = zo.estimators.hessian(rounds[1], x, baseline=zo.baselines.origin())
        product = hessian_measure.inner(a, b), hessian_measure.inner(b, b)
        return product, a.as_matrix(), b.as_matrix(), a.weights, hessian_measure.directions(a)

    products, a, b, weights, u = map(np.asarray, two_estimates())
    np.testing.assert_allclose(products, [np.sum(a * b), np.sum(b * b)], rtol=1e-10)

    gap = jax.jit(lambda: hessian_measure.inverse_gap(f, x, KEY, 0.1, damping, num_directions=3))()
    exact = np.linalg.inv(a + damping * np.eye(d))
    curvature = damping + weights * np.sum(u**2, 1)
    diagonal = np.eye(d) / damping - (u.T * (weights / (damping * curvature))) @ u
    distance = np.linalg.norm(exact - diagonal)
    np.testing.assert_allclose(gap["of_inverse"], distance / np.linalg.norm(exact), rtol=1e-7)
    correction = np.linalg.norm(exact - np.eye(d) / damping)
    np.testing.assert_allclose(gap["of_correction"], distance / correction, rtol=1e-7)


@pytest.mark.usefixtures("x64")
def test_the_bias_is_the_closed_form():
    f, x, mu = zo.problems.styblinski_tang(), jnp.linspace(-1, 1, 4), 0.2
    measured = hessian_measure.bias(f, x, KEY, mu, num_directions=4096)
    want = 6 * mu**2 * 2 / np.sqrt(f.hessian(x).squared_norm())
    assert measured == pytest.approx(want, rel=0.1)
    zero = hessian_measure.bias(zo.problems.quadratic(9.0), x, KEY, mu, num_directions=8)
    assert zero < 1e-12


@pytest.mark.usefixtures("x64")
def test_a_layers_hessian_is_that_of_its_loss(cache):
    """The Gauss–Newton form against forward-over-reverse differentiation of the loss."""
    for loss in hessian_layers.load(cache, TINY, 4, jnp.float64).values():
        weights = loss.weights
        exact = loss.hessian(weights)
        gradient = jax.jit(jax.grad(lambda w, loss=loss: loss(w)))
        tangents = np.random.default_rng(0).standard_normal((2, weights.size))
        for v in tangents:
            product = jax.jvp(gradient, (weights,), (jnp.asarray(v),))[1]
            np.testing.assert_allclose(exact.mv(v), product, rtol=1e-8, atol=1e-10)
        dense = np.asarray(jax.vmap(exact.mv)(jnp.eye(weights.size)))
        np.testing.assert_allclose(exact.trace(), np.trace(dense), rtol=1e-9)
        np.testing.assert_allclose(exact.squared_norm(), np.sum(dense**2), rtol=1e-9)


def test_starts_are_in_the_ball():
    x = hessian_error.in_the_ball(5000)(KEY)
    assert 99 < np.linalg.norm(x) <= 100.001


def test_run(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(hessian_error, "QUICK", SMALL)
    measure = hessian_error.measure
    monkeypatch.setattr(hessian_error, "measure", lambda size, path: measure(size, path, TINY))
    hessian_error.run(argparse.Namespace(full=False, out=tmp_path, cache=cache))
    result = json.loads((tmp_path / "hessian-error.json").read_text())
    assert (tmp_path / "hessian-error.png").stat().st_size > 10_000
    assert set(result) == {
        *("environment", "settings", "labels", "errors", "bias", "inverses", "slopes")
    }
    assert set(result["environment"]) == set(report.environment())
    rows = result["errors"]
    keys = [tuple(row[name] for name in ROW) for row in rows if row["num_directions"]]
    assert len(set(keys)) == len(keys)  # nothing twice
    assert all(name in hessian_error.__doc__ for row in rows for name in row)
    assert all(row["q25"] <= row["median"] <= row["q75"] for row in rows)
    assert {row["median"] for row in rows if row["method"] == "zero"} == {1.0}
    texts = hessian_error.tables(result)
    printed = capsys.readouterr().out
    assert all(text in printed for text in texts.values())
    assert {"same_directions", "same_queries", "slopes", "exponents"} <= set(texts)


def test_the_committed_result_is_a_full_one():
    result = json.loads(COMMITTED.read_text())
    full = dataclasses.asdict(hessian_error.FULL)
    for name in ("dimension", "seeds", "sweep_seeds"):
        assert result["settings"][name] == full[name]
    assert hessian_error.tables(result)
    again = hessian_error.slopes(result["errors"], result["bias"], result["inverses"])
    for line, fitted in zip(result["slopes"], again, strict=True):
        assert line == fitted | {"slope": pytest.approx(line["slope"])}
