"""Errors of interpolated Hessians at one place, with noise and without.

Gaussian noise is added to every value, the centre's included. Its level is its standard deviation
over that of ½μ²uᵀHu, the curvature's own share of a value, about μ²‖H‖_F/√2. The noise floor is
what the noise alone puts into an estimate: the norm, over ‖H‖_F, of what ridge="auto" makes along
the same directions of values that are that noise and nothing else.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from benchmarks.hessian_error.measure import MEAN, ORIGIN, PAIRS, quartiles
from benchmarks.hessian_error.place import Place
from benchmarks.hessian_error.yardstick import Yardstick

INTERPOLATED: dict[str, dict[str, Any]] = {
    "interpolated": {},
    "interpolated_auto": {"ridge": "auto"},
    "interpolated_zero": {"prior": None},
}
LABELS = {
    "interpolated": "interpolated",
    "interpolated_auto": 'interpolated, ridge="auto"',
    "interpolated_zero": "interpolated, prior=None",
    "prior": "its prior, τI",
    "zovh": "ZoVH",
    "s3": "S3",
    "cd": "CD",
    "prior_noiseless": "its prior, τI, without noise",
    "noise_floor": "noise floor",
}
PAPERS, NOISE = ("zovh", "s3", "cd"), ("prior_noiseless", "noise_floor")


class Interpolated(Place):
    """A place where interpolated estimates are compared."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.hessian = self.compiled(lambda f, x: f.hessian(x))
        self.errors = self.compiled(
            functools.partial(errors, evaluate=self.evaluate), static_argnames="size"
        )

    def rows(
        self, counts: tuple[int, ...], levels: tuple[float, ...], radius: float, seeds: int
    ) -> list[dict[str, Any]]:
        """A row for every count, level of noise and method: quartiles over seeds."""
        cases = [(count, level) for level in levels for count in counts]
        outcomes = self.outcomes(cases, radius, seeds)
        rows: list[dict[str, Any]] = []
        for i, (count, level) in enumerate(cases):
            for name in LABELS:
                if name in (PAPERS if level else NOISE):
                    continue
                row = {
                    "problem": self.name,
                    "dimension": self.dimension,
                    "num_directions": count,
                    "radius": radius,
                    "noise": level,
                    "method": name,
                    **quartiles([outcome[name][i] for outcome in outcomes]),
                }
                if name in INTERPOLATED:
                    row["of_prior"] = most_of(outcomes, i, name, ("prior",))
                    if level:
                        row["of_bound"] = most_of(outcomes, i, name, NOISE)
                rows.append(row)
        return rows

    def outcomes(
        self, cases: list[tuple[int, float]], radius: float, seeds: int
    ) -> list[dict[str, np.ndarray]]:
        """Errors by method, [cases], of every seed."""
        found: list[Any] = []
        size = max(count for count, _ in cases)
        for seed in range(seeds):
            from_key, key = jax.random.split(jax.random.key(seed))
            if seed == 0 or self.constant:
                theta = self.start(from_key)
                exact = self.hessian(self.objective, theta)
            arguments = self.objective, theta, exact, key, radius, np.array(cases)
            found.append(jax.tree.map(np.asarray, self.errors(*arguments, size=size)))
        return found


def errors(
    objective: Any,
    theta: jax.Array,
    exact: Any,
    key: jax.Array,
    radius: Any,
    cases: Any,
    *,
    size: int,
    evaluate: Any = zo.evaluators.vmapped(),
) -> dict[str, jax.Array]:
    """Errors ‖Ĥ − H‖_F/‖H‖_F of every method of `LABELS`; the papers' have no noise.

    Args:
      objective, theta, exact: the values, the place and the Hessian there.
      key: of directions and noise.
      radius: μ.
      cases: [c, 2], pairs and level of noise.
      size: the most pairs of all cases.
      evaluate: how a round is evaluated.

    Returns:
      An array [c] for each method.
    """
    keys = jax.random.split(key, 3)
    options = {"radius": radius, "evaluate": evaluate, "store_directions": True}
    paired = zo.query(objective, theta, keys[0], num_directions=size, stencil=PAIRS, **options)
    single = zo.query(objective, theta, keys[1], num_directions=2 * size + 1, **options)
    of_pairs = Yardstick.of(paired.plan.stored, exact)
    of_single = Yardstick.of(single.plan.stored, exact)
    unit = jnp.square(radius) * jnp.sqrt(exact.squared_norm() / 2)
    noise = pure_noise(paired, keys[2])

    def one(case):
        count, level = case[0], case[1] * unit
        clean = first(paired, count)
        pairs = add(clean, noise, level)
        estimates = {
            name: zo.estimators.interpolated_hessian(pairs, theta, **kinds)
            for name, kinds in INTERPOLATED.items()
        }
        prior, noiseless = (
            zo.estimators.interpolated_hessian(queries, theta).scale for queries in (pairs, clean)
        )
        alone = add(clean, noise, level, keep=0)
        floor = zo.estimators.interpolated_hessian(alone, theta, ridge="auto")
        forward = zo.estimators.hessian(first(single, 2 * count + 1), theta, baseline=MEAN)
        for name, options in (("s3", {}), ("cd", {"identity_term": False})):
            estimates[name] = zo.estimators.hessian(clean, theta, baseline=ORIGIN, **options)
        return {
            **{name: of_pairs.error(e.scale, e.weights) for name, e in estimates.items()},
            "zovh": of_single.error(forward.scale, forward.weights),
            "prior": of_pairs.error_of_identity(prior),
            "prior_noiseless": of_pairs.error_of_identity(noiseless),
            "noise_floor": of_pairs.size(floor.scale, floor.weights),
        }

    return jax.lax.map(one, jnp.asarray(cases))


def pure_noise(queries: zo.Queries, key: jax.Array) -> zo.Queries:
    """The same queries with standard normal numbers for values."""
    one, other = jax.random.split(key)
    return dataclasses.replace(
        queries,
        values=jax.random.normal(one, queries.values.shape, queries.values.dtype),
        origin=None if queries.origin is None else jax.random.normal(other, ()),
    )


def add(queries: zo.Queries, noise: zo.Queries, level: Any, keep: float = 1.0) -> zo.Queries:
    """The queries with values keep·values + level·noise."""
    return dataclasses.replace(
        queries,
        values=keep * queries.values + level * noise.values,
        origin=None if queries.origin is None else keep * queries.origin + level * noise.origin,
    )


def first(queries: zo.Queries, count: Any) -> zo.Queries:
    """The queries with all but the first directions marked as failed, as if never asked."""
    kept = jnp.arange(len(queries.values)) < count
    kept = kept[:, None] if queries.stencil.paired else kept
    return dataclasses.replace(queries, values=jnp.where(kept, queries.values, jnp.nan))


def summary(values: Any) -> dict[str, float]:
    """Quartiles and extremes."""
    return quartiles(values) | {"least": float(np.min(values)), "most": float(np.max(values))}


def most_of(outcomes: list[Any], i: int, name: str, bound: tuple[str, ...]) -> float:
    """The largest ratio, over seeds, of one error and the sum of others."""
    return max(float(o[name][i] / sum(o[other][i] for other in bound)) for o in outcomes)
