"""Shared type aliases; nothing here computes."""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

PyTree: TypeAlias = Any
"""Any JAX pytree of arrays."""

Leaves: TypeAlias = list[Any]
"""Arrays of the perturbed leaves, in order."""

Number: TypeAlias = float | jax.Array
"""A Python number, or an array []."""

Schedule: TypeAlias = float | jax.Array | Callable[[jax.Array], Any]
"""A number, or an optax schedule that maps the step count to one."""

ValueFn: TypeAlias = Callable[[PyTree], Any]
"""The objective: parameters to a scalar float."""

Matvec: TypeAlias = Callable[[PyTree], PyTree]
"""A symmetric linear map on pytrees."""
