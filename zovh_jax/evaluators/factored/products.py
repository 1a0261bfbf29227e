"""Products with a perturbed parameter: that with its base, plus two thin ones with the factors."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax.evaluators.factored.perturbed import Perturbed, rounded_sum

FEW = 32
"""Up to so many queries are multiplied by the factors of all."""


def dot_general(params: dict, lhs: Any, rhs: Any) -> Any:
    """Contracts with the inputs' factor; what comes of that is multiplied by the outputs' one.

    One of the two is an array.
    """
    if isinstance(lhs, Perturbed):
        # As a product from the right, whose outputs are moved to the front afterwards.
        (of_lhs, of_rhs), (batch_lhs, batch_rhs) = params["dimension_numbers"]
        numbers = ((of_rhs, of_lhs), (batch_rhs, batch_lhs))
        precision = params["precision"]
        precision = precision[::-1] if isinstance(precision, tuple) else precision
        swapped = params | {"dimension_numbers": numbers, "precision": precision}
        out = dot_general(swapped, rhs, lhs)
        if isinstance(out, str):
            return out
        num_batch, num_free = len(batch_lhs), lhs.ndim - len(of_lhs) - len(batch_lhs)
        moved = range(out.ndim - num_free, out.ndim)
        return jnp.moveaxis(out, moved, range(num_batch, num_batch + num_free))
    (_, contracted), (_, batch) = params["dimension_numbers"]
    w = _oriented(rhs, contracted)
    if w is None:
        return "both of its factors depend on the axes that are contracted"
    base = jax.lax.dot_general(lhs, w.base, **params)
    free = [i for i in range(w.ndim) if i not in (*contracted, *batch)]
    num_own = lhs.ndim - len(contracted) - len(batch)
    wide = jnp.promote_types(lhs.dtype, w.left.dtype)

    def outer(right):
        """The outputs' factor, on the axes of the result."""
        right = jax.lax.transpose(right, (*batch, *free, *contracted))
        shape = [right.shape[i] for i in range(len(batch) + len(free))]
        return right.reshape(*shape[: len(batch)], *(1,) * num_own, *shape[len(batch) :])

    delta = sum(
        _thin(lhs, left, params["dimension_numbers"], w.shape) * outer(right.astype(wide))
        for left, right in zip(w.left.astype(wide), w.right, strict=True)
    )
    return rounded_sum(base, delta)


def _thin(x: jax.Array, left: jax.Array, numbers: Any, shape: tuple[int, ...]) -> jax.Array:
    """The product of an array with a factor."""
    (_, contracted), (_, batch) = numbers
    fixed = (*contracted, *batch)
    left = jnp.broadcast_to(left, [shape[i] if i in fixed else n for i, n in enumerate(left.shape)])
    return _product(x.astype(left.dtype), left, numbers)


@functools.partial(jax.jit, static_argnames="numbers")
def _product(x: jax.Array, left: jax.Array, numbers: Any) -> jax.Array:
    """A product of two arrays of a query; those of few queries are one product when batched.

    It multiplies the x of each by the factors of all, of which each query takes its own: a few
    columns beside the hundreds of the base. In a batch of products with vectors XLA compiles each
    on its own on a CPU, and copies x for it. An accelerator multiplies the base in less than full
    precision, and the few columns, which are in full, would take as long.
    """
    product = functools.partial(jax.lax.dot_general, dimension_numbers=numbers, precision="highest")
    own = jax.custom_batching.custom_vmap(product)

    def all_with_all(x, left):
        every = jax.vmap(jax.vmap(product, (None, 0)), (0, None))(x, left)
        take = functools.partial(jax.lax.dynamic_index_in_dim, keepdims=False)
        return jax.vmap(take)(every, jnp.arange(len(x)))

    @own.def_vmap
    def _batched(size, batched, x, left):
        each = jax.vmap(product, [0 if on else None for on in batched])
        if size > FEW or not all(batched):
            return each(x, left), True
        return jax.lax.platform_dependent(x, left, cpu=all_with_all, default=each), True

    return own(x, left)


def conv_general_dilated(params: dict, lhs: Any, rhs: Any) -> Any:
    """A convolution with the inputs' factor has one feature; the outputs' one multiplies it."""
    if isinstance(lhs, Perturbed):
        return "it is convolved with another array"
    if params["feature_group_count"] != 1 or params["batch_group_count"] != 1:
        return "it is a kernel of a convolution in groups"
    out_axis, *inputs = params["dimension_numbers"].rhs_spec
    w = _oriented(rhs, inputs)
    if w is None or w.left.shape[out_axis + 1] > 1:
        return "its split is not the convolution's: window and inputs one side, outputs the other"
    base = jax.lax.conv_general_dilated(lhs, w.base, **params)
    feature = params["dimension_numbers"].out_spec[1]
    wide = jnp.promote_types(lhs.dtype, w.left.dtype)
    shape = [1 if i == out_axis else n for i, n in enumerate(w.shape)]
    thin = params | {"precision": jax.lax.Precision.HIGHEST, "preferred_element_type": wide}

    def outer(right):
        return right.reshape([-1 if i == feature else 1 for i in range(base.ndim)])

    delta = sum(
        jax.lax.conv_general_dilated(lhs.astype(wide), jnp.broadcast_to(left, shape), **thin)
        * outer(right.astype(wide))
        for left, right in zip(w.left.astype(wide), w.right, strict=True)
    )
    return rounded_sum(base, delta)


def _oriented(w: Perturbed, contracted: Sequence[int]) -> Perturbed | None:
    """With all contracted axes on the left; None where both factors depend on some of them."""
    for one in (w, w.swapped()):
        if all(one.right.shape[i + 1] == 1 for i in contracted):
            return one
    return None


__all__ = ["conv_general_dilated", "dot_general"]
