"""hessian_trace and TraceAverage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")
EIGENVALUES = np.geomspace(0.1, 10, 40)
THREE = {"stencil": zo.stencils.three_point()}
SIGNS = {"directions": zo.directions.rademacher()}


def quadratic(x):
    return 0.5 * jnp.sum(jnp.asarray(EIGENVALUES) * jnp.square(x)) + jnp.sum(x)


def ask(seed, num_directions=400, origin=True, **options):
    x = jnp.ones(40)
    key = jax.random.key(seed)
    options = {"num_directions": num_directions, "radius": 0.1, "origin": origin} | options
    return zo.query(quadratic, x, key, **options), x


def test_exact_along_signs_on_a_diagonal_hessian(x64):
    for directions in (zo.directions.rademacher(), zo.directions.hadamard()):
        queries, _ = ask(0, 5, directions=directions, **THREE)
        trace, error = zo.estimators.hessian_trace(queries)
        assert abs(trace / EIGENVALUES.sum() - 1) < 1e-9 and error < 1e-5


@pytest.mark.parametrize("with_params", [False, True])
@pytest.mark.parametrize("options", [THREE, {}])
def test_mean_and_standard_error(options, with_params, x64):
    """Over many rounds: the mean is right, and the error is the spread."""

    def estimate(seed):
        queries, x = ask(seed, **options)
        return zo.estimators.hessian_trace(queries, x if with_params else None)

    traces, errors = jax.vmap(estimate)(jnp.arange(200))
    spread = np.std(traces)
    assert abs(np.mean(traces) - EIGENVALUES.sum()) < 4 * spread / np.sqrt(200)
    assert abs(np.mean(errors) / spread - 1) < 0.2


def test_norms_help_where_the_hessian_is_nearly_isotropic():
    x = jnp.ones(40)
    key = jax.random.key(0)
    queries = zo.query(lambda x: jnp.sum(x**2), x, key, num_directions=50, radius=0.1, **THREE)
    _, plain = zo.estimators.hessian_trace(queries)
    trace, error = zo.estimators.hessian_trace(queries, x)
    assert abs(trace - 80) < 0.1 and error < 0.05 < plain


def test_queries_that_are_not_finite_are_dropped():
    queries, _ = ask(0, 6, **SIGNS, **THREE)
    broken = zo.Queries(
        queries.plan,
        queries.values.at[2, 1].set(jnp.nan),
        queries.radius,
        queries.origin,
        queries.stencil,
    )
    assert abs(zo.estimators.hessian_trace(broken).trace / EIGENVALUES.sum() - 1) < 1e-3
    one, _ = ask(0, 1, **SIGNS)
    assert jnp.isinf(zo.estimators.hessian_trace(one).standard_error)


def test_needs_the_origin():
    queries, _ = ask(0, 3, origin=False)
    with pytest.raises(ValueError, match="origin=True"):
        zo.estimators.hessian_trace(queries)


def test_average_is_the_weighted_mean(x64):
    average, samples, weights = zo.estimators.TraceAverage.init(), [], []
    for seed in range(4):
        queries, _ = ask(seed, 5)
        average = average.add(queries, decay=0.5)
        each = 2 * (queries.values - queries.origin) / queries.radius**2
        samples.append(np.asarray(each))
        weights = [w / 2 for w in weights] + [np.ones(5)]
    x, w = np.concatenate(samples), np.concatenate(weights)
    mean = np.average(x, weights=w)
    trace, error = average.estimate
    assert abs(trace / mean - 1) < 1e-12
    effective = w.sum() ** 2 / np.sum(w**2)
    variance = np.average(np.square(x - mean), weights=w) / (effective - 1)
    assert abs(error / np.sqrt(variance) - 1) < 1e-6


def test_average_of_nothing():
    empty = zo.estimators.TraceAverage.init()
    assert float(empty.estimate.trace) == 0 and jnp.isinf(empty.estimate.standard_error)
    queries = zo.query(
        lambda x: jnp.nan * x[0],
        jnp.ones(2),
        jax.random.key(0),
        num_directions=3,
        radius=0.1,
        origin=True,
    )
    full = empty.add(ask(0, 3)[0], decay=0.9)
    for before, after in zip(full, full.add(queries, decay=0.9), strict=True):
        assert float(before) == float(after)
