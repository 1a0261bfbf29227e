"""Errors of Hessian estimates, and the estimates themselves.

An objective here is what `zo.problems.Problem` is: a value, a gradient and a Hessian of a vector.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from benchmarks.hessian_error.yardstick import Yardstick


@dataclasses.dataclass(frozen=True)
class Method:
    """An estimator: what it asks and what it subtracts.

    ``queries`` is of K directions, one round: (a step, fixed).
    """

    label: str
    stencil: Any
    baseline: Any
    queries: tuple[int, int]
    identity_term: bool | None = None
    reuse: bool = False
    control: bool = False

    def directions(self, queries: int) -> int:
        """The number of directions that a number of queries pays."""
        each, fixed = self.queries
        return (queries - fixed) // each

    def cost(self, num_directions: int) -> int:
        """Queries of one round."""
        each, fixed = self.queries
        return each * num_directions + fixed


FORWARD, PAIRS = zo.stencils.forward(), zo.stencils.three_point()
NONE, ORIGIN, MEAN = zo.baselines.none(), zo.baselines.origin(), zo.baselines.mean()
METHODS = {
    "s1": Method("S1", FORWARD, NONE, (1, 0)),
    "s2": Method("S2", FORWARD, ORIGIN, (1, 1)),
    "s3": Method("S3", PAIRS, ORIGIN, (2, 1)),
    "cd": Method("CD", PAIRS, ORIGIN, (2, 1), identity_term=False),
    "zovh": Method("ZoVH", FORWARD, MEAN, (1, 0)),
    "zovh_reuse": Method("ZoVH + reuse", FORWARD, MEAN, (1, 0), reuse=True),
    "trace": Method("tr/d·I, forward", FORWARD, ORIGIN, (1, 1), control=True),
    "trace_pairs": Method("tr/d·I, pairs", PAIRS, ORIGIN, (2, 1), control=True),
}
"""The paper's estimators, and two controls that estimate the trace and nothing else."""
EXACT_CONTROLS = {"zero": "zero matrix", "trace_exact": "tr/d·I, exact trace"}
"""Controls that ask nothing."""
LABELS = {name: method.label for name, method in METHODS.items()} | EXACT_CONTROLS


def in_the_ball(d: int) -> Callable[[jax.Array], jax.Array]:
    """The paper's start: uniform in a ball, whose radius keeps the coordinates' size at any d."""

    def start(key):
        towards, along = jax.random.split(key)
        z = jax.random.normal(towards, (d,))
        length = np.sqrt(2 * d) * jax.random.uniform(along) ** (1 / d)
        return length * z / jnp.linalg.norm(z)

    return start


def locate(objective: Any, theta: jax.Array, step: Any, *, count: int) -> tuple[jax.Array, Any]:
    """A short descent and the exact Hessian at its end.

    Returns:
      ``count`` points, the first theta, each a step of that length down the exact gradient; and
      the Hessian, an operator.
    """

    def move(point, _):
        slope = objective.gradient(point)
        following = point - step * slope / jnp.maximum(jnp.linalg.norm(slope), 1e-12)
        return following.astype(point.dtype), point

    path = jax.lax.scan(move, theta, length=count)[1]
    return path, objective.hessian(path[-1])


def errors(
    objective: Any,
    path: jax.Array,
    exact: Any,
    key: jax.Array,
    radius: Any,
    *,
    counts: Sequence[tuple[str, int]],
    evaluate: Any = zo.evaluators.vmapped(),
) -> dict[tuple[str, int], jax.Array]:
    """Errors ‖Ĥ − H‖/‖H‖ of methods at the end of a path.

    Args:
      objective: the values.
      path: [N, d]; methods that reuse keep a round of values from each point.
      exact: the Hessian at the last point.
      key: of the directions; all methods share them.
      radius: μ.
      counts: methods, and directions of a round.
      evaluate: how a round is evaluated.

    Returns:
      The error of each of ``counts``, and of the controls that ask nothing, at 0 directions.
    """
    rounds, d = path.shape
    k = max(count for _, count in counts)
    options: dict[str, Any] = {"num_directions": k, "radius": radius, "evaluate": evaluate}
    options["store_directions"] = True
    kept = ask_along(objective, path, key, options)
    last = jax.random.fold_in(key, rounds - 1)
    pairs = zo.query(objective, path[-1], last, stencil=PAIRS, **options)
    rows: Any = kept.plan.stored
    yardstick = Yardstick.of(rows, exact)

    def error(method: Method, count: int) -> jax.Array:
        queries: Any
        if method.reuse:
            among, queries = slice(0, rounds * k), kept
            assert count == k
        else:
            among = slice((rounds - 1) * k, (rounds - 1) * k + count)
            queries = part_of(pairs, method, rows[among], radius)
        if method.control:
            # E[F] − f0 = ½μ² tr H, but for O(μ⁴).
            scale = 2 * (jnp.mean(queries.even) - queries.origin) / radius**2 / d
            return yardstick.error_of_identity(scale)
        estimate = zo.estimators.hessian(
            queries, path[-1], baseline=method.baseline, identity_term=method.identity_term
        )
        return yardstick.error(estimate.scale, estimate.weights, among)

    found = {(name, count): error(METHODS[name], count) for name, count in counts}
    return found | {
        ("zero", 0): jnp.ones_like(yardstick.trace),
        ("trace_exact", 0): yardstick.error_of_identity(yardstick.trace / d),
    }


def ask_along(
    objective: Any, path: jax.Array, key: jax.Array, options: dict[str, Any]
) -> zo.Queries:
    """A round of forward queries from each point of a path, with the values as they were there."""

    def ask(history, x):
        point, index = x
        queries = zo.query(objective, point, jax.random.fold_in(key, index), **options)
        return history.push(queries), None

    k = options["num_directions"]
    history = zo.History.init(
        path[-1], size=len(path), num_directions=k, store_directions=True, block_size=k
    )
    history, _ = jax.lax.scan(ask, history, (path, jnp.arange(len(path))))
    return history.queries()


def part_of(pairs: zo.Queries, method: Method, rows: jax.Array, radius: Any) -> zo.Queries:
    """What a method asks of a round of pairs: its first directions, and one or both points."""
    values = pairs.values[: len(rows)]
    return zo.Queries.from_values(
        values if method.stencil.paired else values[:, 0],
        directions=zo.directions.explicit(rows),
        radius=radius,
        stencil=method.stencil,
        origin=pairs.origin,
    )


def directions(operator: zo.LowRankPlusScaled) -> jax.Array:
    """Directions of an estimate for one vector, [n, d]."""
    (rows,) = operator.plan.materialise(operator.layout)
    return rows


def inner(a: zo.LowRankPlusScaled, b: zo.LowRankPlusScaled) -> jax.Array:
    """The inner product ⟨A, B⟩ of two estimates."""
    u, v = directions(a), directions(b)
    traces = [jnp.sum(x.weights * jnp.sum(jnp.square(w), 1)) for x, w in ((a, u), (b, v))]
    gram = jnp.einsum("jd,kd->jk", u, v, precision="highest")
    low_rank = a.weights @ jnp.square(gram).astype(a.weights.dtype) @ b.weights
    mixed = a.scale * traces[1] + b.scale * traces[0]
    return a.scale * b.scale * u.shape[1] + mixed + low_rank


def bias(
    objective: Any, theta: jax.Array, key: jax.Array, radius: Any, *, num_directions: int
) -> jax.Array:
    """The bias ‖E Ĥ − H‖/‖H‖, which all unbiased estimators of ∇²F_μ share.

    Estimators are linear in the values and exact on average on quadratics, so the bias is the
    mean estimate of what second-order Taylor expansion leaves: the noise of the quadratic part
    is gone. The norm comes from the inner product of two independent estimates, whose noise
    averages to zero.
    """
    value, slope = objective(theta), objective.gradient(theta)
    exact = objective.hessian(theta)

    def remainder(x):
        move = x - theta
        return objective(x) - value - move @ slope - 0.5 * move @ exact.mv(move)

    halves = [
        zo.estimators.hessian(
            zo.query(
                remainder,
                theta,
                jax.random.fold_in(key, half),
                num_directions=num_directions,
                radius=radius,
                stencil=PAIRS,
                value=jnp.zeros(()),
                store_directions=True,
            ),
            theta,
        )
        for half in range(2)
    ]
    return jnp.sqrt(jnp.maximum(inner(*halves), 0) / exact.squared_norm())


def inverse_gap(
    objective: Any,
    theta: jax.Array,
    key: jax.Array,
    radius: Any,
    damping: Any,
    *,
    num_directions: int,
) -> dict[str, jax.Array]:
    """The distance between the Gram-diagonal inverse and the exact one, in Frobenius norm.

    Both are I/λ outside the span of the directions: a basis of it is all that need be multiplied.

    Returns:
      ``of_correction``: relative to ‖(Ĥ+λI)⁻¹ − I/λ‖; ``of_inverse``: to ‖(Ĥ+λI)⁻¹‖.
    """
    queries = zo.query(
        objective,
        theta,
        key,
        num_directions=num_directions,
        radius=radius,
        store_directions=True,
    )
    estimate = zo.estimators.hessian(queries, theta)
    basis = jnp.linalg.qr(directions(estimate).T)[0].T
    exact, diagonal = (
        jax.vmap(zo.inverse(estimate, damping=damping, solver=solver).mv)(basis)
        for solver in (zo.solvers.woodbury(), zo.solvers.gram_diagonal(guard=False))
    )
    gap = jnp.linalg.norm(exact - diagonal)
    outside = (theta.size - num_directions) / damping**2
    return {
        "of_correction": gap / jnp.linalg.norm(exact - basis / damping),
        "of_inverse": gap / jnp.sqrt(outside + jnp.sum(jnp.square(exact))),
    }


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Median and quartiles."""
    q25, median, q75 = np.percentile(values, (25, 50, 75))
    return {"median": float(median), "q25": float(q25), "q75": float(q75)}
