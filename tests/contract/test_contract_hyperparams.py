"""Schedules and optax.inject_hyperparams, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import assert_close, base_key, jitted_step, make_params

import zovh_jax as zo

U = jnp.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
"""Directions whose second moment is exactly the identity."""
SLOPE = jnp.array([2.0, -3.0])
STATIC = ("num_directions", "key", "history_size")


def linear(x):
    """Its gradient is SLOPE and its Hessian zero, to the estimators as well (central pairs)."""
    return jnp.dot(SLOPE, x)


def options(**more):
    return {
        "num_directions": 4,
        "radius": 0.5,
        "key": base_key(),
        "directions": zo.directions.explicit(U),
        "stencil": zo.stencils.central(),
        **more,
    }


def updates_of(transformation, f, num_steps=3, params=None):
    params = jnp.zeros(2) if params is None else params
    step, state, seen = jitted_step(transformation, f), transformation.init(params), []
    for _ in range(num_steps):
        updates, state = step(params, state)
        seen.append(np.asarray(updates))
    return np.stack(seen)


def halving(start):
    """start, start/2, start/4, …"""
    return lambda count: start * 0.5**count


def test_learning_rate_schedule():
    for optimizer in (
        zo.zo_sgd(halving(0.8), **options()),
        zo.zoar(halving(0.8), **options()),
        zo.zovh(halving(0.8), damping=1.0, **options()),
    ):
        expected = [-rate * SLOPE for rate in (0.8, 0.4, 0.2)]
        np.testing.assert_allclose(updates_of(optimizer, linear), expected, rtol=1e-5)


def test_damping_schedule():
    expected = [SLOPE / damping for damping in (4.0, 2.0, 1.0)]
    newton = zo.zo_newton(damping=halving(4.0), **options())
    np.testing.assert_allclose(updates_of(newton, linear), expected, rtol=1e-5)
    zovh = zo.zovh(1.0, damping=halving(4.0), **options())
    np.testing.assert_allclose(-updates_of(zovh, linear), expected, rtol=1e-5)
    scale = zo.scale_by_inverse_hessian(damping=halving(4.0), **options())
    expected = [[1 / damping] * 2 for damping in (4.0, 2.0, 1.0)]
    np.testing.assert_allclose(updates_of(scale, linear), expected, rtol=1e-5)


@pytest.mark.parametrize("history_size", [1, 2])
def test_radius_schedule(history_size):
    """Without a baseline a constant objective has estimate u/μ; past rounds keep their own μ."""
    transformation = zo.zo_gradient(
        1,
        halving(0.8),
        key=base_key(),
        directions=zo.directions.explicit(jnp.ones((1, 2))),
        baseline=zo.baselines.none(),
        history_size=history_size,
    )
    inverse = np.array([1 / 0.8, 1 / 0.4, 1 / 0.2])
    if history_size == 2:
        inverse[1:] = (inverse[1:] + inverse[:-1]) / 2
    updates = updates_of(transformation, lambda x: 1.0 + 0.0 * x[0])
    np.testing.assert_allclose(updates, inverse[:, None] * np.ones(2), rtol=1e-5)


def test_radius_schedule_reaches_the_objective():
    """The points that are queried, seen from inside: |x − θ|∞ = μ_t along directions of ±1."""
    seen = []

    def f(x):
        jax.debug.callback(lambda value: seen.append(float(value)), jnp.max(jnp.abs(x)))
        return linear(x)

    updates_of(zo.zo_gradient(**{**options(), "radius": halving(0.5)}), f, 2)
    jax.effects_barrier()
    assert sorted(seen) == pytest.approx([0.25] * 8 + [0.5] * 8)


OPTIMIZERS = {
    "zo_sgd": (zo.zo_sgd, ("num_directions", "key"), {}),
    "zovh": (zo.zovh, STATIC, {"history_size": 2, "damping": 0.7}),
}


@pytest.mark.parametrize("name", [pytest.param("zo_sgd", marks=pytest.mark.slow), "zovh"])
def test_inject_hyperparams(name):
    """Injected constants give the plain optimiser's updates and state."""
    factory, static, more = OPTIMIZERS[name]
    arguments = {"learning_rate": 0.1, "num_directions": 4, "radius": 0.1, "key": base_key()} | more
    injected = optax.inject_hyperparams(factory, static_args=static)(**arguments)
    params = make_params()
    state = injected.init(params)
    assert set(state.hyperparams) == set(arguments) - set(static)
    updates, new_state = jitted_step(injected)(params, state)
    plain = factory(**arguments)
    expected, expected_state = jitted_step(plain)(params, plain.init(params))
    assert_close(updates, expected, rtol=2e-4, atol=2e-4)
    assert_close(new_state.inner_state, expected_state, rtol=2e-4, atol=2e-4)


def test_injected_hyperparams_can_be_set_and_scheduled():
    make = optax.inject_hyperparams(zo.zovh, static_args=STATIC)
    optimizer = make(learning_rate=halving(0.8), damping=2.0, **options())
    params = jnp.zeros(2)
    state = optimizer.init(params)
    step = jitted_step(optimizer, linear)
    first, state = step(params, state)
    np.testing.assert_allclose(first, -0.8 * SLOPE / 2, rtol=1e-5)
    state.hyperparams["damping"] = jnp.asarray(4.0)
    second, state = step(params, state)
    np.testing.assert_allclose(second, -0.4 * SLOPE / 4, rtol=1e-5)
    assert float(optax.tree.get(state, "radius")) == 0.5
    third, _ = step(params, optax.tree.set(state, damping=jnp.asarray(1.0)))
    np.testing.assert_allclose(third, -0.2 * SLOPE, rtol=1e-5)


@pytest.mark.parametrize(
    ("factory", "static", "argument"),
    [
        (zo.zo_sgd, ("key",), "num_directions"),
        (zo.zoar, ("key", "num_directions"), "history_size"),
    ],
)
def test_sizes_must_be_static(factory, static, argument):
    make = optax.inject_hyperparams(factory, static_args=static)
    optimizer = make(learning_rate=0.1, num_directions=4, radius=0.1, key=base_key())
    with pytest.raises(
        TypeError, match=rf"{argument}.*inject_hyperparams.*static_args.*{argument}"
    ):
        optimizer.init(make_params())


def test_hyperparameters_may_be_traced():
    """A compiled function of radius and damping compiles once for all of their values."""
    x, calls = jnp.zeros(2), []

    @jax.jit
    def first_update(radius, damping):
        calls.append(1)
        optimizer = zo.zo_newton(damping=damping, **{**options(), "radius": radius})
        return optimizer.update(None, optimizer.init(x), x, value_fn=linear)[0]

    np.testing.assert_allclose(first_update(0.1, 1.0), SLOPE, rtol=1e-5)
    np.testing.assert_allclose(first_update(0.2, 4.0), SLOPE / 4, rtol=1e-5)
    assert len(calls) == 1
