"""Measurements of the interpolated Hessians: errors, noise, exactness, Newton's direction."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import report
from benchmarks.hessian_error.interpolation import newton
from benchmarks.hessian_error.interpolation.errors import LABELS, Interpolated, summary
from benchmarks.hessian_error.measure import PAIRS, in_the_ball

QUADRATICS = {
    "rotated, condition 10": zo.problems.quadratic(10.0, rotated=True, key=jax.random.key(1)),
    "rotated, condition 100": zo.problems.quadratic(100.0, rotated=True, key=jax.random.key(2)),
    "axis-aligned, condition 10⁴": zo.problems.quadratic(1e4),
}


@dataclasses.dataclass(frozen=True)
class Size:
    """Amounts of everything; ``counts`` are numbers of pairs, by dimension."""

    functions: tuple[str, ...]
    counts: Mapping[int, tuple[int, ...]]
    radii: tuple[float, ...]
    seeds: int
    layer_counts: tuple[int, ...]
    layer_radii: tuple[float, ...]
    layer_seeds: int
    noise: tuple[float, ...]
    noise_counts: Mapping[int, tuple[int, ...]]
    exact_dimensions: tuple[int, ...]
    exact_seeds: int
    newton_counts: tuple[int, ...]
    newton_noise: tuple[float, ...]
    newton_seeds: int


QUICK = Size(
    functions=("rosenbrock",),
    counts={20: (3, 60, 210)},
    radii=(0.1,),
    seeds=3,
    layer_counts=(3,),
    layer_radii=(),
    layer_seeds=0,
    noise=(0.1, 1.0),
    noise_counts={20: (60, 210)},
    exact_dimensions=(20,),
    exact_seeds=3,
    newton_counts=(20, 100, 250),
    newton_noise=(0.01,),
    newton_seeds=5,
)
FULL = Size(
    functions=("quadratic", "rosenbrock", "styblinski_tang", "levy", "ackley"),
    counts={20: (3, 20, 100, 190, 210, 250), 500: (3, 30, 200), 5000: (3, 30, 200)},
    radii=(0.1, 0.01),
    seeds=10,
    layer_counts=(3, 30, 100),
    layer_radii=(0.5, 0.01),
    layer_seeds=5,
    noise=(0.1, 1.0, 10.0),
    noise_counts={20: (20, 100, 250), 500: (30, 200)},
    exact_dimensions=(5, 10, 20, 40),
    exact_seeds=10,
    newton_counts=(10, 20, 50, 100, 150, 190, 210, 230, 250),
    newton_noise=(0.001, 0.01, 0.1),
    newton_seeds=20,
)


def measure(
    size: Size, problems: Mapping[str, Any], layers: Mapping[str, Any], radius: float
) -> dict[str, Any]:
    """The content of ``interpolation`` in the JSON file.

    Args:
      size: how much.
      problems: the functions by name.
      layers: losses of the network's layers, by name.
      radius: μ of the noise and the Newton direction.
    """
    with jax.enable_x64(True):
        rows, noisy = [], []
        for name, problem in tqdm(problems.items(), desc="interpolation, functions"):
            for d, counts in size.counts.items():
                place = Interpolated(name, problem, in_the_ball(d))
                for mu in size.radii:
                    rows += place.rows(counts, (0.0,), mu, size.seeds)
                if d in size.noise_counts:
                    noisy += place.rows(size.noise_counts[d], size.noise, radius, size.seeds)
        for name, loss in tqdm(layers.items(), desc="interpolation, layers"):
            one = zo.evaluators.chunked(1)
            place = Interpolated(name, loss, lambda key, loss=loss: loss.weights, one)
            for mu in size.layer_radii:
                rows += place.rows(size.layer_counts, (0.0,), mu, size.layer_seeds)
        exact = exactness(size, radius)
    return {
        "environment": report.environment(),
        "settings": {
            "radius": radius,
            "damping": newton.DAMPING,
            "seeds": size.seeds,
            "layer_seeds": size.layer_seeds,
            "exact_seeds": size.exact_seeds,
            "newton_seeds": size.newton_seeds,
            "newton_dimension": newton.DIMENSION,
            "newton_condition": newton.CONDITION,
        },
        "labels": LABELS,
        "directions": newton.LABELS,
        "errors": rows,
        "noise": noisy,
        "exact": exact,
        "newton": newton.rows(size.newton_counts, size.newton_noise, radius, size.newton_seeds),
    }


def exactness(size: Size, radius: float) -> list[dict[str, Any]]:
    """Dense errors on quadratics with d(d+1)/2 pairs, and with a fifth more."""

    @functools.partial(jax.jit, static_argnames="count")
    def error(matrix, key, *, count):
        from_key, key = jax.random.split(key)
        theta = in_the_ball(len(matrix))(from_key)
        queries = zo.query(
            lambda x: 0.5 * x @ matrix @ x,
            theta,
            key,
            num_directions=count,
            radius=radius,
            stencil=PAIRS,
        )
        estimate = zo.estimators.interpolated_hessian(queries, theta).as_matrix()
        return jnp.linalg.norm(estimate - matrix) / jnp.linalg.norm(matrix)

    rows = []
    for name, problem in tqdm(QUADRATICS.items(), desc="interpolation, exactness"):
        for d in size.exact_dimensions:
            matrix = problem.hessian(jnp.zeros(d)).as_matrix()
            for count in (d * (d + 1) // 2, d * (d + 1) * 3 // 5):
                keys = map(jax.random.key, range(size.exact_seeds))
                found = [float(error(matrix, key, count=count)) for key in keys]
                rows.append(
                    {"problem": name, "dimension": d, "num_directions": count, **summary(found)}
                )
    return rows
