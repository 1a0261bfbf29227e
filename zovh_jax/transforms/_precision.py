"""Parts of optax run on the leaves that they are for, in the precision that they need."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from zovh_jax._mesh import placed_with
from zovh_jax._tree import cast_like, direction_dtype, widen
from zovh_jax._types import PyTree
from zovh_jax.directions import Directions


def on_floats(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """``inner`` on the floats alone: the updates of other leaves, which are frozen, stay zero.

    Most of optax would make floats of integers, which cannot hold the large ones, and cannot work
    with bools and PRNG keys at all.
    """
    return _on(inner, lambda tree: jax.tree.map(_is_float, tree))


def on_perturbed(
    inner: optax.GradientTransformation, directions: Directions
) -> optax.GradientTransformation:
    """``inner`` on the leaves that the directions perturb: frozen ones do not decay either."""

    def perturbed(tree):
        treedef = jax.tree.structure(tree)
        return treedef.unflatten(directions.active(treedef))

    return _on(inner, perturbed)


def _on(
    inner: optax.GradientTransformation, which: Callable[[PyTree], PyTree]
) -> optax.GradientTransformation:
    """``inner`` on some leaves; it sees a zero in place of each other one."""

    def hidden(tree):
        return jax.tree.map(lambda x, on: x if on else jnp.zeros(()), tree, which(tree))

    def init(params):
        return inner.init(hidden(params))

    def update(updates, state, params=None):
        new, state = inner.update(hidden(updates), state, hidden(params))
        return jax.tree.map(lambda x, y, on: y if on else x, updates, new, which(updates)), state

    return optax.GradientTransformation(init, update)


def in_wide(inner: optax.GradientTransformation) -> optax.GradientTransformation:
    """``inner`` run on updates widened to float32; what it emits is rounded back once.

    optax keeps moments in the parameters' dtype. In bfloat16 a second moment would stand still:
    (1 − b2) g² is below its last digit. For parameters of float32 or wider nothing changes.
    """

    def init(params: PyTree) -> Any:
        # Reads shapes alone, as every init here, so that abstract parameters will do.
        wide = jax.tree.map(
            lambda x: jnp.zeros(jnp.shape(x), direction_dtype(jnp.result_type(x))), params
        )
        return placed_with(inner.init(wide), params)

    def update(updates, state, params=None):
        del params
        wide, state = inner.update(widen(updates), state)
        return cast_like(wide, updates), state

    return on_floats(optax.GradientTransformation(init, update))


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(x.dtype if hasattr(x, "dtype") else jnp.result_type(x), jnp.floating)
