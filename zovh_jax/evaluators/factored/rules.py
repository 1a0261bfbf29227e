"""Rules for operations on `Perturbed` parameters, by primitive.

A rule gets the primitive's parameters and its inputs, arrays or `Perturbed`, at least one of them
`Perturbed`. It returns what comes out, or, in words, why the parameter must be formed.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax.evaluators.factored.perturbed import Perturbed
from zovh_jax.evaluators.factored.products import conv_general_dilated, dot_general
from zovh_jax.evaluators.factored.shapes import (
    broadcast_in_dim,
    concatenate,
    dynamic_slice,
    gather,
    pad,
    reshape,
    rev,
    slice_,
    split,
    squeeze,
    stack,
    tile,
    transpose,
    unstack,
)

MOST_TERMS = 32
"""A sum of perturbed parameters keeps up to so many outer products, however small it is."""


def convert_element_type(params: dict, x: Perturbed) -> Any:
    """A cast; the factors keep their precision."""
    if not jnp.issubdtype(params["new_dtype"], jnp.floating):
        return "it is cast to what is no float"
    return dataclasses.replace(x, base=x.base.astype(params["new_dtype"]))


def neg(params: dict, x: Perturbed) -> Any:
    """−x."""
    return dataclasses.replace(x, base=-x.base, left=-x.left)


def mul(params: dict, x: Any, y: Any) -> Any:
    """A product with a scalar."""
    x, y = (x, y) if isinstance(x, Perturbed) else (y, x)
    if isinstance(y, Perturbed) or np.size(y) != 1:
        return "it is multiplied by more than a scalar"
    x, y = _of_one_rank(x, y)
    return _scaled(x, y, operator.mul)


def div(params: dict, x: Any, y: Any) -> Any:
    """A quotient by a scalar."""
    if isinstance(y, Perturbed) or np.size(y) != 1:
        return "it divides, or is divided by more than a scalar"
    x, y = _of_one_rank(x, y)
    return _scaled(x, y, operator.truediv)


def _of_one_rank(x: Perturbed, y: Any) -> tuple[Perturbed, Any]:
    """Elementwise operations take a scalar beside an array: a perturbed one gets its axes."""
    shape = np.broadcast_shapes(x.shape, np.shape(y))

    def widened(z):
        if not isinstance(z, Perturbed) or z.ndim == len(shape):
            return z
        return broadcast_in_dim({"shape": shape, "broadcast_dimensions": ()}, z)

    return widened(x), widened(y)


def _scaled(x: Perturbed, y: Any, by: Callable) -> Perturbed:
    """The base and one factor, by a scalar."""
    base = by(x.base, y).astype(x.base.dtype)
    left = by(x.left, jnp.reshape(y, ()).astype(x.left.dtype))
    return dataclasses.replace(x, base=base, left=left)


def add(params: dict, x: Any, y: Any) -> Any:
    """A sum with an array, or with another perturbed parameter, whose factors join these."""
    if not isinstance(x, Perturbed):
        x, y = y, x
    x, y = _of_one_rank(x, y)
    if isinstance(y, Perturbed):
        joined = x.plus(x.base + y.base, y)
        size, rank = joined.left.size + joined.right.size, len(joined.left)
        if rank > MOST_TERMS and size > joined.base.size:
            return "it is a sum of so many terms that their factors hold more numbers"
        return joined
    base = x.base + y
    ends = zip(base.shape, x.left.shape[1:], x.right.shape[1:], strict=True)
    repeated = any(n > max(sides) for n, *sides in ends)
    return dataclasses.replace(x, base=base, part=x.part or repeated)


def sub(params: dict, x: Any, y: Any) -> Any:
    """A difference."""
    return add(params, x, neg(params, y) if isinstance(y, Perturbed) else -y)


def reduce_sum(params: dict, x: Perturbed) -> Any:
    """A sum over axes of which one factor at least does not depend."""
    axes = tuple(params["axes"])
    if any(x.left.shape[i + 1] > 1 < x.right.shape[i + 1] for i in axes):
        return "it is summed over an axis that both of its factors have"
    ends = zip(x.shape, x.left.shape[1:], x.right.shape[1:], strict=True)
    counts = [n for i, (n, *sides) in enumerate(ends) if i in axes and max(sides) == 1]
    total = x.map(jnp.sum(x.base, axes), lambda row: jnp.sum(row, axes))
    return dataclasses.replace(total, left=total.left * math.prod(counts), part=True)


def same(params: dict, x: Perturbed) -> Any:
    """The parameter as it is."""
    return x


def stop_gradient(params: dict, x: Perturbed) -> Any:
    """The same, a constant to automatic differentiation."""
    return jax.lax.stop_gradient(x)


RULES = {
    "add": add,
    "add_any": add,
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "conv_general_dilated": conv_general_dilated,
    "convert_element_type": convert_element_type,
    "copy": same,
    "div": div,
    "dot_general": dot_general,
    "dynamic_slice": dynamic_slice,
    "gather": gather,
    "mul": mul,
    "name": same,
    "neg": neg,
    "pad": pad,
    "pvary": same,
    "reduce_sum": reduce_sum,
    "reshape": reshape,
    "rev": rev,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stack": stack,
    "stop_gradient": stop_gradient,
    "sub": sub,
    "tile": tile,
    "transpose": transpose,
    "unstack": unstack,
}

__all__ = ["RULES"]
