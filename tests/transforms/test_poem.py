"""POEM: steps and mean against the paper's formulas, and what is kept apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import drawn

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

K, D, FIRST = 2, 6, 0.05
SCALES = np.linspace(1, 3, D)
START = np.linspace(-1, 1.5, D)


def bowl(x, xp=jnp):
    return xp.sum(SCALES * xp.abs(x - 2) + xp.sin(3 * x))  # no polynomial: slopes depend on μ


def test_steps_are_the_papers(x64):
    """Eight steps; nothing is finite in the third, and the sixth starts from another place."""
    optimizer = zo.poem(K, FIRST, key=jax.random.key(0))
    x, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))

    @jax.jit
    def step(x, state, scale):
        updates, state = optimizer.update(None, state, x, value_fn=lambda y: scale * bowl(y))
        return optax.apply_updates(x, updates), state

    flat, told_nothing = step(x, state, 0.0)
    np.testing.assert_array_equal(flat, x)
    assert told_nothing.sum_squares == 0

    total, seen, distances = 0.0, [], []
    for t in range(8):
        if t == 5:
            x = x - 1.5  # a projection, say
        v = drawn(state.counts, zo.directions.sphere(), K, x) / np.sqrt(D)
        now = np.asarray(x)
        np.testing.assert_allclose(np.linalg.norm(v, axis=1), 1, rtol=1e-12)
        seen.append(now)
        distances.append(max(FIRST, *(np.linalg.norm(y - START) for y in seen)))
        mu = distances[-1] * np.sqrt(D / (t + 1))
        pairs = [bowl(now + mu * each, np) - bowl(now - mu * each, np) for each in v]
        g = D / (2 * mu) * np.asarray(pairs) @ v / K * (t != 2)
        total += g @ g
        x, state = step(x, state, jnp.nan if t == 2 else 1.0)
        expected = now - distances[-1] / np.sqrt(total) * g
        np.testing.assert_allclose(x, expected, rtol=1e-10, atol=1e-12)
        average = optax.tree.get(state, "averaged_iterate")
        mean = np.average(seen, axis=0, weights=distances)
        np.testing.assert_allclose(average, mean, rtol=1e-10, atol=1e-12)
    assert distances[0] == FIRST and len(set(distances)) > 3  # it moved away
    assert int(zo.num_queries(state)) == 8 * 2 * K
    assert int(zo.diagnostics(state).num_dropped) == K


@pytest.mark.parametrize("radius", [0.0, -1.0, float("inf"), lambda t: 0.1])
def test_the_radius_is_a_number(radius):
    with pytest.raises(ValueError, match="radius must be a finite number greater than 0"):
        zo.poem(K, radius, key=jax.random.key(0))
