"""Adam on true gradients: the ceiling of what values alone can reach."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from benchmarks.common.methods import Setting


class GradientState(NamedTuple):
    """State of `on_gradients`.

    Attributes:
      inner: Adam's.
      num_queries: what the gradients so far are charged as.
    """

    inner: optax.OptState
    num_queries: jax.Array


def on_gradients(rate: Any, key: jax.Array, setting: Setting) -> Any:
    """Adam on the true gradients of the objectives, each charged as K + 1 queries.

    So it takes as many steps as a method of forward differences.
    """
    del key
    adam = optax.adam(rate)

    def init(params):
        return GradientState(adam.init(params), jnp.zeros((), jnp.int32))

    def update(updates, state, params, *, value_fn, **extra):
        del updates, extra
        step, inner = adam.update(jax.grad(value_fn)(params), state.inner, params)
        return step, GradientState(inner, state.num_queries + setting.num_directions + 1)

    return optax.GradientTransformationExtraArgs(init, update)
