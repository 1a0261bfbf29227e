"""hessian_trace and TraceAverage."""

import functools

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
    return 0.5 * jnp.sum(jnp.asarray(EIGENVALUES, x.dtype) * jnp.square(x)) + jnp.sum(x)


def ask(seed, num_directions=400, origin=True, **options):
    x = jnp.ones(40)
    key = jax.random.key(seed)
    options = {"num_directions": num_directions, "radius": 0.1, "origin": origin} | options
    return zo.query(quadratic, x, key, **options), x


def test_exact_along_signs_on_a_diagonal_hessian(x64):
    for directions in (zo.directions.rademacher(), zo.directions.hadamard()):
        asked = functools.partial(ask, 0, 5, directions=directions, **THREE)
        trace, error = jax.jit(lambda f=asked: zo.estimators.hessian_trace(f()[0]))()
        assert abs(trace / EIGENVALUES.sum() - 1) < 1e-9 and error < 1e-5


@pytest.mark.parametrize(
    ("options", "with_params"),
    [
        (THREE, True),
        ({}, False),
        pytest.param(THREE, False, marks=pytest.mark.slow),
        pytest.param({}, True, marks=pytest.mark.slow),
    ],
)
def test_mean_and_standard_error(options, with_params, x64):
    """Over many rounds: the mean is right, and the error is the spread."""

    def estimate(seed):
        queries, x = ask(seed, **options)
        return zo.estimators.hessian_trace(queries, x if with_params else None, noise=0.0)

    traces, errors = jax.jit(jax.vmap(estimate))(jnp.arange(200))
    spread = np.std(traces)
    assert abs(np.mean(traces) - EIGENVALUES.sum()) < 4 * spread / np.sqrt(200)
    assert abs(np.mean(errors) / spread - 1) < 0.2


def test_norms_help_where_the_hessian_is_nearly_isotropic():
    x = jnp.ones(40)

    @jax.jit
    def both(key):
        queries = zo.query(lambda x: jnp.sum(x**2), x, key, num_directions=50, radius=0.1, **THREE)
        return zo.estimators.hessian_trace(queries), zo.estimators.hessian_trace(queries, x)

    (_, plain), (trace, error) = both(jax.random.key(0))
    assert abs(trace - 80) < 0.1 and error < 0.05 < plain


def test_queries_that_are_not_finite_are_dropped():
    queries, _ = jax.jit(lambda: ask(0, 6, **SIGNS, **THREE))()
    broken = zo.Queries(
        queries.plan,
        queries.values.at[2, 1].set(jnp.nan),
        queries.radius,
        queries.origin,
        queries.stencil,
    )
    found = jax.jit(zo.estimators.hessian_trace)(broken)
    assert abs(found.trace / EIGENVALUES.sum() - 1) < 1e-3
    one = jax.jit(lambda: zo.estimators.hessian_trace(ask(0, 1, **SIGNS)[0]))()
    assert jnp.isinf(one.standard_error)


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


def noisy(key, f, stencil, sigma, directions, params, options, rounds=1):
    """Estimates from rounds of values with independent errors, f(θ)'s among them."""
    x, k, mu = jnp.zeros(20), 16, 0.1
    history = zo.History.init(
        x, size=rounds, num_directions=k, stencil=stencil, origin=True, directions=directions
    )
    for i in range(rounds):
        a, b = jax.random.split(jax.random.fold_in(key, i))
        queries = zo.query(
            f,
            x,
            a,
            num_directions=k,
            radius=mu,
            stencil=stencil,
            origin=True,
            directions=directions,
        )
        errors = sigma * jax.random.normal(b, (queries.values.size + 1,))
        history = history.push(
            zo.Queries.from_values(
                queries.values + errors[1:].reshape(queries.values.shape),
                plan=queries.plan,
                radius=mu,
                stencil=stencil,
                origin=queries.origin + errors[0],
            )
        )
    queries = history.queries()
    return [zo.estimators.hessian_trace(queries, x if params else None, **o) for o in options]


SPHERE = lambda x: jnp.sum(x**2)  # noqa: E731


@pytest.mark.parametrize(
    ("stencil", "rounds"),
    [
        (zo.stencils.three_point(), 1),
        (zo.stencils.forward(), 4),
        pytest.param(zo.stencils.three_point(), 4, marks=pytest.mark.slow),
        pytest.param(zo.stencils.forward(), 1, marks=pytest.mark.slow),
    ],
)
def test_error_of_noise_alone_is_exact(stencil, rounds, x64):
    """Along signs, on τI, all spread is noise: the bound is reached, and known noise agrees."""
    sigma, k, mu = 1e-2, 16, 0.1
    keys = jax.random.split(jax.random.key(0), 1500)
    settings = ({}, {"noise": sigma})

    def run(key):
        signs = zo.directions.hadamard()
        return noisy(key, SPHERE, stencil, sigma, signs, False, settings, rounds)

    for options, found in zip(settings, jax.jit(jax.vmap(run))(keys), strict=True):
        traces, errors = found
        spread = np.std(traces)
        c = 2 if stencil.paired else 4
        expected = sigma / mu**2 * np.sqrt((c / k + 4) / rounds)
        assert abs(spread / expected - 1) < 0.08
        root_mean_square = np.sqrt(np.mean(np.square(errors)))
        assert abs(root_mean_square / expected - 1) < (0.02 if options else 0.05)
        assert abs(np.mean(traces) - 40) < 5 * spread / np.sqrt(len(keys))


@pytest.mark.parametrize(
    ("stencil", "params"), [(zo.stencils.three_point(), True), (zo.stencils.forward(), False)]
)
def test_error_covers_the_shared_error_of_the_origin(stencil, params, x64):
    """Gaussian directions, whose own spread is taken for noise too unless noise is known."""
    keys = jax.random.split(jax.random.key(1), 1500)
    f = lambda x: jnp.sum(x**2 * jnp.linspace(0.5, 1.5, 20))  # noqa: E731
    sigma = 0.05
    settings = ({}, {"noise": sigma}, {"noise": 0.0})

    def run(key):
        return noisy(key, f, stencil, sigma, zo.directions.gaussian(), params, settings)

    inside = [
        np.mean(np.abs(traces - 40) < 2 * errors) for traces, errors in jax.jit(jax.vmap(run))(keys)
    ]
    assert 0.94 < inside[0] <= 1 and 0.92 < inside[1] <= 0.98, inside
    assert inside[2] < 0.8  # what it was without


def test_exact_values_can_be_said_to_be_exact(x64):
    def estimates(noises):
        queries, x = ask(0, 40, **THREE)
        return [zo.estimators.hessian_trace(queries, x, **noise) for noise in noises]

    (trace, bound), (same, error) = jax.jit(lambda: estimates([{}, {"noise": 0.0}]))()
    assert trace == same
    assert abs(bound / error / np.sqrt(1 + 2 * 40) - 1) < 0.1
    with pytest.raises(ValueError, match="noise"):
        jax.eval_shape(lambda: estimates([{"noise": -1.0}]))
