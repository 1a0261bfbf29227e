"""Sines of turns against numpy's."""

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._trig import cosine_of_turns, sine_of_quarter


def test_sine_of_a_quarter():
    t = np.linspace(-0.25, 0.25, 100_001, dtype=np.float32)
    sine = np.asarray(sine_of_quarter(jnp.asarray(t)), float)
    np.testing.assert_allclose(sine, np.sin(2 * np.pi * t.astype(float)), rtol=0, atol=2.5e-7)
    np.testing.assert_array_equal(sine, -sine[::-1])


def test_cosine_of_turns():
    t = np.concatenate([np.linspace(-3, 3, 100_001), [1e4 + 0.125, -1e5 - 0.25]])
    t = t.astype(np.float32)
    cosine = jax.jit(cosine_of_turns)(t)
    np.testing.assert_allclose(cosine, np.cos(2 * np.pi * t.astype(float)), rtol=0, atol=5e-7)


def test_its_slope():
    t = np.linspace(-1.2, 1.2, 1001, dtype=np.float32)
    slope = jax.vmap(jax.grad(cosine_of_turns))(t)
    expected = -2 * np.pi * np.sin(2 * np.pi * t.astype(float))
    np.testing.assert_allclose(slope, expected, rtol=0, atol=1e-5)


def test_double_precision(x64):
    t = jnp.linspace(-3.0, 3.0, 1001)
    np.testing.assert_allclose(cosine_of_turns(t), np.cos(2 * np.pi * t), rtol=0, atol=1e-15)
