"""Objectives whose smoothed form is known, and what an estimator makes of many rounds of them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from zovh_jax.baselines import mean
from zovh_jax.directions import explicit
from zovh_jax.stencils import forward

D = 3
A = np.array([[2.0, 0.5, -0.3], [0.5, 1.0, 0.2], [-0.3, 0.2, -0.7]])
B = np.array([0.4, -0.8, 0.3])
THETA = np.array([0.5, -0.4, 0.3])


def quadratic(x):
    return 0.5 * x @ A @ x + B @ x


def quartic(x):
    return jnp.sum(x**4) / 6 - 0.5 * x[0] ** 3 + x[0] * x[1] ** 2


def waves(x):
    return jnp.sum(jnp.sin(x)) + jnp.sin(x[0] + x[1])


def exponential(x):
    return jnp.exp(B @ x)


# f and F_μ = E f(θ + μu) for Gaussian u, in closed form.
OBJECTIVES = {
    "quartic": (
        quartic,
        lambda x, r: quartic(x) + r**2 * jnp.sum(x**2) + 1.5 * r**4 - 0.5 * r**2 * x[0],
    ),
    "waves": (
        waves,
        lambda x, r: (
            jnp.exp(-(r**2) / 2) * jnp.sum(jnp.sin(x)) + jnp.exp(-(r**2)) * jnp.sin(x[0] + x[1])
        ),
    ),
    "exponential": (exponential, lambda x, r: jnp.exp(r**2 * (B @ B) / 2) * exponential(x)),
}


@functools.cache
def draws(num_rounds, k, d=D):
    return np.random.default_rng(k).standard_normal((num_rounds, k, d))


def estimates_of(
    estimate, f, u, radius, stencil=forward(), baseline=mean(), theta=THETA, **options
):
    """One estimate a round for directions [num_rounds, k, d] of the test's own."""
    theta = jnp.asarray(theta)

    def one(u):
        queries = zo.query(
            f,
            theta,
            jax.random.key(0),
            num_directions=u.shape[0],
            radius=radius,
            directions=explicit(u),
            stencil=stencil,
            origin=baseline.needs_origin,
        )
        return estimate(queries, theta, baseline=baseline, **options)

    return np.asarray(jax.jit(jax.vmap(one))(u))


def standard_error(samples):
    return samples.std(0) / np.sqrt(len(samples))
