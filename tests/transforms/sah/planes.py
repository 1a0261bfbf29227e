"""What the tests of ZO-SAH share."""

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from zovh_jax.transforms.sah.fit import Seen
from zovh_jax.transforms.sah.groups import (
    curvature_points,
    forward_points,
)

KEY = jax.random.key(3)


def points(q):
    return np.concatenate([forward_points(q), curvature_points(q)])


def symmetric(rng, *shape):
    a = rng.normal(size=shape)
    return a + np.swapaxes(a, -1, -2)


def together(rng, hessian, centres, radius, q):
    """What forward steps of all groups at once see of a quadratic: g, and what they saw."""
    num_steps, d = centres.shape
    gradient = rng.normal(size=d)
    f = lambda x: gradient @ x + x @ hessian @ x / 2  # noqa: E731
    slopes = np.full((num_steps, d // q, len(points(q))), np.nan)
    forward = [[(f(c + radius * e) - f(c)) / radius for e in np.eye(d)] for c in centres]
    slopes[:, :, :q] = np.reshape(forward, (num_steps, d // q, q))
    places = centres.reshape(num_steps, d // q, q)
    return Seen(*map(jnp.asarray, (slopes, places, np.full(num_steps, radius))))


def dense(rng, d):
    """A convex quadratic's Hessian, and its blocks of 2."""
    root = rng.normal(size=(d, d)) * np.logspace(0, 1, d)[:, None]
    hessian = root @ root.T / d
    return hessian, np.stack([hessian[i : i + 2, i : i + 2] for i in range(0, d, 2)])


def counting(f, seen):
    def counted(x):
        value = f(x)
        jax.debug.callback(lambda v: seen.extend(np.ravel(v)), value)
        return value

    return counted


def run(transformation, f, x, num_steps, learning_rate=0.0):
    """Directions, states and evaluations after each step."""
    seen, out = [], []
    step = jax.jit(lambda x, s: transformation.update(None, s, x, value_fn=counting(f, seen)))
    state = transformation.init(x)
    for _ in range(num_steps):
        direction, state = step(x, state)
        jax.effects_barrier()
        out.append((np.asarray(direction), state, len(seen)))
        x = x - learning_rate * direction
    return out


def costs(steps):
    """What each step charged, which is also what it evaluated."""
    totals = [total for _, _, total in steps]
    assert totals == [int(zo.num_queries(state)) for _, state, _ in steps]
    return np.diff([0, *totals]).tolist()
