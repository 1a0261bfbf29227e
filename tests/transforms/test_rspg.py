"""RSPG: the proximal step, and the law of the random iterate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled_run, run

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

U = jnp.array([[1.0, 1.0], [1.0, -1.0]])
"""Directions whose second moment is the identity: central pairs give exact gradients."""
SLOPE = np.array([2.0, -3.0])
EXACT = {
    "num_directions": 2,
    "radius": 0.1,
    "directions": zo.directions.explicit(U),
    "stencil": zo.stencils.central(),
}


def linear(x):
    return jnp.dot(jnp.asarray(SLOPE, x.dtype), x)


def quadratic(x):
    return jnp.sum(jnp.asarray([1.0, 4.0], x.dtype) * (x - 1) ** 2)


def soft_threshold(tree, step_size):
    return jax.tree.map(lambda x: jnp.sign(x) * jnp.maximum(jnp.abs(x) - step_size, 0), tree)


def test_proximal_steps(x64):
    """ISTA with exact gradients and a schedule, which both the step and the prox follow."""

    def rate(t):
        return 0.1 / (1 + t)

    optimizer = zo.rspg(rate, key=jax.random.key(0), prox=soft_threshold, **EXACT)
    actual, _ = run(optimizer, quadratic, jnp.array([0.05, -1.0]), 5)
    x, expected = np.array([0.05, -1.0]), []
    for t in range(6):
        expected.append(x)
        moved = x - rate(t) * 2 * np.array([1.0, 4.0]) * (x - 1)
        x = np.sign(moved) * np.maximum(np.abs(moved) - rate(t), 0)
    np.testing.assert_allclose(actual, expected, rtol=1e-10, atol=1e-12)


def test_without_prox_it_is_gradient_descent():
    options = {"num_directions": 4, "radius": 0.1, "key": jax.random.key(3)}
    x = jnp.array([0.5, -1.0])
    actual, _ = run(zo.rspg(0.05, **options), quadratic, x, 3)
    expected, _ = run(zo.zo_sgd(0.05, **options), quadratic, x, 3)
    np.testing.assert_allclose(actual, expected, rtol=1e-6)


def test_the_prox_acts_where_no_query_is_finite():
    optimizer = zo.rspg(0.25, key=jax.random.key(0), prox=soft_threshold, **EXACT)
    actual, _ = run(optimizer, lambda x: jnp.nan * x[0], jnp.array([1.0, -0.125]), 1)
    np.testing.assert_array_equal(actual[-1], [0.75, 0.0])


@pytest.mark.filterwarnings("ignore:value_fn returns")
def test_the_prox_of_narrow_parameters_is_wide():
    seen = []

    def prox(tree, step_size):
        seen.append((tree.dtype, step_size.dtype))
        return tree

    x = jnp.ones(2, jnp.bfloat16)
    optimizer = zo.rspg(0.25, key=jax.random.key(0), prox=prox, **EXACT)
    updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=linear)
    assert seen == [(jnp.float32, jnp.float32)]
    assert updates.dtype == zo.random_iterate(state).dtype == jnp.bfloat16


def drawn(rate, smoothness, num_steps, num_keys):
    """Which iterate was drawn, 0-based, for many keys: on a line each has its own place."""

    def one(key):
        optimizer = zo.rspg(rate, key=key, smoothness=smoothness, **EXACT)
        x = jnp.zeros(2)
        path, state = compiled_run(optimizer, linear, x, num_steps)
        seen = jnp.concatenate([x[None], path[:-1]])
        return jnp.argmin(jnp.sum(jnp.abs(seen - zo.random_iterate(state)), -1))

    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(5), num_keys)))


@pytest.mark.parametrize(("num_steps", "smoothness"), [(3, 0.0), (5, 0.0), (5, 1.5)])
def test_law_of_the_random_iterate(num_steps, smoothness):
    rates = np.array([0.1, 0.4, 0.2, 0.6, 0.1])
    k = drawn(lambda t: jnp.asarray(rates, jnp.float32)[t], smoothness, num_steps, 20_000)
    weights = (rates - smoothness * rates**2)[:num_steps]
    expected = weights / weights.sum()
    frequencies = np.bincount(k, minlength=num_steps) / len(k)
    errors = np.sqrt(expected * (1 - expected) / len(k))
    assert errors.max() < 0.005
    assert np.all(np.abs(frequencies - expected) < 5 * errors)


def test_steps_of_no_weight_are_not_drawn():
    """γ = 1/L, and above it, at the steps 0, 2 and 3: only step 1 can be."""
    rates = jnp.array([0.5, 0.1, 0.5, 0.9])
    assert set(drawn(lambda t: rates[t], 2.0, 4, 200)) == {1}


def test_the_last_iterate_is_not_among_them():
    """After one step the answer is where it was taken from."""
    x = jnp.array([0.5, -1.0])
    optimizer = zo.rspg(0.1, key=jax.random.key(0), **EXACT)
    np.testing.assert_array_equal(zo.random_iterate(optimizer.init(x)), 0)
    _, state = run(optimizer, linear, x, 1)
    np.testing.assert_array_equal(zo.random_iterate(state), x)


def test_errors():
    options = {"num_directions": 2, "radius": 0.1, "key": jax.random.key(0)}
    with pytest.raises(TypeError, match=r"prox must be a function.*0\.5"):
        zo.rspg(0.1, prox=0.5, **options)
    optimizer = zo.zo_sgd(0.1, **options)
    with pytest.raises(ValueError, match=r"zo\.rspg"):
        zo.random_iterate(optimizer.init(jnp.zeros(2)))
