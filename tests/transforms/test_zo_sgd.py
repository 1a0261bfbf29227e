"""Classical ZOO, with Gaussian and sphere directions, and another divisor that is in use."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

K, D, RADIUS = 4, 5, 0.2
START = np.linspace(-1, 1, D)


def f(x):
    return jnp.sum(jnp.sin(x)) + jnp.sum(x**4)


@pytest.mark.parametrize("family", ["gaussian", "sphere"])
def test_vanilla_zoo_divides_by_the_number_of_directions(family, x64):
    """1/K Σ (F_k − f0)/μ u_k is unbiased: f0 has no part in the average, unlike F̄ in ZoAR.

    The code published with ZoVH divides the same sum by K − 1, which lengthens every step by
    K/(K − 1), a half at its K = 3: its learning rate η is K/(K − 1) η here.
    """
    key, directions = jax.random.key(0), getattr(zo.directions, family)()
    x = jnp.asarray(START)
    queries = zo.query(f, x, key, num_directions=K, radius=RADIUS, directions=directions)
    u = np.asarray(queries.plan.draw(x))
    if family == "sphere":
        np.testing.assert_allclose(np.sum(u**2, -1), D)
    differences = np.array([float(f(START + RADIUS * each)) - float(f(START)) for each in u])
    published = differences @ u / RADIUS / (K - 1)

    def update(learning_rate):
        optimizer = zo.zo_sgd(
            learning_rate,
            num_directions=K,
            radius=RADIUS,
            key=jax.random.key(0),
            directions=zo.directions.explicit(jnp.asarray(u)),
        )
        return jax.jit(lambda s: optimizer.update(None, s, x, value_fn=f)[0])(optimizer.init(x))

    np.testing.assert_allclose(update(0.1), -0.1 * (K - 1) / K * published, rtol=1e-9)
    np.testing.assert_allclose(update(0.1 * K / (K - 1)), -0.1 * published, rtol=1e-9)
