"""Argument checks. Every message names the argument, its value and the remedy."""

import numbers
import sys
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
    if schedule and callable(value):
        return value
    if isinstance(value, jax.Array) and value.ndim == 0:
        return value
    is_number = isinstance(value, (numbers.Real, np.ndarray)) and np.ndim(np.asarray(value)) == 0
    if is_number and not isinstance(value, bool) and 0 < float(value) < float("inf"):
        return value
    also = ", or a schedule" if schedule else ""
    raise ValueError(f"{name} must be a finite number greater than 0{also}; got {value!r}.")


def nonnegative(
    name: str, value: Any, *, most: float = float("inf"), schedule: bool = False
) -> Any:
    """A finite number from 0 to ``most``. Arrays (and schedules, if allowed) pass."""
    if schedule and callable(value):
        return value
    if isinstance(value, jax.Array) and value.ndim == 0:
        return value
    number = isinstance(value, (numbers.Real, np.ndarray)) and np.ndim(np.asarray(value)) == 0
    if (
        number
        and not isinstance(value, bool)
        and 0 <= float(value) <= min(most, sys.float_info.max)
    ):
        return value
    allowed = "[0, ∞)" if most == float("inf") else f"[0, {most:g}]"
    also = ", or a schedule" if schedule else ""
    raise ValueError(f"{name} must be a number in {allowed}{also}; got {value!r}.")


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
