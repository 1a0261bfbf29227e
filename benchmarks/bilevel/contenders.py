"""The contenders: each step has a cost that is known beforehand, in values of inner and of outer.

All solve the inner problem in the same way, by gradients of values wherever y is a black box, and
start from the last solution. Those with a gradient of x descend by Adam.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import zovh_jax as zo
from benchmarks.bilevel.problem import (
    DERIVATIVES,
    GRADIENT,
    INNER,
    OUTER,
    PRODUCT,
    Bilevel,
    gradient_in_y,
    solver,
)
from zovh_jax.directions.hadamard import order_of

FIRST = 20
"""Steps of an inner solve that does not start near its solution."""
TERMS = 3
"""Of Neumann's series, or steps of CG: they go on where they ended in the step before."""
ALL, SOME, NONE = "everything", "what is no black box", "nothing"
"""What a contender differentiates."""


class Run(NamedTuple):
    """Where a run is.

    Attributes:
      x, y: the answer so far.
      memory: what else the contender keeps.
    """

    x: jax.Array
    y: jax.Array
    memory: Any


class Loop(NamedTuple):
    """A contender on a problem with a learning rate.

    Attributes:
      start: a run from a key; with ``first``, its cost.
      step: the next run, from a run and a key; with ``cost``.
    """

    start: Callable[[jax.Array], Run]
    step: Callable[[Run, jax.Array], Run]
    first: np.ndarray
    cost: np.ndarray


@dataclasses.dataclass(frozen=True)
class Contender:
    """A method of the comparison.

    Attributes:
      label: its name.
      access: what it differentiates.
      loop: makes it from a problem and a rate.
    """

    label: str
    access: str
    loop: Callable[[Bilevel, Any], Loop]


class Estimate(NamedTuple):
    """How a contender gets the gradient of x.

    Attributes:
      gradient: from (run before its inner solve, y after it, the solve's key): the gradient, and
        what is kept.
      memory: what is kept, before the first step.
      cost: of a gradient.
    """

    gradient: Callable[[Run, jax.Array, jax.Array], tuple[jax.Array, Any]]
    memory: Any
    cost: np.ndarray


def in_y(problem: Bilevel, access: str) -> bool:
    """Whether a contender with this access differentiates in y."""
    return access == ALL or (access == SOME and problem.black_box == "x")


def descent(label: str, access: str, estimate: Callable[[Bilevel], Estimate]) -> Contender:
    """Adam on estimates of the gradient, each after a few steps on the inner problem."""

    def loop(problem, rate):
        derivatives = in_y(problem, access)
        solve, solving = solver(problem, derivatives, problem.steps)
        first, cost_of_first = solver(problem, derivatives, FIRST)
        gradient, memory, cost = estimate(problem)
        adam = optax.adam(rate)

        def start(key):
            y = first(problem.start, problem.weights, key)
            return Run(problem.start, y, (adam.init(problem.start), memory))

        def step(run, key):
            state, kept = run.memory
            y = solve(run.x, run.y, key)
            g, kept = gradient(run._replace(memory=kept), y, key)
            updates, state = adam.update(g, state)
            return Run(optax.apply_updates(run.x, updates), y, (state, kept))

        return Loop(start, step, cost_of_first, solving + cost)

    return Contender(label, access, loop)


def product(problem: Bilevel, x: jax.Array, y: jax.Array, v: jax.Array) -> jax.Array:
    """The inner Hessian times v."""
    return jax.jvp(lambda y: jax.grad(problem.inner, 1)(x, y), (y,), (v,))[1]


def exactly(problem: Bilevel) -> Estimate:
    """Implicit differentiation with derivatives for all: the ceiling."""

    def gradient(run, y, key):
        v = jax.grad(problem.outer, 1)(run.x, y)
        q, _ = jax.scipy.sparse.linalg.cg(
            lambda v: product(problem, run.x, y, v), v, run.memory, maxiter=TERMS
        )
        mixed = jax.grad(lambda x: jnp.vdot(q, jax.grad(problem.inner, 1)(x, y)))
        return -mixed(run.x), q

    cost = GRADIENT + PRODUCT * (TERMS + 1) + PRODUCT
    return Estimate(gradient, jnp.zeros_like(problem.weights), cost * DERIVATIVES)


def hypergradient(access: str) -> Callable[[Bilevel], Estimate]:
    """`zo.hypergradient` with what the access allows, each solution from the one before."""

    def estimate(problem):
        columns, unknowns = (order_of(z.size) for z in (problem.start, problem.weights))
        mixed, products, slopes = 4 * columns * INNER, 4 * unknowns * INNER, 2 * unknowns * OUTER
        given = {}
        if in_y(problem, access):
            products, slopes = PRODUCT * DERIVATIVES, GRADIENT * DERIVATIVES
            given["inner_hvp"] = lambda x, y, v: product(problem, x, y, v)
            given["outer_grad"] = jax.grad(problem.outer, (0, 1))
        elif access == SOME:
            mixed = 2 * GRADIENT * DERIVATIVES
            given["inner_grad"] = jax.grad(problem.inner)
        estimated = zo.hypergradient(
            problem.outer,
            problem.inner,
            radius=problem.radius,
            solver=zo.solvers.neumann(TERMS, step_size=1 / problem.curvature[1]),
            evaluate=zo.evaluators.chunked(16),
            direct="outer_grad" in given,  # outer depends on y alone: nothing to ask for
            return_info=True,
            **given,
        )

        def gradient(run, y, key):
            g, info = estimated(run.x, y, key=key, start=run.memory)
            return g, info.solution

        # A product more than there are terms is for the residual, and one for the start.
        cost = mixed + (TERMS + 2) * products + slopes
        return Estimate(gradient, jnp.zeros_like(problem.weights), cost)

    return estimate


def through_solves(response: bool) -> Callable[[Bilevel], Estimate]:
    """Differences of whole inner solves along random directions of x.

    Args:
      response: whether they are of the solutions, times the gradient of outer in y (PZOBO), or of
        outer at the solutions (TorchOpt).
    """

    def estimate(problem):
        derivatives = in_y(problem, SOME)
        solve, solving = solver(problem, derivatives, problem.steps)
        outer_grad, cost = gradient_in_y(problem, problem.outer, derivatives, OUTER)

        def gradient(run, y, key):
            keys = jax.random.split(jax.random.fold_in(key, 1))
            slopes = outer_grad(run.x, y, keys[0]) if response else None

            def value(x, after):
                return jnp.vdot(after, slopes) if response else problem.outer(x, after)

            queries = zo.query(
                lambda x: value(x, solve(x, run.y, key)),  # the same noise for all
                run.x,
                keys[1],
                num_directions=problem.num_directions,
                radius=problem.radius,
                directions=zo.directions.hadamard(),
                evaluate=zo.evaluators.chunked(1),
                value=value(run.x, y),
            )
            estimated = zo.estimators.gradient(queries, run.x, baseline=zo.baselines.origin())
            return estimated, run.memory

        num = problem.num_directions
        return Estimate(gradient, (), num * solving + (cost if response else (num + 1) * OUTER))

    return estimate


def random_search(problem: Bilevel, rate: Any) -> Loop:
    """Normal x around the start, of this deviation; the best by outer is kept."""
    solve, cost = solver(problem, in_y(problem, SOME), FIRST)

    def start(key):
        y = solve(problem.start, problem.weights, key)
        return Run(problem.start, y, problem.outer(problem.start, y))

    def step(run, key):
        keys = jax.random.split(key)
        x = problem.start + rate * jax.random.normal(keys[0], problem.start.shape)
        y = solve(x, run.y, keys[1])
        tried = Run(x, y, problem.outer(x, y))
        return jax.tree.map(lambda a, b: jnp.where(tried.memory < run.memory, a, b), tried, run)

    return Loop(start, step, cost + OUTER, cost + OUTER)


CONTENDERS = {
    "first_order": descent("implicit differentiation", ALL, exactly),
    "values": descent("hypergradient, values alone", NONE, hypergradient(NONE)),
    "mixed": descent("hypergradient, mixed", SOME, hypergradient(SOME)),
    "whole": descent("whole solves", SOME, through_solves(response=False)),
    "pzobo": descent("PZOBO", SOME, through_solves(response=True)),
    "random": Contender("random search", SOME, random_search),
}
