"""Runs of the optimisers without a learning rate, for their tests."""

import jax
import jax.numpy as jnp
import optax


def run(optimizer, f, x, num_steps):
    """(parameters after each step, states after each step)."""

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(None, state, x, value_fn=f)
        carry = optax.apply_updates(x, updates), state
        return carry, carry

    @jax.jit
    def steps(x):
        return jax.lax.scan(step, (x, optimizer.init(x)), None, length=num_steps)[1]

    return steps(jax.tree.map(jnp.asarray, x))


def last(trees):
    """The last of the trees of a run."""
    return jax.tree.map(lambda leaf: leaf[-1], trees)
