"""The papers' synthetic functions, as they are written there."""

import jax.numpy as jnp


def quadratic(x):
    """½‖x‖²."""
    return 0.5 * jnp.sum(jnp.square(x))


def levy(x):
    w = 1 + (x - 1) / 4
    first = jnp.square(jnp.sin(jnp.pi * w[0]))
    inner = jnp.square(w[:-1] - 1) * (1 + 10 * jnp.square(jnp.sin(jnp.pi * w[:-1] + 1)))
    last = jnp.square(w[-1] - 1) * (1 + jnp.square(jnp.sin(2 * jnp.pi * w[-1])))
    return first + jnp.sum(inner) + last


def rosenbrock(x):
    valley, slope = x[1:] - jnp.square(x[:-1]), 1 - x[:-1]
    return jnp.sum(100 * jnp.square(valley) + jnp.square(slope))


def ackley(x):
    radial = -20 * jnp.exp(-0.2 * jnp.sqrt(jnp.mean(jnp.square(x))))
    return radial - jnp.exp(jnp.mean(jnp.cos(2 * jnp.pi * x))) + 20 + jnp.e


FUNCTIONS = {"quadratic": quadratic, "levy": levy, "rosenbrock": rosenbrock, "ackley": ackley}
