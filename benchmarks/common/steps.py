"""A step of an optimiser as a function, to be compiled, looped or timed."""

from collections.abc import Callable
from typing import Any

import optax

Carry = tuple[Any, Any]
"""The parameters and the optimiser's state."""


def stepping(
    optimizer: optax.GradientTransformationExtraArgs, value_fn: Callable[[Any], Any]
) -> Callable[[Carry], Carry]:
    """A function that takes the parameters and the state one step further."""

    def step(carry: Carry) -> Carry:
        params, state = carry
        updates, state = optimizer.update(None, state, params, value_fn=value_fn)
        return optax.apply_updates(params, updates), state

    return step
