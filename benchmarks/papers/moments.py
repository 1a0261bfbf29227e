"""Exact mean squared errors of the averaged estimates on a quadratic, beside measured ones.

Our derivation, not the papers' bounds. (E10) is the sample covariance of c = F/μ² and M = u uᵀ − I,
(E15) that of F/μ and u, so that for Gaussian directions, any F and K of them

  E‖Ĥ − ∇²F_μ‖² = E[c₀²‖M‖²]/K − (K−2)/(K(K−1)) ‖∇²F_μ‖² + E[c₀²] E‖M‖²/(K(K−1)),

with c₀ = c − E c. On a quadratic with slope g, T = tr H and S = ‖H‖² the moments are

  E[c₀²‖M‖²] = ‖g‖²(d+1)(d+4)/μ² + 2T² + ½S(d² + 9d + 16),   E[c₀²] = ‖g‖²/μ² + ½S,

and E‖M‖² = d(d+1); of the gradient ‖g‖²(d+2) + ½μ²S(d+4), ‖g‖² + ½μ²S and d.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from zovh_jax.directions import explicit


def covariance_error(joint: float, first: float, second: float, target: float, k: int) -> float:
    """E‖sample covariance − covariance‖² of K pairs.

    Args:
      joint: E[c₀²‖M₀‖²]; first: E[c₀²]; second: E‖M₀‖²; target: the covariance's ‖·‖².
      k: K.
    """
    return joint / k - (k - 2) / (k * (k - 1)) * target + first * second / (k * (k - 1))


def hessian_error(slope: np.ndarray, curvature: np.ndarray, k: int, radius: float) -> float:
    """E‖Ĥ − H‖² of (E10) on ½ Σ h x² + g·x."""
    d, g = len(slope), np.sum(slope**2) / radius**2
    s, t = np.sum(curvature**2), np.sum(curvature)
    joint = g * (d + 1) * (d + 4) + 2 * t**2 + s * (d**2 + 9 * d + 16) / 2
    return float(covariance_error(joint, g + s / 2, d * (d + 1), s, k))


def gradient_error(slope: np.ndarray, curvature: np.ndarray, k: int, radius: float) -> float:
    """E‖ĝ − g‖² of (E15)."""
    d, g, s = len(slope), np.sum(slope**2), radius**2 * np.sum(curvature**2) / 2
    return float(covariance_error(g * (d + 2) + s * (d + 4), g + s, d, g, k))


def rows(
    dimensions: tuple[int, ...], counts: tuple[int, ...], radii: tuple[float, ...], rounds: int
) -> list[dict[str, Any]]:
    """Root mean squared errors, derived and measured, over the size of what is estimated."""
    found = []
    for d in dimensions:
        curvature = np.linspace(1, 10, d)
        slope = np.random.default_rng(0).standard_normal(d)
        for k in counts:
            run = measured(slope, curvature, k, rounds)
            for radius in radii:
                errors = run(radius)
                derived = (
                    gradient_error(slope, curvature, k, radius),
                    hessian_error(slope, curvature, k, radius),
                )
                sizes = np.linalg.norm(slope), np.linalg.norm(curvature)
                for name, own, error, size in zip(
                    ("gradient", "Hessian"), derived, errors, sizes, strict=True
                ):
                    found.append(
                        {
                            "of": name,
                            "dimension": d,
                            "num_directions": k,
                            "radius": radius,
                            "derived": float(np.sqrt(own) / size),
                            "measured": float(np.sqrt(error) / size),
                        }
                    )
    return found


def measured(slope: np.ndarray, curvature: np.ndarray, k: int, rounds: int) -> Any:
    """A function of the radius: mean ‖ĝ − g‖² and ‖Ĥ − H‖² over rounds."""
    g, h = jnp.asarray(slope), jnp.asarray(curvature)

    @jax.jit
    def run(radius):
        def one(key):
            u = jax.random.normal(key, (k, len(slope)))
            values = radius * u @ g + radius**2 / 2 * jnp.square(u) @ h
            queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
            gradient = zo.estimators.gradient(queries, jnp.zeros_like(g))
            return jnp.sum((gradient - g) ** 2), squared_error(values, u, radius, h)

        errors = jax.lax.map(one, jax.random.split(jax.random.key(1), rounds), batch_size=20)
        return jax.tree.map(jnp.mean, errors)

    return run


def reused(
    dimension: int, histories: tuple[int, ...], steps: tuple[float, ...], rounds: int
) -> list[dict[str, Any]]:
    """Errors of ZoVH's Hessian with one mean over N rounds, K = 3, μ = 0.1.

    The rounds come from N points, steps of some length down the normalised gradient apart. What is
    derived is the error where they come from one: that of N·K directions.
    """
    k, radius = 3, 0.1
    curvature = np.linspace(1, 10, dimension)
    h = jnp.asarray(curvature)
    start = jax.random.normal(jax.random.key(0), (dimension,))
    found = []
    for size in histories:

        @jax.jit
        def run(step, size=size):
            def down(x, _):
                return x - step * h * x / jnp.linalg.norm(h * x), x

            _, path = jax.lax.scan(down, start, length=size)

            def one(key):
                u = jax.random.normal(key, (size, k, dimension))
                points = path[:, None] + radius * u
                values = jnp.square(points) @ h / 2
                return squared_error(values.reshape(-1), u.reshape(-1, dimension), radius, h)

            keys = jax.random.split(jax.random.key(1), rounds)
            return jnp.mean(jax.lax.map(one, keys)), h * path[-1]

        for step in steps:
            square, slope = run(step)
            own = hessian_error(np.asarray(slope), curvature, size * k, radius)
            whole = np.linalg.norm(curvature)
            found.append(
                {
                    "history_size": size,
                    "step": step,
                    "derived": float(np.sqrt(own) / whole),
                    "measured": float(np.sqrt(square) / whole),
                }
            )
    return found


def squared_error(values: jax.Array, u: jax.Array, radius: Any, h: jax.Array) -> jax.Array:
    """‖Σ w u uᵀ − diag(h)‖² of ZoVH's estimate, without a d×d array."""
    queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
    w = zo.estimators.hessian(queries, jnp.zeros_like(h)).weights
    return w @ jnp.square(u @ u.T) @ w - 2 * w @ (jnp.square(u) @ h) + jnp.sum(h**2)


def without_identity(offsets: tuple[float, ...], rounds: int, d: int = 5) -> list[dict[str, Any]]:
    """How far E[(f − b)/μ² u uᵀ] is from H, for b beside F_μ: only b = F_μ gives H (E4).

    The distance is √d |F_μ − b|/μ², as E[(F_μ − b) u uᵀ] is a multiple of I. μ is 1.
    """
    curvature = jnp.linspace(1.0, 2.0, d)
    mean = jnp.sum(curvature) / 2  # F_μ
    u = jax.random.normal(jax.random.key(0), (rounds, d))
    values = jnp.square(u) @ curvature / 2
    found = []
    for offset in offsets:
        queries = zo.Queries.from_values(values - mean - offset, directions=explicit(u), radius=1.0)
        estimate = zo.estimators.hessian(
            queries, jnp.zeros(d), baseline=zo.baselines.none(), identity_term=False
        ).as_matrix()
        distance = jnp.linalg.norm(estimate - jnp.diag(curvature))
        found.append(
            {
                "offset": offset,
                "derived": float(np.sqrt(d) * abs(offset)),
                "measured": float(distance),
            }
        )
    return found
