"""Where ZoVH's product descends: λ gᵀE[x]/‖g‖² of each form, on ever steeper ground."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from zovh_jax.directions import explicit
from zovh_jax.solvers import gram_diagonal


def forms(n: int, d: int) -> dict[str, tuple[dict[str, Any], float]]:
    """Options of the product, and what we derive for steep ground, by name."""
    overlap = (n - 1) ** 2 / (d * (n - 2))
    limit = d / (2 * n)
    return {
        "paper's": ({}, 1 - overlap),
        "limit d/(2n)": ({"solver": gram_diagonal(limit=limit)}, 1 - min(limit, 1) * overlap),
        "decoupled": ({"decoupled": True}, 1 - (n // 2) / d),
        "uncorrected": ({"bias_correction": False}, -(n - 1) / d),
    }


def rows(
    shapes: tuple[tuple[int, int], ...], steepness: tuple[float, ...], rounds: int
) -> list[dict[str, Any]]:
    """Measured and derived factors for each (n, d), form and steepness."""
    found = []
    for n, d in shapes:
        u = np.random.default_rng(0).standard_normal((rounds, n, d))
        for name, (options, derived) in forms(n, d).items():
            run = measured(u, options)
            for steep in steepness:
                mean, error = run(steep, 0.0)
                found.append(
                    {
                        "num_directions": n,
                        "dimension": d,
                        "form": name,
                        "steepness": steep,
                        "factor": float(mean),
                        "error": float(error),
                        "derived_when_steep": derived,
                    }
                )
    return found


def curved(ratios: tuple[float, ...], rounds: int, n: int = 2000, d: int = 3) -> list[dict]:
    """The same on flat ground with n ≫ d, where each eigenvalue of the Hessian is h."""
    u = np.random.default_rng(1).standard_normal((rounds, n, d))
    found = []
    for name in ("paper's", "limit d/(2n)"):
        run = measured(u, forms(n, d)[name][0])
        for ratio in ratios:
            mean, error = run(1e-3, ratio)
            derived = 1 - (n - 2) / n * ratio if name == "paper's" else None
            found.append(
                {
                    "num_directions": n,
                    "dimension": d,
                    "form": name,
                    "curvature": ratio,
                    "factor": float(mean),
                    "error": float(error),
                    "derived": derived,
                }
            )
    return found


def measured(u: np.ndarray, options: dict[str, Any]) -> Callable[..., tuple[jax.Array, jax.Array]]:
    """A function of (steepness, h/λ): mean factor and standard error over rounds of directions.

    The slope and λ are 1. Steepness is μ‖g‖ over λμ²(n−1)/d: what the slope makes of values, next
    to a difference of values that is as much curvature along a direction as the damping.
    """
    _, n, d = u.shape

    @jax.jit
    def run(steepness, curvature):
        radius = d / (steepness * (n - 1))

        def one(u):
            values = radius * u[:, 0] + radius**2 * curvature / 2 * jnp.sum(u**2, -1)
            queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
            return zo.estimators.newton_direction(queries, jnp.zeros(d), damping=1.0, **options)[0]

        factors = jax.lax.map(one, u, batch_size=1000)
        return jnp.mean(factors), jnp.std(factors) / np.sqrt(len(u))

    return run


def along_one(steepness: float, n: int, d: int, samples: int, floor: float = 0.1) -> float:
    """The guarded product's factor, derived: an expectation over a single direction.

    E λgᵀx/‖g‖² = 1 − (n−1)²/(n−2) E[φ z²/‖u‖²], with z = u·g/‖g‖ and φ = 1 − 1/max(|1 + t|, floor),
    t = w‖u‖²/λ, if F̄ in w is replaced by its mean.
    """
    u = np.random.default_rng(2).standard_normal((samples, d))
    squares = np.sum(u**2, 1)
    t = steepness / d * u[:, 0] * squares
    part = 1 - 1 / np.maximum(np.abs(1 + t), floor)
    return float(1 - (n - 1) ** 2 / (n - 2) * np.mean(part * u[:, 0] ** 2 / squares))
