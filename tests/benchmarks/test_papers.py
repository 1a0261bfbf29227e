"""The papers case: its formulas against sums and dense algebra, and everything small."""

import argparse
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks import papers
from benchmarks.papers import bias, bounds, contests, descent, experiment, moments, reinforce

pytestmark = pytest.mark.usefixtures("fast_compilation")
ROUND = {"num_directions": 5, "radius": 0.3}


@pytest.mark.parametrize("scale", [[1.0, 1.0, 1.0, 1.0], [0.5, 2.0, 1.0, 3.0]])
def test_reinforce_by_autodiff_is_zoars_estimate(scale, x64):
    f, theta, scale = zo.problems.rosenbrock(), jnp.linspace(-1.0, 1.0, 4), jnp.asarray(scale)
    own = reinforce.by_values(f, scale, **ROUND)(theta, jax.random.key(3))
    autodiff = reinforce.by_autodiff(f, scale, **ROUND)(theta, jax.random.key(3))
    np.testing.assert_allclose(own, autodiff, rtol=1e-11)


def test_an_anisotropic_policys_hessian_is_the_estimate_in_its_own_frame(x64):
    f, theta = zo.problems.rosenbrock(), jnp.linspace(-1.0, 1.0, 4)
    scale, key = jnp.asarray([0.5, 2.0, 1.0, 3.0]), jax.random.key(3)
    autodiff = reinforce.hessian_by_autodiff(f, scale, **ROUND)(theta, key)
    # θ + μ s∘z is f∘diag(s) around θ/s along z, whose Hessian is diag(s) H diag(s).
    queries = zo.query(lambda y: f(scale * y), theta / scale, key, **ROUND)
    own = zo.estimators.hessian(queries, theta).as_matrix() / jnp.outer(scale, scale)
    np.testing.assert_allclose(own, autodiff, rtol=1e-9, atol=1e-9)


def test_exact_errors_are_those_of_many_rounds(x64):
    slope, curvature = np.array([1.0, -2.0, 0.5]), np.array([1.0, 4.0, -2.0])
    run = moments.measured(slope, curvature, 5, rounds=20_000)
    for radius in (0.3, 2.0):
        gradient, hessian = run(radius)
        own = moments.gradient_error(slope, curvature, 5, radius)
        assert gradient == pytest.approx(own, rel=0.06)
        own = moments.hessian_error(slope, curvature, 5, radius)
        assert hessian == pytest.approx(own, rel=0.12)


def test_reuse_has_the_error_of_all_its_directions_while_steps_are_short(x64):
    for row in moments.reused(6, (1, 4), (1e-6,), 4000):
        assert row["measured"] == pytest.approx(row["derived"], rel=0.08)


def test_the_identity_may_go_only_with_the_mean_as_baseline(x64):
    for row in moments.without_identity((-1.0, 0.0, 2.0), 100_000):
        assert row["measured"] == pytest.approx(row["derived"], abs=0.15)


def test_a_single_direction_tells_where_the_product_descends(x64):
    for n, d in ((4, 3), (10, 40)):
        steep = descent.along_one(1e6, n, d, 20_000)
        assert steep == pytest.approx(1 - (n - 1) ** 2 / (d * (n - 2)), abs=0.03)
        assert descent.along_one(1e-6, n, d, 20_000) == pytest.approx(1, abs=1e-3)


def test_the_papers_bounds_hold_where_damping_is_moderate(x64):
    """Every constant is known. The product's bound, being of order 1/λ², can't hold beyond."""
    rows = bounds.rows(6, (3, 5), 100)
    kept = [row for row in rows if row["bound"] is not None]
    broken = [row for row in kept if row["measured"] > row["bound"]]
    assert len(rows) == 16 and [row["theorem"] for row in broken] == ["Thm 5.4"]
    assert broken[0]["damping"] == pytest.approx(1e4 * bounds.least_damping(6, 5, 1.0))
    assert [row["learning_rate"] for row in rows if row["bound"] is None] == [0.1]
    # With one round the bound with reuse is the one without, at any rate.
    one, other = (bounds.hessian_bound(6, 3, 0.1, drift=drift) for drift in (0.0, 9.0))
    assert one == other


def test_along_orthogonal_directions_the_product_is_the_gradient_over_the_damping(x64):
    u = 2 * jnp.linalg.qr(jax.random.normal(jax.random.key(0), (4, 3)))[0].T
    queries = zo.Queries.from_values(
        jnp.array([1.0, -2.0, 0.5]), directions=zo.directions.explicit(u), radius=0.3
    )
    product = zo.estimators.newton_direction(queries, u[0], damping=2.0, solver=bounds.GRAM)
    np.testing.assert_allclose(product, zo.estimators.gradient(queries, u[0]) / 2, rtol=1e-12)


@pytest.mark.slow
def test_the_bias_is_none_without_reuse_and_grows_with_rounds_and_rate(x64):
    rows = bias.onset(10, 300, (1, 4, 12), (1e-5, 1e-4), 3, 0.1, 3)
    found = {(row["history_size"], row["learning_rate"]): row["bias"] for row in rows}
    assert found[1, 1e-4] < 1e-9
    assert 1e-4 < found[4, 1e-5] < found[12, 1e-5] < found[12, 1e-4]


@pytest.mark.slow
def test_floors_and_rates_are_the_derived_ones(x64):
    rows = bias.floors(20, 600, (0.01,), 0.05, 6, 30)
    for row in [row for row in rows if row["method"].startswith("ZoAR")]:
        assert row["floor"] == pytest.approx(row["floor_derived"], rel=0.15)
        assert 1 - row["rate"] == pytest.approx(1 - row["rate_derived"], rel=0.2)


@pytest.mark.slow
def test_run(tmp_path, monkeypatch, capsys):
    tiny = experiment.Size(
        shapes=((4, 3),),
        rounds=40,
        curved_rounds=2,
        dimensions=(4,),
        moment_rounds=20,
        reused={"dimension": 4, "histories": (1, 3), "rounds": 4},
        histories=(1, 3),
        rates=(1e-5,),
        onset={"dimension": 4, "queries": 60, "num_directions": 3, "radius": 0.1, "seeds": 2},
        floors={"dimension": 5, "steps": 30, "rate": 0.05, "num_directions": 6, "seeds": 2},
        functions=(),
        ablation={"dimension": 10, "budget": 60},
        policies={"dimension": 4, "budget": 30},
        bounds={"dimension": 4, "counts": (3,), "rounds": 4},
    )
    monkeypatch.setattr(experiment, "QUICK", tiny)
    monkeypatch.setattr(contests, "policies", lambda **size: [])
    papers.run(argparse.Namespace(full=False, part="all", out=tmp_path))
    papers.run(argparse.Namespace(full=False, part="bounds", out=tmp_path))
    result = json.loads((tmp_path / "papers.json").read_text())
    assert (tmp_path / "papers.png").stat().st_size > 10_000
    assert result["reinforce"]["largest_gap"] < 1e-9
    shown = papers.tables(result)
    printed = capsys.readouterr().out
    assert all(text in printed for text in shown.values())
    assert len(shown["inventory"].splitlines()) > 20


@pytest.mark.slow
def test_contests():
    rows = contests.ablation(8, 60, ("quadratic",))
    assert len({row["label"] for row in rows}) == 6
    rows = contests.policies(4, 10.0, 60)
    assert rows[0]["label"] == "isotropic"
