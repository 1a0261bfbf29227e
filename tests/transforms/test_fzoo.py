"""FZOO: three steps against the paper's formula, and rounds that tell nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import drawn

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

K, D, RADIUS = 5, 7, 0.2
SCALES = np.linspace(1, 3, D)
START = np.linspace(-1, 1.5, D)


def bowl(x, xp=jnp):
    return xp.sum(SCALES * x**2 + xp.sin(x))


def rate(t):
    return 0.1 / (1 + t)


def test_steps_are_the_papers(x64):
    """θ − η ĝ/σ, a query dropped in the second round, a broken centre in the third."""
    optimizer = zo.fzoo(rate, num_directions=K, radius=RADIUS, key=jax.random.key(0))
    x, state = jnp.asarray(START), optimizer.init(jnp.asarray(START))

    @jax.jit
    def step(x, state, bad, scale):
        def f(y):
            return jnp.where(jnp.max(jnp.abs(y - bad)) < 1e-6, jnp.nan, scale * bowl(y))

        updates, state = optimizer.update(None, state, x, value_fn=f)
        return optax.apply_updates(x, updates), state

    for t in range(4):
        u, before = drawn(state[0], zo.directions.rademacher(), K, x), np.asarray(x)
        assert set(np.unique(u)) == {-1.0, 1.0}
        bad = {1: before + RADIUS * u[2], 2: before}.get(t, np.full(D, np.inf))
        x, state = step(x, state, jnp.asarray(bad), 1.0)
        keep = [k for k in range(K) if t != 1 or k != 2]
        values = np.array([bowl(before + RADIUS * u[k], np) for k in keep])
        others = (values.sum() - values) / (len(values) - 1)
        g = (values - (others if t == 2 else bowl(before, np))) @ u[keep] / (RADIUS * len(keep))
        expected = -rate(t) * g / np.std(values, ddof=1)
        np.testing.assert_allclose(x, before + expected, rtol=1e-10)
    assert int(zo.num_queries(state)) == 4 * (K + 1)

    # In units of the spread: a constant objective has none, and scaled ones have the same steps.
    flat, small, large = (step(x, state, jnp.full(D, jnp.inf), c)[0] for c in (0.0, 1e-9, 1e9))
    np.testing.assert_array_equal(flat, x)
    assert np.abs(large - x).max() > 0.01
    np.testing.assert_allclose(small, large, rtol=1e-6)


def test_one_direction_has_no_spread():
    with pytest.raises(ValueError, match=r"num_directions must be at least 2.*got 1"):
        zo.fzoo(0.1, num_directions=1, radius=0.1, key=jax.random.key(0))
