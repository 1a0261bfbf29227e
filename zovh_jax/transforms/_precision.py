"""Moments in float32 or wider, whatever the parameters' dtype."""

import jax
import jax.numpy as jnp
import optax

from zovh_jax._tree import cast_like, direction_dtype, widen


def in_wide(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """``inner`` run on updates widened to float32; what it emits is rounded back once.

    optax keeps moments in the parameters' dtype. In bfloat16 a second moment would stand still:
    (1 − b2) g² is below its last digit. For parameters of float32 or wider nothing changes.
    """

    def init(params):
        # Reads shapes alone, as every init here, so that abstract parameters will do.
        return inner.init(
            jax.tree.map(
                lambda x: jnp.zeros(jnp.shape(x), direction_dtype(jnp.result_type(x))), params
            )
        )

    def update(updates, state, params=None):
        del params
        wide, state = inner.update(widen(updates), state)
        return cast_like(wide, updates), state

    return optax.GradientTransformation(init, update)
