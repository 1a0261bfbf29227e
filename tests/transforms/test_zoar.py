"""ZoAR with directions on the sphere: an unbiased gradient of the ball-smoothed objective."""

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo

A = np.array([1.0, -0.5, 2.0])
START = np.array([0.3, -0.2, 0.1])


def cubic(x):
    return jnp.sum(jnp.asarray(A[: x.size], x.dtype) * x**3)


def ball_gradient(x, radius):
    """∇ E f(x + v), v uniform in the ball of radius r = μ√d: E v_i² = r²/(d + 2).

    For Gaussian v ~ N(0, μ²I) it is 3a (x² + μ²).
    """
    d = len(x)
    return 3 * A[:d] * (x**2 + radius**2 * d / (d + 2))


def zoar(num_directions, radius, key, directions):
    return zo.zoar(
        1.0,
        num_directions=num_directions,
        radius=radius,
        key=key,
        history_size=1,
        directions=directions,
    )


def test_exactly_on_a_circle(x64):
    """Equal angles integrate a cubic times u without error; K/(K − 1) is the sample's divisor."""
    k, radius = 8, 0.7
    angles = 2 * np.pi * np.arange(k) / k
    u = np.sqrt(2) * np.stack([np.cos(angles), np.sin(angles)], -1)
    x = jnp.asarray(START[:2])
    optimizer = zoar(k, radius, jax.random.key(0), zo.directions.explicit(jnp.asarray(u)))
    updates, _ = optimizer.update(None, optimizer.init(x), x, value_fn=cubic)
    expected = ball_gradient(START[:2], radius)
    np.testing.assert_allclose(-updates * (k - 1) / k, expected, rtol=1e-12)


def test_unbiased_on_the_sphere():
    """Over many rounds of two directions: the averaged baseline costs no bias."""
    radius, x = 1.0, jnp.asarray(START, jnp.float32)

    def one(key):
        optimizer = zoar(2, radius, key, zo.directions.sphere())
        return -optimizer.update(None, optimizer.init(x), x, value_fn=cubic)[0]

    g = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(2), 100_000)), float)
    errors = g.std(0) / np.sqrt(len(g))
    expected = ball_gradient(START, radius)
    gaussian = 3 * A * (START**2 + radius**2)
    assert np.all(errors < np.abs(gaussian - expected) / 20)
    assert np.all(np.abs(g.mean(0) - expected) < 5 * errors)
