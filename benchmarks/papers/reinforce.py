"""REINFORCE, written as one would for a policy: a log-density and automatic differentiation.

An anisotropic policy N(θ, μ² diag(s²)) is a family ``scaled(gaussian(), s)`` here, whose averaged
estimate is that of diag(s²)∇F; the score function divides by s².
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import zovh_jax as zo

Estimate = Callable[..., jax.Array]
"""A gradient at (θ, key)."""


def log_density(x: jax.Array, theta: jax.Array, deviation: jax.Array) -> jax.Array:
    """log π of the point x under N(θ, diag(deviation²))."""
    return jnp.sum(jax.scipy.stats.norm.logpdf(x, theta, deviation))


def by_autodiff(f: Any, scale: jax.Array, num_directions: int, radius: float) -> Estimate:
    """REINFORCE: the derivative of mean advantage times log π, at points drawn from the policy."""

    def estimate(theta, key):
        queries, points = asked(f, theta, scale, key, num_directions, radius)
        values = queries.values
        advantages = (values - jnp.mean(values)) / (num_directions - 1)

        def surrogate(theta):
            log = jax.vmap(log_density, (0, None, None))(points, theta, radius * scale)
            return jnp.sum(advantages * log)

        return jax.grad(surrogate)(theta)

    return estimate


def by_values(f: Any, scale: jax.Array, num_directions: int, radius: float) -> Estimate:
    """The library's estimate with the mean for a baseline, which is ZoAR's."""

    def estimate(theta, key):
        queries, _ = asked(f, theta, scale, key, num_directions, radius)
        return zo.estimators.gradient(queries, theta) / jnp.square(scale)

    return estimate


def hessian_by_autodiff(
    f: Any, scale: jax.Array, num_directions: int, radius: float
) -> Callable[..., jax.Array]:
    """The score function's Hessian: advantages times ∇²log π + ∇log π ∇log πᵀ."""

    def estimate(theta, key):
        queries, points = asked(f, theta, scale, key, num_directions, radius)
        values = queries.values

        def moment(x):
            score = jax.grad(log_density, 1)(x, theta, radius * scale)
            return jnp.outer(score, score) + jax.hessian(log_density, 1)(x, theta, radius * scale)

        advantages = (values - jnp.mean(values)) / (num_directions - 1)
        return jnp.tensordot(advantages, jax.vmap(moment)(points), 1)

    return estimate


def asked(f, theta, scale, key, num_directions, radius):
    """A round of queries along s∘z, and its points."""
    queries = zo.query(
        f,
        theta,
        key,
        num_directions=num_directions,
        radius=radius,
        directions=zo.directions.scaled(zo.directions.gaussian(), scale),
    )
    return queries, theta + radius * queries.plan.draw(theta)


def curves(f: Any, dimension: int, steps: int, rate: float, **options: Any) -> dict[str, Any]:
    """Values of two descents with the same keys, each along its own estimates, and their gap."""
    start, scale = f.start(dimension, jax.random.key(0)), jnp.ones(dimension)
    found = {}
    for name, make in (("REINFORCE, autodiff", by_autodiff), ("ZoAR, N = 1", by_values)):
        estimate = make(f, scale, **options)

        def step(theta, key, estimate=estimate):
            return theta - rate * estimate(theta, key), f(theta)

        keys = jax.random.split(jax.random.key(1), steps)
        theta, values = jax.jit(lambda keys, step=step: jax.lax.scan(step, start, keys))(keys)
        found[name] = jnp.append(values, f(theta))
    one, other = found.values()
    return {
        "dimension": dimension,
        "learning_rate": rate,
        **options,
        "values": {name: values.tolist() for name, values in found.items()},
        "largest_gap": float(jnp.max(jnp.abs(one - other) / jnp.abs(one))),
    }
