"""Hypergradients, against closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")
D = 20
RNG = np.random.default_rng(0)
TRAIN, VALID = (jnp.asarray(RNG.normal(size=(n, D)), jnp.float32) for n in (60, 40))
TRUE = RNG.normal(size=D)
TRAIN_Y, VALID_Y = (
    jnp.asarray(X @ TRUE + RNG.normal(size=len(X)), jnp.float32) for X in (TRAIN, VALID)
)
X = jnp.full(D, -2.0)


def inner(x, y):
    """Ridge regression, with a penalty e^x for each parameter."""
    return 0.5 * jnp.mean((TRAIN @ y - TRAIN_Y) ** 2) + 0.5 * jnp.sum(jnp.exp(x) * y**2)


def outer(x, y):
    return 0.5 * jnp.mean((VALID @ y - VALID_Y) ** 2) + 0.01 * jnp.sum(x**2)


def solution(x):
    return jnp.linalg.solve(TRAIN.T @ TRAIN / 60 + jnp.diag(jnp.exp(x)), TRAIN.T @ TRAIN_Y / 60)


@pytest.fixture(scope="module")
def exact():
    return jax.jit(jax.grad(lambda x: outer(x, solution(x))))(X)


@functools.cache
def program(**options):
    """Compiled once for all tests."""
    g = zo.hypergradient(outer, inner, radius=0.05, return_info=True, **options)
    return jax.jit(lambda start: g(X, solution(X), key=jax.random.key(0), start=start))


def estimated(start=None, **options):
    return program(**options)(start)


def error(gradient, exact):
    return float(jnp.linalg.norm(gradient - exact) / jnp.linalg.norm(exact))


def inner_hvp(x, y, v):
    return jax.jvp(lambda y: jax.grad(inner, 1)(x, y), (y,), (v,))[1]


@pytest.mark.parametrize(
    ("options", "most_queries", "most_error"),
    [
        ({"solver": zo.solvers.cg(max_steps=12)}, 1300, 0.003),
        ({"solver": zo.solvers.neumann(num_terms=10)}, 2000, 0.15),
        ({"hessian": "interpolated", "num_directions": 250}, 661, 0.1),
        ({"outer_grad": jax.grad(outer, (0, 1)), "inner_hvp": inner_hvp}, 80, 0.03),
    ],
    ids=["cg", "neumann", "interpolated", "mixed"],
)
def test_ridge_regression(exact, options, most_queries, most_error):
    gradient, info = estimated(**options)
    assert error(gradient, exact) < most_error
    cosine = gradient @ exact / jnp.linalg.norm(gradient) / jnp.linalg.norm(exact)
    assert cosine > 0.99
    assert info.num_queries <= most_queries
    assert not info.solve.diverged


def test_more_terms_leave_less(exact):
    """The error falls as the residual does, which the info tells."""
    found = [estimated(solver=zo.solvers.neumann(num_terms=t, step_size=0.5)) for t in (4, 8, 16)]
    errors = [error(gradient, exact) for gradient, _ in found]
    residuals = [float(info.solve.residual) for _, info in found]
    assert errors[0] > errors[1] > errors[2] and residuals[0] > residuals[1] > residuals[2]
    np.testing.assert_allclose(np.diff(np.log(errors)), np.diff(np.log(residuals)), rtol=0.5)


def test_a_start_saves_terms(exact):
    _, first = estimated(solver=zo.solvers.neumann(num_terms=20, step_size=0.5))
    short = zo.solvers.neumann(num_terms=5, step_size=0.5)
    cold, _ = estimated(solver=short)
    warm, info = estimated(solver=short, start=first.solution)
    assert error(warm, exact) < 0.2 * error(cold, exact)
    assert info.num_queries == 8 * D + 4 * D * 7  # one product more
    matrix = TRAIN.T @ TRAIN / 60 + jnp.diag(jnp.exp(X))
    v = jax.grad(outer, 1)(X, solution(X))
    residual = jnp.linalg.norm(v - matrix @ info.solution) / jnp.linalg.norm(v)
    np.testing.assert_allclose(info.solve.residual, residual, rtol=0.1, atol=1e-3)
    lost, _ = estimated(solver=short, start=jnp.full(D, jnp.nan))
    np.testing.assert_allclose(lost, cold, rtol=1e-3)


def test_queries_are_those_that_are_asked():
    asked = {"inner": 0, "outer": 0}

    def counting(name, f):
        def count(x, y):
            def call(_):
                asked[name] += 1
                return np.float32(0)

            extra = jax.pure_callback(
                call, jax.ShapeDtypeStruct((), jnp.float32), x[0] + y[0], vmap_method="sequential"
            )
            return f(x, y) + 0 * extra

        return count

    g = zo.hypergradient(
        counting("outer", outer),
        counting("inner", inner),
        radius=0.05,
        solver=zo.solvers.neumann(num_terms=2, step_size=0.5),
        return_info=True,
    )
    gradient, info = jax.jit(g)(X, solution(X), key=jax.random.key(0))
    jax.block_until_ready(gradient)
    assert asked == {"outer": 4 * D, "inner": 4 * D * 3 + 4 * D}
    assert info.num_queries == sum(asked.values())


def test_the_mixed_product_by_derivatives(exact):
    """Of inner in x alone: the same gradient for fewer values."""
    solver = zo.solvers.cg(max_steps=12)
    by_values, info = estimated(solver=solver)
    gradient, cheaper = estimated(solver=solver, inner_grad=jax.grad(inner))
    assert error(gradient, exact) < 0.003 and error(gradient, by_values) < 0.003
    assert info.num_queries - cheaper.num_queries == 4 * D


def test_outer_may_depend_on_the_solution_alone():
    """``direct=False`` saves values, and leaves out what outer has of x itself."""
    whole, info = estimated()
    gradient, cheaper = estimated(direct=False)
    np.testing.assert_allclose(whole - gradient, 0.02 * X, rtol=0.02)
    assert info.num_queries - cheaper.num_queries == 2 * D


def test_random_truncation_is_unbiased():
    """A mean over many short series is the whole one, where the fixed one stays short."""
    quadratic = lambda x, y: 0.5 * jnp.sum(jnp.array([1.0, 2.0]) * y**2) - jnp.sum(x * y)  # noqa: E731
    target = lambda x, y: 0.5 * jnp.sum((y - 1) ** 2)  # noqa: E731
    x, y = jnp.array([3.0, 2.0]), jnp.array([3.0, 1.0])  # y = x/h
    exact = (y - 1) / jnp.array([1.0, 2.0])

    def mean(truncation, num):
        g = zo.hypergradient(
            target,
            quadratic,
            radius=0.1,
            solver=zo.solvers.neumann(num_terms=2, step_size=0.4, truncation=truncation),
        )
        keys = jax.random.split(jax.random.key(0), num)
        found = jax.jit(jax.vmap(lambda key: g(x, y, key=key)))(keys)
        return jnp.mean(found, 0), jnp.std(found, 0) / num**0.5

    found, deviation = mean("random", 4000)
    assert jnp.all(jnp.abs(found - exact) < 4 * deviation + 1e-3) and deviation[0] < 0.05
    short, _ = mean("fixed", 1)
    assert abs(short[0] - exact[0]) > 0.3


def test_an_indefinite_inner_hessian_is_reported():
    saddle = lambda x, y: jnp.sum(jnp.array([1.0, -1.0]) * y**2) + jnp.sum(x * y)  # noqa: E731
    g = zo.hypergradient(lambda x, y: jnp.sum(y), saddle, radius=0.1, return_info=True)
    gradient, info = jax.jit(g)(jnp.ones(2), jnp.zeros(2), key=jax.random.key(0))
    assert info.solve.diverged and jnp.all(jnp.isnan(gradient))


def test_damping_is_added_to_the_inner_hessian():
    quadratic = lambda x, y: 0.5 * jnp.sum(y**2) - jnp.sum(x * y)  # noqa: E731
    g = zo.hypergradient(lambda x, y: jnp.sum(y), quadratic, radius=0.1, damping=3.0)
    gradient = jax.jit(g)(jnp.zeros(2), jnp.zeros(2), key=jax.random.key(0))
    np.testing.assert_allclose(gradient, [0.25, 0.25], rtol=1e-3)


def test_trees_and_bfloat16():
    """y in leaves, one of them bfloat16; x a scalar."""

    def inner(x, y):
        first = jnp.sum((y["a"] - 1) ** 2) + jnp.exp(x) * jnp.sum(y["a"] ** 2)
        return first + jnp.sum((y["b"].astype(jnp.float32) - x) ** 2)

    outer = lambda x, y: jnp.sum(y["a"]) + jnp.sum(y["b"].astype(jnp.float32))  # noqa: E731
    y = {"a": jnp.full(3, 0.5), "b": jnp.zeros(2, jnp.bfloat16)}
    g = jax.jit(zo.hypergradient(outer, inner, radius=0.125))
    gradient = g(jnp.zeros(()), y, key=jax.random.key(0))
    assert gradient.dtype == jnp.float32
    np.testing.assert_allclose(gradient, -3 * 0.25 + 2, rtol=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hessian": "exact"}, 'hessian must be "products" or "interpolated"'),
        ({"num_directions": 8}, "Leave num_directions out"),
        ({"hessian": "interpolated"}, "needs num_directions"),
        ({"radius": -1.0}, "radius"),
        ({"damping": -1.0}, "damping"),
    ],
)
def test_wrong_arguments_raise(options, message):
    with pytest.raises(ValueError, match=message):
        zo.hypergradient(outer, inner, **{"radius": 0.1, **options})
