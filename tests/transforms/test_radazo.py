"""R-AdaZO against a double-precision re-implementation; its trajectories are in test_golden.py."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

RNG = np.random.default_rng(0)
GRADIENTS = RNG.normal(size=(5, 4)) * [1e-6, 1e-2, 1.0, 1e3]


def reference(gradients, b1, b2, eps, eps_in_sqrt):
    m, v, out = 0.0, 0.0, []
    for g in gradients:
        m = b1 * m + (1 - b1) * g
        v = b2 * v + (1 - b2) * m**2
        out.append(m / (np.sqrt(v + eps) if eps_in_sqrt else np.sqrt(v) + eps))
    return np.stack(out)


@pytest.mark.parametrize("eps_in_sqrt", [False, True])
@pytest.mark.parametrize(("b1", "b2", "eps"), [(0.9, 0.99, 1e-8), (0.5, 0.7, 1e-3), (0, 0.9, 1e-8)])
def test_moments(b1, b2, eps, eps_in_sqrt, x64):
    scale = zo.scale_by_radazo(b1, b2, eps, eps_in_sqrt=eps_in_sqrt)
    state, seen = scale.init(jnp.zeros(4)), []
    for g in GRADIENTS:
        updates, state = scale.update(jnp.asarray(g), state)
        seen.append(updates)
    expected = reference(GRADIENTS, b1, b2, eps, eps_in_sqrt)
    np.testing.assert_allclose(np.stack(seen), expected, rtol=1e-12)


def test_noise_is_divided_by_its_average_not_by_itself():
    """Alternating gradients: Adam's v keeps g² = 1, here v is that of an m near zero."""
    scale = zo.scale_by_radazo()
    step, state = jax.jit(scale.update), scale.init(jnp.zeros(1))
    for t in range(200):
        updates, state = step(jnp.full(1, (-1.0) ** t), state)
    m = 0.1 / 1.9  # |m| of the alternating average
    assert abs(float(updates[0])) == pytest.approx(1 / np.sqrt(1 - 0.99**200), rel=0.05)
    assert float(state[1].nu[0]) == pytest.approx(m**2 * (1 - 0.99**200), rel=0.05)


def test_moments_of_narrow_parameters_are_wide():
    """In bfloat16 v would stand still as soon as (1 − b2) m² is below its last digit."""
    scale = zo.scale_by_radazo()
    step = jax.jit(scale.update)
    g = jnp.linspace(0.5, 2.0, 4).astype(jnp.bfloat16)
    state, expected_state = scale.init(g), scale.init(g.astype(jnp.float32))
    for _ in range(300):
        updates, state = step(g, state)
        expected, expected_state = step(g.astype(jnp.float32), expected_state)
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(updates, expected.astype(jnp.bfloat16))
    np.testing.assert_allclose(expected, 1.0, rtol=0.2)


def test_the_papers_estimate():
    """Sphere directions and f(θ) for a baseline: as the chain written out."""
    options = {
        "num_directions": 4,
        "radius": 0.1,
        "key": jax.random.key(1),
        "directions": zo.directions.sphere(),
        "baseline": zo.baselines.origin(),
    }
    x = jnp.array([1.0, -2.0, 0.5])
    optimizer, gradient = zo.radazo(0.1, b1=0.0, b2=0.0, **options), zo.zo_gradient(**options)

    @jax.jit
    def both():
        updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=jnp.linalg.norm)
        return updates, state, gradient.update(None, gradient.init(x), x, value_fn=jnp.linalg.norm)

    updates, state, (g, _) = both()
    np.testing.assert_allclose(updates, -0.1 * jnp.sign(g), rtol=1e-5)
    assert int(zo.num_queries(state)) == 5
