"""Rules for operations on `Perturbed` parameters, by primitive.

A rule gets the primitive's parameters and its inputs, arrays or `Perturbed`, at least one of them
`Perturbed`. It returns what comes out, or, in words, why the parameter must be formed.
"""

import dataclasses
import math
import operator
from collections.abc import Callable
from typing import Any

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
    transpose,
)


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
    return _scaled(x, y, operator.mul)


def div(params: dict, x: Any, y: Any) -> Any:
    """A quotient by a scalar."""
    if isinstance(y, Perturbed) or np.size(y) != 1:
        return "it divides, or is divided by more than a scalar"
    return _scaled(x, y, operator.truediv)


def _scaled(x: Perturbed, y: Any, by: Callable) -> Perturbed:
    """The base and one factor, by a scalar."""
    base = by(x.base, y).astype(x.base.dtype)
    left = by(x.left, jnp.reshape(y, ()).astype(x.left.dtype))
    return dataclasses.replace(x, base=base, left=left)


def add(params: dict, x: Any, y: Any) -> Any:
    """A sum with an array, or with another perturbed parameter, whose factors join these."""
    if not isinstance(x, Perturbed):
        x, y = y, x
    if isinstance(y, Perturbed):
        return x.plus(x.base + y.base, y)
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


RULES = {
    "add": add,
    "add_any": add,
    "broadcast_in_dim": broadcast_in_dim,
    "concatenate": concatenate,
    "conv_general_dilated": conv_general_dilated,
    "convert_element_type": convert_element_type,
    "copy": same,
    "copy_p": same,
    "div": div,
    "dot_general": dot_general,
    "dynamic_slice": dynamic_slice,
    "gather": gather,
    "mul": mul,
    "neg": neg,
    "pad": pad,
    "pvary": same,
    "reduce_sum": reduce_sum,
    "reshape": reshape,
    "rev": rev,
    "slice": slice_,
    "split": split,
    "squeeze": squeeze,
    "stop_gradient": same,
    "sub": sub,
    "transpose": transpose,
}

__all__ = ["RULES"]
