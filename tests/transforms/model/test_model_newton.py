"""model_newton: what it finds, in how many queries, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")


def trace(value_fn, params, num_steps, num_directions, radius=1.0, **options):
    """Values before each step, the last parameters, and the last state."""
    optimizer = zo.model_newton(num_directions, radius, key=jax.random.key(0), **options)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(None, state, params, value_fn=value_fn)
        return (optax.apply_updates(params, updates), state), value_fn(params)

    @jax.jit
    def run(params):
        start = params, optimizer.init(params)
        return jax.lax.scan(step, start, None, length=num_steps)

    (params, state), values = run(params)
    return values, params, state


def quadratic(d, condition, seed=0):
    r = np.random.default_rng(seed)
    basis = np.linalg.qr(r.standard_normal((d, d)))[0]
    eigenvalues = jnp.asarray(condition) ** jnp.linspace(0, 1, d)
    hessian = (basis * eigenvalues[None]) @ basis.T
    minimum = jnp.asarray(r.standard_normal(d))
    return lambda x: (x - minimum) @ hessian @ (x - minimum) / 2


@pytest.mark.parametrize(
    "d, k, allowed",
    [
        (2, 2, 1.5),
        pytest.param(5, 2, 1.3, marks=pytest.mark.slow),
        (8, 4, 1.2),
        pytest.param(20, 16, 1.3, marks=pytest.mark.slow),
    ],
)
def test_a_quadratic_takes_few_more_queries_than_it_has_unknowns(x64, d, k, allowed):
    """A round's first point is the model's minimiser: its value may be the first below the target.

    In two dimensions there are 6 unknowns, and it takes a seventh value to see that all is known.
    """
    num_steps = int((allowed * (d + 1) * (d + 2) / 2 - 1) // k) + 1

    def solve(condition):
        f = quadratic(d, condition)
        _, x, state = trace(f, jnp.zeros(d), num_steps, k)
        return f(x), zo.num_queries(state)

    values, queries = jax.jit(jax.vmap(solve))(jnp.array([1, 1e3, 1e6]))
    np.testing.assert_array_less(values, 1e-10)
    np.testing.assert_array_equal(queries, k * num_steps)


@pytest.mark.parametrize(("value", "believed"), [(0.1, True), (jnp.nan, False)])
def test_a_value_that_is_passed_is_believed(value, believed):
    """Even where it is wrong; but a missing one is asked for."""
    optimizer, x = zo.model_newton(4, 1.0, key=jax.random.key(0)), jnp.ones(3)
    f = lambda x: jnp.sum(x**2)  # noqa: E731
    _, state = jax.jit(
        lambda value: optimizer.update(None, optimizer.init(x), x, value_fn=f, value=value)
    )(value)
    assert zo.num_queries(state) == 4
    assert jnp.sum(jnp.isfinite(state.values)) == 3 + believed  # all besides θ
    assert (state.level == np.float32(0.1)) == believed


def test_a_round_of_wrong_values_is_recovered_from():
    """Zeros below the minimum: nothing is ever better than what was believed there."""
    d, num_steps = 5, 120
    f, optimizer = quadratic(d, 10.0), zo.model_newton(4, 1.0, key=jax.random.key(0))

    def step(carry, t):
        x, state = carry
        wrong = lambda x: jnp.where(t == 20, 0.0, 1 + f(x))  # noqa: E731
        updates, state = optimizer.update(None, state, x, value_fn=wrong)
        return (optax.apply_updates(x, updates), state), ()

    start = jnp.zeros(d), optimizer.init(jnp.zeros(d))
    go = jax.jit(lambda: jax.lax.scan(step, start, jnp.arange(num_steps))[0])
    x, _ = go()
    assert f(x) < 1e-4 * f(jnp.zeros(d))


def test_values_never_rise():
    f = zo.problems.rosenbrock()
    values, x, _ = trace(f, jnp.full(4, -1.0), 120, 6, 0.3)
    assert jnp.all(jnp.diff(values) <= 0)
    assert f(x) < 1e-6


def test_with_little_memory_it_still_converges():
    d = 12
    values, x, _ = trace(quadratic(d, 10.0), jnp.zeros(d), 80, 6, memory=30)
    assert quadratic(d, 10.0)(x) < 1e-4 * values[0]


def test_missing_values_are_left_out():
    f = quadratic(6, 10.0)

    def crashing(x):
        bits = jax.lax.bitcast_convert_type(jnp.sum(x * jnp.arange(1.0, 7.0)), jnp.int32)
        return jnp.where(bits % 10 < 3, jnp.nan, f(x))

    _, x, state = trace(crashing, jnp.zeros(6), 60, 6)
    assert zo.diagnostics(state).num_nonfinite > 20
    assert f(x) < 1e-6


def test_long_after_the_end_it_asks_for_nothing_but_numbers():
    asked = []
    f = zo.from_host(lambda x: asked.append(x) or float((x[0] - 1) ** 2 + 10 * (x[1] - 1) ** 2))
    _, x, state = trace(f, jnp.zeros(2), 150, 6)
    assert np.all(np.isfinite(asked))
    np.testing.assert_allclose(x, 1, atol=1e-5)
    assert state.region.radius > 1e-8


def test_a_first_region_without_values_shrinks():
    def f(x):
        return jnp.where(jnp.linalg.norm(x) < 0.05, jnp.sum((x - 0.02) ** 2), jnp.nan)

    _, x, _ = trace(f, jnp.zeros(2), 40, 4, radius=1.0)
    np.testing.assert_allclose(x, 0.02, atol=1e-3)


@pytest.mark.parametrize("dtype", [pytest.param(jnp.float32, marks=pytest.mark.slow), jnp.bfloat16])
def test_values_are_those_of_the_parameters_it_moves_to(x64, dtype):
    def f(p):
        a, b = (p[name].astype(float) for name in "ab")
        return jnp.sum((a - 0.3) ** 2) + jnp.sum((b - 0.7) ** 2) + a[0] * b[0, 0]

    start = {"a": jnp.ones(3, dtype), "b": jnp.ones((2, 2), dtype)}
    _, end, state = trace(f, start, 30, 5)
    # Accelerators may keep more digits than bfloat16 has.
    exact = jax.default_backend() == "cpu" or dtype != jnp.bfloat16
    np.testing.assert_allclose(state.level, f(end), rtol=1e-6 if exact else 1e-3)
    assert f(end) < 0.5 * f(start)


def test_on_flat_ground_it_stays():
    _, x, _ = trace(lambda x: jnp.zeros(()), jnp.ones(3), 10, 4)
    np.testing.assert_array_equal(x, 1)


def test_many_small_problems_at_once():
    minima = jax.random.normal(jax.random.key(1), (3, 4))

    def solve(minimum):
        return trace(lambda x: jnp.sum((x - minimum) ** 2), jnp.zeros(4), 8, 4)[1]

    np.testing.assert_allclose(jax.jit(jax.vmap(solve))(minima), minima, atol=1e-2)


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="num_directions must be at least 2"):
        zo.model_newton(1, 0.1, key=key)
    with pytest.raises(ValueError, match="radius must be"):
        zo.model_newton(4, 0.0, key=key)
    with pytest.raises(ValueError, match="memory must be"):
        zo.model_newton(4, 0.1, key=key, memory=0)
    with pytest.raises(ValueError, match="5 parameters are above max_size=4"):
        zo.model_newton(4, 0.1, key=key, max_size=4).init(jnp.zeros(5))
