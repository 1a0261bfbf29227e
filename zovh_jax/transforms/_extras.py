"""What an objective is given besides the parameters: extras that its signature names, and a key."""

import difflib
import functools
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

import jax

from zovh_jax._types import ValueFn
from zovh_jax.evaluators.randomness import OBJECTIVE, Keyed, parameters_of, wants_key
from zovh_jax.transforms._state import ZerothOrderState

OTHERS = ("grad", "hessian_diag", "key", "obj_fn")
"""Extras of optax's own transformations, which are never taken for misspellings."""
ALIKE = 0.7
"""The ratio of `difflib` from which a name counts as another one, misspelt."""


def with_extras(
    name: str, value_fn: ValueFn, value: Any, extra: Mapping[str, Any], state: ZerothOrderState
) -> ValueFn:
    """The objective as a function of the parameters alone.

    It gets those extras that its signature names. A parameter ``key`` of it that has no default,
    or None, gets a PRNG key: the same for all queries of a round unless they are asked with
    ``common_key=False``, another in the next.

    Args:
      name: of the transformation, for errors.
      value_fn: the objective.
      value: f(θ) if the caller gave it, or None.
      extra: the extras of ``update``.
      state: whose round it is.

    Raises:
      TypeError: for an extra that looks like one of these names, misspelt; for a parameter of the
        objective that has no default and is not passed.
    """
    parameters = parameters_of(value_fn)
    given = {key: x for key, x in extra.items() if key in parameters}
    missing = [key for key in parameters if key not in given]
    check_names(name, [key for key in extra if key not in given], value, missing)
    if "key" in missing and wants_key(parameters):
        base = jax.random.fold_in(state.key, OBJECTIVE)
        given["key"] = jax.random.fold_in(base, state.round)
    empty = inspect.Parameter.empty
    needed = [key for key in parameters if key not in given and parameters[key].default is empty]
    if needed:
        raise TypeError(
            f"{name}: value_fn has a parameter {needed[0]} that nothing filled: pass it by name, "
            f"update(…, value_fn=value_fn, {needed[0]}=…)."
        )
    key = given.pop("key", None)
    value_fn = functools.partial(value_fn, **given) if given else value_fn
    return value_fn if key is None else Keyed(value_fn, key)


def check_names(
    name: str, unused: Iterable[str], value: Any, missing: Iterable[str], value_fn: Any = ()
) -> None:
    """Raises for an unused extra that looks like something that was not passed.

    Args:
      name: of the transformation.
      unused: names of extras that nothing here knows.
      value: f(θ), or None where it was not passed.
      missing: the objective's parameters that no extra filled.
      value_fn: None where it was not passed.
    """
    candidates = [*missing]
    candidates += ["value"] if value is None else []
    candidates += ["value_fn"] if value_fn is None else []
    for extra in unused:
        close = difflib.get_close_matches(extra, candidates, 1, ALIKE)
        if close and extra not in OTHERS:
            raise TypeError(
                f"{name}: update got {extra}=, which nothing here knows; did you mean {close[0]}=? "
                "(Extras reach the objective where its signature names them.)"
            )


__all__ = ["check_names", "with_extras"]
