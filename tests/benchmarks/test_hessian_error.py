"""The Hessian-error case: matrix-free numbers against dense ones, and what the files hold."""

import argparse
import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import hessian_error, readme
from benchmarks.common import report, victim
from benchmarks.hessian_error import (
    experiment,
    interpolation,
    layers,
    measure,
    training,
    trajectories,
)
from benchmarks.hessian_error.interpolation import errors, newton
from benchmarks.hessian_error.interpolation import experiment as interpolating
from benchmarks.hessian_error.interpolation.tables import advantage
from benchmarks.hessian_error.measure import METHODS
from benchmarks.hessian_error.tables import pick, slopes

TINY = victim.Settings(channels=(2, 3), hidden=4, epochs=1, train_size=640)
KEY = jax.random.key(8)
ROW = ("sweep", "problem", "dimension", "method", "num_directions", "radius", "step")
COMMITTED = readme.RESULTS / "hessian-error.json"
SMALL = experiment.Size(
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
    interpolation=dataclasses.replace(
        interpolation.QUICK,
        counts={4: (3, 10)},
        seeds=2,
        noise=(0.1,),
        noise_counts={4: (3, 10)},
        exact_dimensions=(2,),
        exact_seeds=2,
        newton_counts=(3, 12),
        newton_seeds=2,
    ),
    trajectories=trajectories.Size(dimension=6, starts=2, points=3, steps=6, every=3),
)

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.mark.usefixtures("x64")
def test_errors_are_those_of_dense_matrices():
    """Compares with every estimator's formula in numpy, along the same directions."""
    f, d, k, rounds, mu = zo.problems.rosenbrock(), 6, 4, 3, 0.2
    path, exact = measure.locate(f, jnp.linspace(-1, 1, d), 0.05, count=rounds)
    np.testing.assert_allclose(np.linalg.norm(np.diff(path, axis=0), axis=1), 0.05, rtol=1e-9)
    counts = (*((name, k) for name in METHODS), ("s2", 2), ("cd", 1))
    found = jax.jit(measure.errors, static_argnums=0, static_argnames="counts")(
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
    path, values = np.asarray(path), jax.jit(jax.vmap(f))
    plus = np.stack([values(x + mu * v) for x, v in zip(path, u, strict=True)])
    minus, f0 = np.asarray(values(path[-1] - mu * u[-1])), float(f(path[-1]))
    even = (plus[-1] - 2 * f0 + minus) / (2 * mu**2)
    eye, truth = np.eye(d), np.asarray(jax.jit(jax.hessian(f))(path[-1]))

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


@pytest.mark.usefixtures("x64")
def test_interpolated_errors_are_those_of_dense_matrices():
    """Compares with the same in numpy, from the same queries, at 3 pairs of 4."""
    f, d, n, mu, level = zo.problems.rosenbrock(), 5, 3, 0.2, 0.7
    x = jnp.linspace(-1, 1, d)
    truth, value = np.asarray(jax.jit(jax.hessian(f))(x)), jax.jit(f)
    norm = np.linalg.norm(truth)
    found = jax.jit(errors.errors, static_argnums=0, static_argnames="size")(
        f, x, f.hessian(x), KEY, mu, np.array([[n, 0.0], [n, level]]), size=4
    )

    centre = float(value(x))
    keys = jax.random.split(KEY, 3)
    gaussian = zo.directions.gaussian()
    u = np.asarray(zo.Plan(keys[0], gaussian, num_directions=4).draw(x))[:n]
    v = np.asarray(zo.Plan(keys[1], gaussian, num_directions=9).draw(x))[: 2 * n + 1]
    values = np.array([[value(x + mu * w), value(x - mu * w)] for w in u])
    one, other = jax.random.split(keys[2])
    sigma = level * mu**2 * norm / np.sqrt(2)
    noise = sigma * np.asarray(jax.random.normal(one, (4, 2)))[:n]
    at_centre = sigma * float(jax.random.normal(other, ()))

    def outer(weights, rows):
        return np.einsum("k,ki,kj->ij", weights, rows, rows)

    def curvatures(values, origin):
        return (values.sum(1) - 2 * origin) / mu**2

    def tau(s):
        return np.mean(s / np.sum(u**2, 1)) * np.eye(d)

    def interpolated(s, prior):
        missing = s - np.einsum("ki,ij,kj->k", u, prior, u)
        return prior + outer(np.linalg.solve((u @ u.T) ** 2, missing), u)

    @jax.jit
    def auto(values, origin):
        queries = zo.Queries.from_values(
            values,
            directions=zo.directions.explicit(u),
            radius=mu,
            stencil=zo.stencils.three_point(),
            origin=origin,
        )
        return zo.estimators.interpolated_hessian(queries, x, ridge="auto").as_matrix()

    s = curvatures(values, centre)
    blurred = curvatures(values + noise, centre + at_centre)
    forward = np.array([value(x + mu * w) for w in v])
    always = {
        "s3": outer(s / 2 / n, u) - np.mean(s) / 2 * np.eye(d),
        "cd": outer(s / 2 / n, u),
        "zovh": outer((forward - forward.mean()) / mu**2 / (2 * n), v),
        "prior_noiseless": tau(s),
    }
    without = {
        "interpolated": interpolated(s, tau(s)),
        "interpolated_auto": auto(values, centre),
        "interpolated_zero": interpolated(s, np.zeros((d, d))),
        "prior": tau(s),
        "noise_floor": truth,
    }
    under = {
        "interpolated": interpolated(blurred, tau(blurred)),
        "interpolated_auto": auto(values + noise, centre + at_centre),
        "interpolated_zero": interpolated(blurred, np.zeros((d, d))),
        "prior": tau(blurred),
        "noise_floor": truth + auto(noise, at_centre),
    }
    for i, matrices in enumerate((always | without, always | under)):
        assert set(found) == set(matrices)
        for name, dense in matrices.items():
            error = np.linalg.norm(dense - truth) / norm
            np.testing.assert_allclose(found[name][i], error, rtol=1e-6, err_msg=name)


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
        product = measure.inner(a, b), measure.inner(b, b)
        return product, a.as_matrix(), b.as_matrix(), a.weights, measure.directions(a)

    products, a, b, weights, u = map(np.asarray, two_estimates())
    np.testing.assert_allclose(products, [np.sum(a * b), np.sum(b * b)], rtol=1e-10)

    gap = jax.jit(lambda: measure.inverse_gap(f, x, KEY, 0.1, damping, num_directions=3))()
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
    bias = jax.jit(measure.bias, static_argnums=0, static_argnames="num_directions")
    measured = bias(f, x, KEY, mu, num_directions=4096)
    want = 6 * mu**2 * 2 / np.sqrt(f.hessian(x).squared_norm())
    assert measured == pytest.approx(want, rel=0.1)
    zero = bias(zo.problems.quadratic(9.0), x, KEY, mu, num_directions=8)
    assert zero < 1e-12


@pytest.mark.usefixtures("x64")
def test_a_layers_hessian_is_that_of_its_loss(cache):
    """Compares the Gauss–Newton form with forward-over-reverse differentiation of the loss."""
    for loss in layers.load(cache, TINY, 4, jnp.float64).values():
        weights, gradient = loss.weights, jax.grad(lambda w, loss=loss: loss(w))
        exact = loss.hessian(weights)
        tangents = np.random.default_rng(0).standard_normal((2, weights.size))

        @jax.jit
        def everything(tangents, weights=weights, gradient=gradient, exact=exact):
            products = [jax.jvp(gradient, (weights,), (v,))[1] for v in tangents]
            dense = jax.vmap(exact.mv)(jnp.eye(weights.size))
            return (
                jax.vmap(exact.mv)(tangents),
                products,
                dense,
                exact.trace(),
                exact.squared_norm(),
            )

        found, products, dense, trace, squared_norm = map(np.asarray, everything(tangents))
        np.testing.assert_allclose(found, products, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(trace, np.trace(dense), rtol=1e-9)
        np.testing.assert_allclose(squared_norm, np.sum(dense**2), rtol=1e-9)


@pytest.mark.usefixtures("x64")
def test_a_parts_hessian_is_that_of_its_loss(cache):
    loss = layers.load(cache, TINY, 4, jnp.float64)["fc2"]
    part = training.PartLoss(loss, jnp.array([1, 7, 8, 30]))
    weights = loss.weights[part.free]
    np.testing.assert_allclose(part(weights), loss(loss.weights), rtol=1e-12)
    whole = loss.hessian(loss.weights)

    @jax.jit
    def both(weights):
        return jax.vmap(part.restricted(whole).mv)(jnp.eye(4)), jax.hessian(part)(weights)

    np.testing.assert_allclose(*both(weights), rtol=1e-8, atol=1e-10)


def test_training_yields_its_last_kernels_and_the_losses_there():
    points = list(training.training(8, 4, TINY))
    assert len(points) == 2
    for losses, paths in points:
        for name, loss in losses.items():
            path = np.asarray(paths[name])
            assert len(path) == training.ROUNDS and len(loss.labels) == training.BATCH
            np.testing.assert_array_equal(path[-1], loss.weights)
            moved = np.linalg.norm(np.diff(path, axis=0), axis=1)
            assert np.all((moved > 0) & (moved < 1e-2))
    first, last = (losses["fc2"] for losses, _ in points)
    assert not np.array_equal(first.images, last.images)


def test_starts_are_in_the_ball():
    x = measure.in_the_ball(5000)(KEY)
    assert 99 < np.linalg.norm(x) <= 100.001


@pytest.mark.slow
def test_run(cache, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(experiment, "QUICK", SMALL)
    monkeypatch.setattr(newton, "DIMENSION", 4)
    monkeypatch.setattr(training, "FREE", {"conv1": 9, "conv2": 9, "fc2": 1024})
    monkeypatch.setattr(newton, "PRECISIONS", ("float64",))
    steep = {"steep": zo.problems.quadratic(1e4)}
    monkeypatch.setattr(interpolating, "QUADRATICS", steep)
    whole = experiment.measure
    monkeypatch.setattr(experiment, "measure", lambda size, path: whole(size, path, TINY))
    hessian_error.run(argparse.Namespace(full=False, out=tmp_path, cache=cache, part="all"))
    result = json.loads((tmp_path / "hessian-error.json").read_text())
    for name in ("hessian-error.png", "hessian-interpolation.png"):
        assert (tmp_path / name).stat().st_size > 10_000
    assert set(result) == {
        *("environment", "settings", "labels", "errors", "bias", "inverses", "slopes"),
        *("interpolation", "trajectories"),
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
    assert {"same_directions", "same_queries", "slopes", "exponents", "newton"} <= set(texts)

    along = {row["problem"]: row for row in result["trajectories"]}
    assert set(along) == {*experiment.PROBLEMS, *layers.LAYERS}
    assert along["quadratic"]["points"] == 6 and along["conv1"]["points"] == 2
    sizes = [row["dimension"] for row in result["trajectories"]]
    assert sizes == [6, 6, 6, 18, 9, 54, 9, 40]
    assert all(name in hessian_error.__doc__ for row in along.values() for name in row)
    part = result["interpolation"]
    for key in ("errors", "noise", "exact", "newton"):
        assert all(row["q25"] <= row["median"] <= row["q75"] for row in part[key])
        assert all(name in interpolation.__doc__ for row in part[key] for name in row)
    assert max(row["most"] for row in part["exact"]) < 1e-6
    solved = pick(part["newton"], direction="newton", num_directions=12, noise=0.0)
    assert len(solved) == 1 and solved[0]["least"] > 0.99


def test_one_part_can_be_renewed(cache, tmp_path, monkeypatch):
    old = json.loads(COMMITTED.read_text())
    (tmp_path / COMMITTED.name).write_text(json.dumps(old))
    new = {
        "interpolation": old["interpolation"]
        | {"settings": old["interpolation"]["settings"] | {"seeds": 99}},
        "trajectories": old["trajectories"][::-1],
    }
    monkeypatch.setattr(experiment, "measure_interpolation", lambda *args: new["interpolation"])
    monkeypatch.setattr(trajectories, "measure", lambda *args: new["trajectories"])
    monkeypatch.setattr(layers, "load", lambda *args: {})
    monkeypatch.setattr(hessian_error, "PICTURES", {})
    for part in new:
        hessian_error.run(argparse.Namespace(full=True, out=tmp_path, cache=cache, part=part))
        old[part] = new[part]
        assert json.loads((tmp_path / COMMITTED.name).read_text()) == old


def test_the_committed_result_is_a_full_one():
    result = json.loads(COMMITTED.read_text())
    full = dataclasses.asdict(experiment.FULL)
    for name in ("dimension", "seeds", "sweep_seeds"):
        assert result["settings"][name] == full[name]
    assert hessian_error.tables(result)
    again = slopes(result["errors"], result["bias"], result["inverses"])
    for line, fitted in zip(result["slopes"], again, strict=True):
        assert line == fitted | {"slope": pytest.approx(line["slope"])}


def test_the_committed_interpolation_is_a_full_one_and_shows_what_it_should():
    part, full = json.loads(COMMITTED.read_text())["interpolation"], interpolation.FULL
    for name in ("seeds", "layer_seeds", "exact_seeds", "newton_seeds"):
        assert part["settings"][name] == getattr(full, name)
    automatic = pick(part["errors"], method="interpolated_auto")
    assert {row["problem"] for row in automatic} == {*full.functions, *layers.LAYERS}
    # The kinks of the first layer's relus are no Hessian's curvature: the one exception.
    assert max(row["of_prior"] for row in automatic if row["problem"] != "conv1") <= 1.02
    for name in full.functions:
        assert advantage(pick(part["errors"], problem=name, dimension=5000)) >= 100
    assert max(row["most"] for row in part["exact"]) <= 1e-6
    assert max(row["of_bound"] for row in pick(part["noise"], method="interpolated_auto")) < 1
    cosines = pick(part["newton"], num_directions=250, noise=0.0)
    assert min(row["least"] for row in pick(cosines, direction="newton")) >= 0.99
    assert max(row["most"] for row in pick(cosines, direction="zovh")) < 0
