"""ZO-AdaMM against a double-precision re-implementation, and its projection."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import run

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

U = jnp.array([[1.0, 1.0], [1.0, -1.0]])
"""Directions whose second moment is the identity: central pairs give a quadratic's gradient."""
SCALES = np.array([1.0, 30.0])
START = np.array([1.0, -2.0])


def quadratic(x):
    return 0.5 * jnp.sum(jnp.asarray(SCALES, x.dtype) * x**2)


def optimizer(learning_rate, **options):
    return zo.zo_adamm(
        learning_rate,
        num_directions=2,
        radius=0.1,
        key=jax.random.key(0),
        directions=zo.directions.explicit(U),
        stencil=zo.stencils.central(),
        **options,
    )


def reference(x, num_steps, learning_rate, b1, b2, eps, lower=-np.inf, upper=np.inf):
    m, v, top, seen = np.zeros(2), np.zeros(2), np.zeros(2), []
    for _ in range(num_steps):
        g = SCALES * x
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * g**2
        top = np.maximum(top, v)
        x = np.clip(x - learning_rate * m / (np.sqrt(top) + eps), lower, upper)
        seen.append(x)
    return np.stack(seen)


@pytest.mark.parametrize(
    ("moments", "box"),
    [
        ((0.9, 0.99, 1e-8), {}),
        ((0.9, 0.3, 1e-3), {"lower": -1.9, "upper": 0.9}),
        ((0.5, 0.9, 1e-8), {"upper": np.array([0.3, 5.0])}),
    ],
)
def test_trajectory(moments, box, x64):
    b1, b2, eps = moments
    made = optimizer(0.2, b1=b1, b2=b2, eps=eps, **box)
    actual, _ = run(made, quadratic, jnp.asarray(START), 6)
    np.testing.assert_allclose(actual[1:], reference(START, 6, 0.2, b1, b2, eps, **box), rtol=1e-10)


def test_mahalanobis_projection_onto_a_box_is_a_clip(x64):
    """No point of the box is nearer in Σ √v̂ (x − y)², for weights that differ by orders."""
    x, scale = jnp.asarray(START), zo.scale_by_zo_adamm()
    g = SCALES * START
    direction, moments = scale.update(jnp.asarray(g), scale.init(x))
    target = START - 3.0 * np.asarray(direction)
    (_, projected), _ = run(optimizer(3.0, lower=-0.5, upper=1.0), quadratic, x, 1)
    assert np.all((projected >= -0.5) & (projected <= 1.0)) and np.any(projected != target)

    def distance(y):
        return np.sum(np.sqrt(moments.nu_max) * (y - target) ** 2, -1)

    points = np.random.default_rng(0).uniform(-0.5, 1.0, size=(10_000, 2))
    assert distance(projected) <= distance(points).min()


def test_the_box_may_be_a_tree_or_a_prefix_of_one():
    params = {"a": jnp.full(2, 3.0), "b": (jnp.full(2, 3.0), jnp.full(1, -3.0))}
    box = {"lower": {"a": jnp.array([2.5, 5.0]), "b": -1.0}, "upper": {"a": np.inf, "b": 2.0}}
    made = zo.zo_adamm(1e-3, num_directions=2, radius=0.1, key=jax.random.key(0), **box)

    def f(p):
        return sum(jnp.sum(x**2) for x in jax.tree.leaves(p))

    updates, _ = jax.jit(lambda s: made.update(None, s, params, value_fn=f))(made.init(params))
    after = optax.apply_updates(params, updates)
    np.testing.assert_allclose(after["a"], [3.0, 5.0], atol=2e-3)
    assert float(after["a"][0]) != 3.0  # inside: the plain step
    np.testing.assert_array_equal(after["b"][0], 2.0)
    np.testing.assert_array_equal(after["b"][1], -1.0)


def test_narrow_parameters_keep_wide_moments():
    x = jnp.full(2, 1.0, jnp.bfloat16)
    made = optimizer(0.5, lower=0.9)
    state = made.init(x)
    updates, state = made.update(None, state, x, value_fn=lambda x: jnp.sum(x.astype(jnp.float32)))
    assert updates.dtype == jnp.bfloat16
    assert optax.tree.get(state, "nu_max").dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(x + updates, np.float32), 0.9, rtol=1e-2)


def test_v_hat_never_falls():
    scale = zo.scale_by_zo_adamm(b2=0.5)
    state = scale.init(jnp.zeros(1))
    for g in (4.0, 0.0, 0.0):
        _, state = scale.update(jnp.full(1, g), state)
        assert float(state.nu_max[0]) == 8.0
