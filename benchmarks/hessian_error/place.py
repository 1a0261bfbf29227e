"""A place where Hessians are estimated."""

from collections.abc import Callable
from typing import Any

import jax

import zovh_jax as zo


class Place:
    """One objective in one dimension, with starts, and how it is evaluated.

    Attributes:
      constant: whether the objective is a constant of compiled functions, as a problem is. A
        network is an argument: as a constant, XLA would try to evaluate it while it compiles. It
        also has one start for all seeds, its trained weights.
    """

    def __init__(
        self,
        name: str,
        objective: Any,
        start: Callable[[jax.Array], jax.Array],
        evaluate: Any = zo.evaluators.vmapped(),
    ):
        self.name, self.objective, self.start, self.evaluate = name, objective, start, evaluate
        self.constant = isinstance(objective, zo.problems.Problem)

    def compiled(self, function: Callable, **options: Any) -> Callable:
        """The compiled ``function``, whose first argument is the objective."""
        return jax.jit(function, static_argnums=0 if self.constant else None, **options)

    @property
    def dimension(self) -> int:
        """The number of unknowns, d."""
        return jax.eval_shape(self.start, jax.random.key(0)).size
