"""What reuse costs: the bias of ZoAR over N rounds, and the floor that the radius sets."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import zovh_jax as zo
from benchmarks.common.steps import stepping
from benchmarks.common.tuning import finite
from benchmarks.papers.moments import gradient_error

PROBLEM = zo.problems.rosenbrock()


def onset(
    dimension: int,
    queries: int,
    histories: tuple[int, ...],
    rates: tuple[float, ...],
    num_directions: int,
    radius: float,
    seeds: int,
) -> list[dict[str, Any]]:
    """ZoAR with one mean over N rounds on Rosenbrock, for each N and learning rate.

    A round tells about the gradient where it was made, so that the estimate is of the mean of the
    last N gradients. Its bias is the distance from the current one, over the current one's length.
    """
    start = PROBLEM.start(dimension, jax.random.key(100))
    steps = queries // num_directions
    found = []
    for size in histories:

        def run(rate, key, size=size):
            optimizer = zo.zoar(
                rate,
                num_directions=num_directions,
                radius=radius,
                key=key,
                history_size=size,
                reuse=zo.reuse.uniform(),
                store_directions=size > 1,
            )
            step = stepping(optimizer, PROBLEM)

            def body(carry, _):
                carry = step(carry)
                return carry, (PROBLEM(carry[0]), PROBLEM.gradient(carry[0]))

            _, (values, gradients) = jax.lax.scan(
                body, (start, optimizer.init(start)), length=steps
            )
            sums = jnp.cumsum(jnp.concatenate([jnp.zeros((1, dimension)), gradients]), 0)
            ages = jnp.minimum(jnp.arange(1, steps + 1), size)
            means = (sums[1:] - sums[jnp.arange(1, steps + 1) - ages]) / ages[:, None]
            apart = jnp.linalg.norm(means - gradients, axis=1)
            return values, apart / jnp.linalg.norm(gradients, axis=1)

        compiled = jax.jit(jax.vmap(run, (None, 0)))
        for rate in rates:
            values, biases = compiled(rate, jax.random.split(jax.random.key(0), seeds))
            found.append(
                {
                    "history_size": size,
                    "learning_rate": rate,
                    "final": middle(values[:, -1] / PROBLEM(start)),
                    "bias": middle(biases[:, steps // 10 :]),
                    "values": thinned(np.median(values, 0) / float(PROBLEM(start))),
                    "biases": thinned(np.median(biases, 0)),
                }
            )
    return found


def middle(x: Any) -> float | None:
    """The median, or None where it is not finite."""
    return finite(np.median(np.asarray(x)))


def thinned(curve: Any, points: int = 60) -> list[float | None]:
    """About so many numbers of a curve, from its first to its last."""
    curve = np.asarray(curve)
    return [finite(x) for x in curve[np.linspace(0, len(curve) - 1, points).astype(int)]]


def floors(
    dimension: int,
    steps: int,
    radii: tuple[float, ...],
    rate: float,
    num_directions: int,
    seeds: int,
) -> list[dict[str, Any]]:
    """E‖∇f‖² on ½‖x‖² at a constant learning rate: how fast it falls, and to what.

    With the exact error of (E15), e² = a‖g‖² + c μ², a step multiplies E‖g‖² by
    ρ = (1 − η)² + η²a and adds η²cμ²: the rate is ρ, and the floor η²cμ²/(1 − ρ).
    """
    ones, zeros = np.ones(dimension), np.zeros(dimension)
    unit = np.eye(dimension)[0]
    a = gradient_error(unit, zeros, num_directions, 1.0)
    c = gradient_error(zeros, ones, num_directions, 1.0)
    factor = (1 - rate) ** 2 + rate**2 * a
    damping = 1.0
    found = []
    for radius in radii:
        options = {"num_directions": num_directions, "radius": radius, "history_size": 1}
        methods = {
            "ZoAR, N = 1": lambda key, options=options: zo.zoar(rate, key=key, **options),
            "ZoVH, N = 1": lambda key, options=options: zo.zovh(
                rate * damping, damping=damping, key=key, **options
            ),
        }
        for name, make in methods.items():
            squares = descents(make, dimension, steps, seeds)
            tail = float(np.mean(squares[-steps // 5 :]))
            # The rate is that of the steps before the floor shows.
            count = int(np.sum(np.cumprod(squares > 30 * tail)))
            speed = (squares[count - 1] / squares[0]) ** (1 / (count - 1)) if count > 2 else np.nan
            found.append(
                {
                    "method": name,
                    "radius": radius,
                    "rate_derived": factor,
                    "rate": finite(speed),
                    "floor_derived": rate**2 * c * radius**2 / (1 - factor),
                    "floor": finite(tail),
                    "squares": thinned(squares),
                }
            )
    return found


def descents(make: Any, dimension: int, steps: int, seeds: int) -> np.ndarray:
    """Mean ‖∇f‖² over seeds at each step."""

    def run(key):
        optimizer = make(key)
        x = jnp.ones(dimension)
        step = stepping(optimizer, lambda x: jnp.sum(x**2) / 2)

        def body(carry, _):
            return step(carry), jnp.sum(carry[0] ** 2)

        return jax.lax.scan(body, (x, optimizer.init(x)), length=steps)[1]

    keys = jax.random.split(jax.random.key(0), seeds)
    return np.asarray(jnp.mean(jax.jit(jax.vmap(run))(keys), 0))
