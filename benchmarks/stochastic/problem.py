"""What every stochastic problem offers, and what they are made of."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from zovh_jax.problems.noise import hash_of

Params = Any
ValueFn = Callable[[Params], jax.Array]
ALL = 0
"""The size of a batch of all examples."""


@dataclasses.dataclass(frozen=True)
class Problem:
    """An objective E f(θ; ξ), seen through a sample of ξ at a time.

    Attributes:
      name: for tables.
      start: parameters from a key.
      batch: an objective from a key: the mean over a sample of the problem's batch size. With the
        same key it is the same function: common random numbers. A second argument, which may be
        traced, is a smaller size that divides the problem's, or `ALL` where there are examples: so
        one compiled program runs at several sizes.
      full: the objective itself, or the mean over a large sample that ``batch`` never draws.
      curvature: a typical eigenvalue of the Hessian, to start a grid of learning rates.
      test: what the answer is worth, from parameters, or None where ``full`` says it.
      measure: the name of what ``test`` gives; larger is better.
    """

    name: str
    start: Callable[[jax.Array], Params]
    batch: Callable[..., ValueFn]
    full: ValueFn
    curvature: float = 1.0
    test: ValueFn | None = None
    measure: str = ""

    @property
    def dimension(self) -> int:
        """d, the number of parameters."""
        shapes = jax.eval_shape(self.start, jax.random.key(0))
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


def of_examples(
    name: str,
    start: Callable[[jax.Array], Params],
    loss: Callable[[Params, Any], jax.Array],
    examples: Any,
    batch_size: int | None,
    **more: Any,
) -> Problem:
    """The mean of a loss over examples.

    Args:
      name, start: of the problem.
      loss: from parameters and a tree of some examples, [count, …] each: their mean loss.
      examples: all of them, a tree of arrays [num_examples, …].
      batch_size: how many a batch draws, with replacement, as anything else takes longer on a CPU
        than the loss does; None for all, which is no noise.
      more: other fields of the problem.
    """
    examples = jax.tree.map(jnp.asarray, examples)
    num_examples = len(jax.tree.leaves(examples)[0])
    if batch_size is not None and not 0 < batch_size <= num_examples:
        raise ValueError(f"batch_size must be from 1 to {num_examples} or None; got {batch_size}.")

    def full(params):
        return loss(params, examples)

    def batch(key, size=batch_size):
        if batch_size is None:
            return full
        rows = jax.random.randint(key, (batch_size,), 0, num_examples)
        drawn = jax.tree.map(lambda x: x[_repeated(rows, size)], examples)
        return lambda params: jax.lax.cond(size == ALL, full, lambda p: loss(p, drawn), params)

    return Problem(name, start, batch, full, **more)


def of_runs(
    name: str,
    start: Callable[[jax.Array], Params],
    run: Callable[[Params, jax.Array], jax.Array],
    batch_size: int,
    num_held_out: int,
    **more: Any,
) -> Problem:
    """The expected value of a run of a simulator.

    Args:
      name, start: of the problem.
      run: one run's value, from parameters and a key.
      batch_size: runs that a batch averages.
      num_held_out: runs that ``full`` averages, always the same.
      more: other fields of the problem.
    """

    def keys(key, stream, count):
        return jax.random.split(jax.random.fold_in(key, stream), count)

    def mean_of(keys):
        return lambda params: jnp.mean(jax.vmap(run, (None, 0))(params, keys))

    def full(params):
        return mean_of(keys(jax.random.key(0), 1, num_held_out))(params)

    def batch(key, size=batch_size):
        return mean_of(_repeated(keys(key, 0, batch_size), size))

    return Problem(name, start, batch, full, **more)


def independent(problem: Problem) -> Problem:
    """The same problem with a sample of its own for each point that is asked about.

    A point's bits are part of the key: asked twice with one key, the same point has the same value.
    """

    def batch(key, *size):
        def value_fn(params):
            own = jax.random.fold_in(key, hash_of(ravel_pytree(params)[0]))
            return problem.batch(own, *size)(params)

        return value_fn

    return dataclasses.replace(problem, name=f"{problem.name}, independent", batch=batch)


def _repeated(sample: jax.Array, size: Any) -> jax.Array:
    """The first ``size`` of a sample, as often as it takes: their mean is that of a small batch."""
    return sample[jnp.arange(len(sample)) % jnp.maximum(size, 1)]
