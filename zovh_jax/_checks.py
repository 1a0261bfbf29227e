"""Argument checks. Every message names the argument, its value and the remedy."""

import math
import numbers
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def positive_int(name: str, value: Any) -> int:
    """A Python int of at least 1; these sizes are static under jit."""
    if isinstance(value, jax.Array):
        raise TypeError(
            f"{name} must be a Python int, because it sets array shapes; got the array {value}. "
            f"With optax.inject_hyperparams pass static_args=({name!r}, ...)."
        )
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise ValueError(f"{name} must be an int of at least 1, got {value!r}.")
    return int(value)


def positive(name: str, value: Any, *, schedule: bool = False) -> Any:
    """A finite number above 0. Arrays (and schedules, if allowed) pass: their value comes later."""
    return _number(
        name, value, lambda x: 0 < x < math.inf, "a finite number greater than 0", schedule
    )


def nonnegative(name: str, value: Any, *, most: float = math.inf, schedule: bool = False) -> Any:
    """A finite number from 0 to ``most``. Arrays (and schedules, if allowed) pass."""
    allowed = "a number in " + ("[0, ∞)" if most == math.inf else f"[0, {most:g}]")
    return _number(name, value, lambda x: 0 <= x <= most and x < math.inf, allowed, schedule)


def learning_rate(value: Any) -> Any:
    """A finite number of at least 0, a schedule, or an array."""
    if (isinstance(value, np.ndarray) and value.ndim) or isinstance(value, jax.Array):
        return value
    return nonnegative("learning_rate", value, schedule=True)


def _number(
    name: str, value: Any, within: Callable[[float], bool], allowed: str, schedule: bool
) -> Any:
    if schedule and callable(value):
        return value
    if isinstance(value, jax.Array) and value.ndim == 0:
        return value
    is_number = isinstance(value, (numbers.Real, np.ndarray)) and np.ndim(np.asarray(value)) == 0
    if is_number and not isinstance(value, bool) and within(float(value)):
        return value
    also = ", or a schedule" if schedule else ""
    fixed = " (It takes no schedule.)" if callable(value) and not schedule else ""
    raise ValueError(f"{name} must be {allowed}{also}; got {value!r}.{fixed}")


def key(value: Any, name: str = "key") -> jax.Array:
    """One typed PRNG key; a legacy ``jax.random.PRNGKey`` array is wrapped."""
    if isinstance(value, jax.Array):
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key) and value.ndim == 0:
            return value
        if value.dtype == jnp.uint32 and value.ndim == 1:
            return jax.random.wrap_key_data(value)
    shown = f"{value.dtype}{list(value.shape)}" if isinstance(value, jax.Array) else repr(value)
    raise TypeError(f"{name} must be one PRNG key, such as jax.random.key(0); got {shown}.")


def instance(name: str, value: Any, kind: type, example: str) -> Any:
    """An object of one of the library's kinds, e.g. a direction family."""
    if not isinstance(value, kind):
        hint = " (call it: it is a factory)" if isinstance(value, type) else ""
        raise TypeError(f"{name} must be one of {example}; got {value!r}{hint}.")
    return value
