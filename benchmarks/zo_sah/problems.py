"""What is minimised: Rosenbrock's function, logistic losses on data, quadratics, a small network.

Values are those above the minimum where it is known. All starts are near or at a fixed point, and
differ with the seed where the methods' own draws do not make runs differ.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
import sklearn.datasets

import zovh_jax as zo
from benchmarks.common.tabular import standardised
from benchmarks.common.tuning import Task, queries_to

TARGET = 1e-2
"""Rosenbrock's function counts as solved where its value and the distance are at most this."""
FRACTION = 1e-3
"""A quadratic counts as solved where its value is this share of the start's."""
RIDGE = 1e-3
"""Of the logistic losses: without it the minimum may be at infinity."""
LEAST = 1e-7
"""Excesses below this are rounding in single precision."""
DIGIT = 3
"""The digit that is told from the others."""
CORRELATION = 0.9
"""Of the two parameters of a block."""


def rosenbrock(budget: int, checkpoints: int) -> Task:
    """The task of reaching the minimum at (1, 1) from near the classical start."""
    f = zo.problems.rosenbrock()

    def start(key):
        return jnp.array([-1.2, 1.0]) + 0.05 * jax.random.normal(key, (2,))

    return Task(
        lambda x, key, spent, level: f(x),
        lambda x, spent, level: jnp.maximum(f(x), jnp.linalg.norm(x - 1)),
        start,
        dimension=2,
        curvature=500.0,
        budget=budget,
        checkpoints=checkpoints,
        score=queries_to(TARGET, np.round(np.linspace(0, budget, checkpoints + 1))),
    )


def quadratic(condition: float, dimension: int, budget: int, checkpoints: int = 200) -> Task:
    """A rotated quadratic with eigenvalues from 1 to ``condition``, from a random start."""
    f = zo.problems.quadratic(condition, rotated=True, key=jax.random.key(42))
    of_ratios = queries_to(FRACTION, np.round(np.linspace(0, budget, checkpoints + 1)))
    return _of_values(
        f,
        lambda key: jax.random.normal(key, (dimension,)),
        dimension,
        condition**0.5,
        budget,
        checkpoints=checkpoints,
        score=lambda values: of_ratios(values / values[0]),
    )


def blocks(dimension: int, budget: int) -> Task:
    """A quadratic whose parameters are correlated in pairs, in random places."""
    order = np.random.default_rng(0).permutation(dimension).reshape(-1, 2)
    scales = jnp.geomspace(1, 100, len(order))

    def f(x):
        a, b = x[order[:, 0]], x[order[:, 1]]
        return jnp.sum(scales * (0.5 * (a**2 + b**2) + CORRELATION * a * b))

    return _of_values(f, lambda key: jax.random.normal(key, (dimension,)), dimension, 10.0, budget)


def breast_cancer(budget: int) -> Task:
    """Logistic regression on scikit-learn's breast cancer data, 30 features and a bias."""
    (x, y), _ = standardised(sklearn.datasets.load_breast_cancer)
    return logistic(x, y == 1, budget)


def digit(budget: int) -> Task:
    """Logistic regression of one digit against the others, on scikit-learn's of 8×8 pixels."""
    (x, y), _ = standardised(sklearn.datasets.load_digits)
    return logistic(x, y == DIGIT, budget)


def logistic(features: np.ndarray, positive: np.ndarray, budget: int) -> Task:
    """The loss above its minimum, from zero."""
    loss = functools.partial(logistic_loss, *with_bias(features, positive))
    dimension = features.shape[1] + 1
    least = minimum(features, positive)
    curvature = float(np.mean(np.square(features))) / 4
    return _of_values(
        lambda x: loss(x) - least,
        lambda key: jnp.zeros(dimension),
        dimension,
        curvature,
        budget,
        worst=lambda first, level: 2 * first,
    )


def with_bias(features: np.ndarray, positive: np.ndarray) -> tuple[jax.Array, jax.Array]:
    """The features with a column of ones, and the classes as signs."""
    wide = np.pad(features, ((0, 0), (0, 1)), constant_values=1)
    return jnp.asarray(wide), jnp.where(positive, 1, -1)


def logistic_loss(features: jax.Array, signs: jax.Array, x: jax.Array) -> jax.Array:
    """The mean of log(1 + exp(−y wᵀx)), and a ridge."""
    margins = signs * (features @ x)
    return jnp.mean(jnp.logaddexp(0, -margins)) + RIDGE / 2 * jnp.sum(jnp.square(x))


def minimum(features: np.ndarray, positive: np.ndarray) -> float:
    """The least loss, by a quasi-Newton method with derivatives, in double precision."""
    with jax.enable_x64(True):
        wide, signs = with_bias(features.astype(float), positive)
        loss = jax.jit(jax.value_and_grad(functools.partial(logistic_loss, wide, signs)))
        options = {"gtol": 1e-9, "maxiter": 10_000}
        start = np.zeros(wide.shape[1])
        return float(scipy.optimize.minimize(loss, start, jac=True, options=options).fun)


def _of_values(
    f: Callable[[jax.Array], jax.Array],
    start: Callable[[jax.Array], jax.Array],
    dimension: int,
    curvature: float,
    budget: int,
    **more: Any,
) -> Task:
    """The task of bringing f near zero."""
    return Task(
        lambda x, key, spent, level: f(x),
        lambda x, spent, level: jnp.maximum(f(x), LEAST),
        start,
        dimension=dimension,
        curvature=curvature,
        budget=budget,
        **more,
    )
