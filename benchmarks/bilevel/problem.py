"""What a bilevel problem is, and the inner solve that all contenders share."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
import optax

import zovh_jax as zo
from zovh_jax.directions.hadamard import order_of

INNER, OUTER, DERIVATIVES = np.eye(3, dtype=np.int64)
"""Costs are vectors: values of inner, values of outer, and derivatives in the price of values."""
GRADIENT, PRODUCT = 3, 6
"""What a gradient, and a product with second derivatives, are charged as, in values."""
Gradient = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""A gradient in y from (x, y, key)."""
Solve = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""The inner minimum, nearly, from (x, y to start from, key)."""


@dataclasses.dataclass(frozen=True)
class Bilevel:
    """Minimise outer(x, y*(x)), with y*(x) the minimum of inner(x, ·); outer depends on y alone.

    Attributes:
      inner, outer: functions of x and y.
      accuracy: of y on the test data.
      start: x.
      weights: y, before the first solve.
      curvature: least and largest eigenvalue of the inner Hessian, roughly.
      black_box: "y" where no contender but those with all derivatives may differentiate in y, and
        the one with mixed access may in x; "x" the other way round.
      references: several x to compare with, of which the best counts, by name.
      steps: of an inner solve from the last solution.
      radius: μ.
      num_directions: K, of the contenders that take random directions of x.
      scale: the half decade around which learning rates are searched.
    """

    inner: Callable[[jax.Array, jax.Array], jax.Array]
    outer: Callable[[jax.Array, jax.Array], jax.Array]
    accuracy: Callable[[jax.Array], jax.Array]
    start: jax.Array
    weights: jax.Array
    curvature: tuple[float, float]
    black_box: str
    references: dict[str, jax.Array] = dataclasses.field(default_factory=dict)
    steps: int = 3
    radius: float = 0.05
    num_directions: int = 8
    scale: int = -1


def gradient_in_y(
    problem: Bilevel, f: Callable[..., jax.Array], derivatives: bool, what: np.ndarray
) -> tuple[Gradient, np.ndarray]:
    """The gradient in y of ``f``, and its cost, of which a value is ``what``."""
    if derivatives:
        return lambda x, y, key: jax.grad(f, 1)(x, y), GRADIENT * DERIVATIVES
    count = order_of(problem.weights.size)
    by_values = zo.grad(
        f,
        1,
        num_directions=count,
        radius=problem.radius / 4,
        directions=zo.directions.hadamard(),
        evaluate=zo.evaluators.chunked(min(32, count)),
    )
    return lambda x, y, key: by_values(x, y, key=key), count * what


def solver(problem: Bilevel, derivatives: bool, steps: int) -> tuple[Solve, np.ndarray]:
    """Nesterov's method on the inner problem, and its cost."""
    gradient, cost = gradient_in_y(problem, problem.inner, derivatives, INNER)
    least, most = problem.curvature
    ratio = (most / least) ** 0.5
    nesterov = optax.sgd(1 / most, momentum=(ratio - 1) / (ratio + 1), nesterov=True)

    def solve(x, y, key):
        def step(carry, key):
            y, state = carry
            updates, state = nesterov.update(gradient(x, y, key), state, y)
            return (optax.apply_updates(y, updates), state), None

        return jax.lax.scan(step, (y, nesterov.init(y)), jax.random.split(key, steps))[0][0]

    return solve, steps * cost


def solution(problem: Bilevel, x: jax.Array, steps: int = 2000) -> jax.Array:
    """The inner minimum by derivatives: for what a run is compared with, not for the contenders."""
    solve, _ = solver(problem, True, steps)
    return solve(x, problem.weights, jax.random.key(0))
