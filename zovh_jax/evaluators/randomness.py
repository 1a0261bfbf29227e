"""Randomness of the objective's own: a parameter ``key`` of it, and what keys it gets."""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import jax

from zovh_jax._types import PyTree

OBJECTIVE = 2**31 + 1
"""Where the objective's keys branch off from those of the directions, which count below it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Keyed:
    """An objective with a parameter ``key``, and the key of a round for it.

    Attributes:
      fn: the objective, ``fn(params, key=key)``.
      key: the same for all queries of the round (common random numbers), unless `draw` is used.
    """

    fn: Callable[..., Any]
    key: Any

    def __call__(self, params: PyTree) -> Any:
        return self.fn(params, key=self.key)

    def draw(self, params: PyTree, index: jax.Array) -> Any:
        """The value with a key of its own for each query of the round."""
        return self.fn(params, key=jax.random.fold_in(self.key, index))


def parameters_of(value_fn: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """What can be passed by name, beyond the first parameter, which is θ."""
    try:
        signature = inspect.signature(value_fn)
    except (TypeError, ValueError):  # some callables written in C have none
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].kind in positional:
        parameters = parameters[1:]
    return {p.name: p for p in parameters if p.kind in named}


def wants_key(parameters: dict[str, inspect.Parameter]) -> bool:
    """Whether there is a parameter ``key`` that has no default, or None."""
    empty = (inspect.Parameter.empty, None)
    return "key" in parameters and parameters["key"].default in empty


__all__ = ["OBJECTIVE", "Keyed", "parameters_of", "wants_key"]
