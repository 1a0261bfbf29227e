"""Which arguments of a factory are numbers that may change, and which are fixed."""

import inspect
import typing
from collections.abc import Callable
from typing import Any


def static_args(factory: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that `optax.inject_hyperparams` must leave alone, for its ``static_args``.

    Those are sizes, which set the shapes of arrays, the key, and all that is no number: families,
    masks, switches, functions such as ``prox``. The others can be injected: learning rate, radius,
    damping and the like.

    Args:
      factory: an optimiser or a transformation of this library, such as `zo.zovh`.

    Returns:
      Names of arguments.

    Raises:
      TypeError: if it is no function with annotated arguments.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> make = optax.inject_hyperparams(zo.zo_sgd, static_args=zo.static_args(zo.zo_sgd))
      >>> optimizer = make(0.1, num_directions=4, radius=1e-2, key=jax.random.key(0))
      >>> state = optimizer.init(jnp.ones(3))
      >>> sorted(state.hyperparams)
      ['learning_rate', 'radius']
      >>> state.hyperparams["learning_rate"] = jnp.asarray(0.05)
    """
    hints = typing.get_type_hints(factory) if callable(factory) else {}
    if not hints:
        raise TypeError(
            f"static_args needs one of the library's factories, such as zo.zovh; got {factory!r}."
        )
    return tuple(
        name
        for name in inspect.signature(factory).parameters
        if name != "learning_rate" and not _is_number(hints.get(name))
    )


def _is_number(hint: Any) -> bool:
    return hint is float or float in typing.get_args(hint)


__all__ = ["static_args"]
