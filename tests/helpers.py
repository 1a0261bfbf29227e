"""What tests share: trees as dense float64 arrays, an objective on a tree, and optimisers' runs."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo
from zovh_jax.directions import Directions, explicit

PARAMS = {"a": np.float64(0.3), "b": (np.linspace(-1, 1, 6).reshape(2, 3), np.array([0.5, -0.2]))}
THETA = np.concatenate([[0.3], np.linspace(-1, 1, 6), [0.5, -0.2]])
RADIUS = 0.25
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


def rows(tree):
    """Directions as the rows of a float64 matrix."""
    leaves = [np.asarray(u, np.float64) for u in jax.tree.leaves(tree)]
    return np.concatenate([u.reshape(len(u), -1) for u in leaves], 1)


def ravel(tree):
    """A tree as one float64 vector."""
    return np.concatenate([np.ravel(np.asarray(x, np.float64)) for x in jax.tree.leaves(tree)])


@dataclasses.dataclass(frozen=True)
class Waves(Directions):
    """Numbers that depend on key, index and leaf, and compile much faster than random ones.

    A family as a user writes it: nothing is registered.
    """

    joint: bool = False

    def draw(self, key, layout, num_directions, indices):
        seed = jax.random.key_data(key)[-1].astype(float) / 2**32
        phase = (1.0 + seed + indices)[:, None] * (1.0 + jnp.arange(layout.size)) ** 1.5
        flat, start, leaves = jnp.sin(phase), 0, []
        for shape in layout.shapes:
            size = int(np.prod(shape))
            leaves.append(flat[:, start : start + size].reshape(-1, *shape))
            start += size
        return leaves


def given(n):
    """n directions of the test's own, like PARAMS."""
    rng = np.random.default_rng(n)
    return explicit(jax.tree.map(lambda x: rng.standard_normal((n, *np.shape(x))), PARAMS))


def drawn(counts, family, k, params):
    """The directions of the round that comes next, as float64 rows."""
    layout = zo.Plan(counts.key, family, num_directions=k).layout(params)
    key = family.round_key(counts.key, counts.round, layout, k)
    return rows(zo.Plan(key, family, num_directions=k).draw(params))


def f(p):
    return jnp.sin(p["a"]) * jnp.sum(p["b"][0] ** 3) + jnp.sum(jnp.exp(p["b"][1])) * p["a"]


def f_numpy(x):
    return np.sin(x[0]) * np.sum(x[1:7] ** 3) + np.sum(np.exp(x[7:])) * x[0]


def ask(k, directions, radius=RADIUS, **options):
    """A round of f around PARAMS."""
    options |= {"num_directions": k, "radius": radius, "directions": directions}
    return jax.jit(lambda key: zo.query(f, PARAMS, key, **options))(jax.random.key(11))


def run(optimizer, f, params, num_steps):
    """The points before each step and after the last, as float64 rows; and the last state."""
    step = jax.jit(lambda params, state: optimizer.update(None, state, params, value_fn=f))
    state, seen = optimizer.init(params), [ravel(params)]
    for _ in range(num_steps):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
        seen.append(ravel(params))
    return np.stack(seen), state


def compiled_run(optimizer, f, x, num_steps):
    """The points after each step, and the last state: one loop, for use inside jit too."""

    def body(carry, _):
        x, state = carry
        updates, state = optimizer.update(None, state, x, value_fn=f)
        x = optax.apply_updates(x, updates)
        return (x, state), x

    @jax.jit
    def steps(x):
        (_, state), path = jax.lax.scan(body, (x, optimizer.init(x)), length=num_steps)
        return path, state

    return steps(x)
