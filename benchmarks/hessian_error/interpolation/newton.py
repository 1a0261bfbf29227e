"""Newton's direction by interpolation, beside ZoVH's product, at equal queries.

Objectives are ½ xᵀHx with eigenvalues spaced evenly in logarithms, and a random rotation for each
seed. All directions are from n pairs and the centre, ZoVH's from 2n + 1 forward queries. Noise is
measured as in `benchmarks.hessian_error.interpolation.errors`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.hessian_error.interpolation.errors import add, first, pure_noise, summary
from benchmarks.hessian_error.measure import FORWARD, PAIRS, in_the_ball

DIMENSION, CONDITION, DAMPING = 20, 100.0, 0.1
PRECISIONS = ("float64", "float32")
LABELS = {
    "gradient": "averaged gradient",
    "interpolated_gradient": "interpolated gradient",
    "newton": "interpolated, solved",
    "newton_auto": 'interpolated, ridge="auto", solved',
    "newton_damped": 'interpolated, ridge="auto", solved with λ = τ',
    "zovh": "ZoVH's product",
    "zovh_exact": "ZoVH's, exact inverse",
}


def rows(
    counts: tuple[int, ...], levels: tuple[float, ...], radius: float, seeds: int
) -> list[dict[str, Any]]:
    """A row for every number of pairs, and for every level of noise at the most pairs."""
    cases = [(count, 0.0) for count in counts] + [(max(counts), level) for level in levels]
    found = []
    for precision in PRECISIONS:
        with jax.enable_x64(precision == "float64"):
            compiled = jax.jit(functools.partial(cosines, radius=radius, size=max(counts)))
            outcomes = [
                jax.tree.map(np.asarray, compiled(jax.random.key(seed), jnp.array(cases)))
                for seed in tqdm(range(seeds), desc=f"Newton's direction, {precision}")
            ]
        found += [
            {
                "precision": precision,
                "num_directions": count,
                "noise": level,
                "direction": name,
                **summary([outcome[name][i] for outcome in outcomes]),
            }
            for i, (count, level) in enumerate(cases)
            for name in LABELS
        ]
    return found


def cosines(key: jax.Array, cases: jax.Array, *, radius: float, size: int) -> dict[str, jax.Array]:
    """Cosines with H⁻¹∇f on one quadratic.

    Args:
      key: of the quadratic, the place, directions and noise.
      cases: [c, 2], pairs and level of noise.
      radius: μ.
      size: the most pairs of all cases.

    Returns:
      An array [c] for each of `LABELS`.
    """
    keys = jax.random.split(key, 6)
    theta = in_the_ball(DIMENSION)(keys[0])
    basis = jnp.linalg.qr(jax.random.normal(keys[1], (DIMENSION, DIMENSION)))[0]
    matrix = (basis * jnp.geomspace(1.0, CONDITION, DIMENSION)) @ basis.T
    unit = radius**2 * jnp.linalg.norm(matrix) / np.sqrt(2)

    def objective(x):
        return 0.5 * jnp.dot(x, jnp.dot(matrix, x, precision="highest"), precision="highest")

    ask = functools.partial(zo.query, objective, theta, radius=radius, store_directions=True)
    paired = ask(keys[2], num_directions=size, stencil=PAIRS)
    single = ask(keys[3], num_directions=2 * size + 1, stencil=FORWARD)
    noise = pure_noise(paired, keys[4]), pure_noise(single, keys[5])

    def one(case):
        count, level = case[0], case[1] * unit
        pairs = first(add(paired, noise[0], level), count)
        forward = first(add(single, noise[1], level), 2 * count + 1)

        def interpolate(ridge):
            return (
                zo.estimators.interpolated_hessian(pairs, theta, ridge=ridge),
                zo.estimators.interpolated_gradient(pairs, theta, ridge=ridge),
            )

        plain, auto = interpolate(0.0), interpolate("auto")
        product = functools.partial(zo.estimators.newton_direction, forward, theta, damping=DAMPING)
        found = {
            "gradient": zo.estimators.gradient(pairs, theta),
            "interpolated_gradient": plain[1],
            "newton": zo.solve(*plain, damping=DAMPING),
            "newton_auto": zo.solve(*auto, damping=DAMPING),
            "newton_damped": zo.solve(*auto, damping=auto[0].scale),
            "zovh": product(),
            "zovh_exact": product(solver=zo.solvers.woodbury()),
        }
        # The least value is at 0, so H⁻¹∇f is θ itself.
        return {
            name: v @ theta / (jnp.linalg.norm(v) * jnp.linalg.norm(theta))
            for name, v in found.items()
        }

    return jax.lax.map(one, cases)
