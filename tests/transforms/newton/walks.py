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


def program(make, objectives, num_steps):
    """A walk told which f(θ, t) it is on: (its number, x, *arguments of make) -> as `run`.

    A walk takes seconds to compile: tests that differ in little else share one. (They call it one
    after the other. For a batch of walks, JAX compiles and evaluates both sides of every choice.)
    """

    @jax.jit
    def walk(number, x, *settings):
        optimizer = make(*settings)

        def step(carry, t):
            x, state = carry
            f = lambda x: jax.lax.switch(number, objectives, x, t)  # noqa: E731
            updates, state = optimizer.update(None, state, x, value_fn=f)
            carry = optax.apply_updates(x, updates), state
            return carry, carry

        return jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(num_steps))[1]

    return walk


def last(trees):
    """The last of the trees of a run."""
    return jax.tree.map(lambda leaf: leaf[-1], trees)
