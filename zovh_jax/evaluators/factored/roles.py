"""What a program does along the axes of a parameter, and the split that fits it."""

from collections.abc import Sequence

from jax.extend import core

from zovh_jax.directions.splits import FULL, default_split
from zovh_jax.evaluators.factored.interpreter import sliced_by_scan

TAKEN = "t"
"""The role of an axis along which entries are looked up, or that a product pairs with another's.

It may be one of a stack of matrices; that of a table, of which rows are looked up, is none.
"""


def role(eqn: core.JaxprEqn, at: int, shape: Sequence[int], axis: int) -> str | None:
    """What an equation does along an axis of its input number ``at``.

    Returns:
      i where it sums over the axis in a product; o where the product keeps it; s where the axis is
      cut into single entries, or a loop runs over it; `TAKEN`; None where it does none of these.
    """
    params = eqn.params
    match eqn.primitive.name:
        case "dot_general":
            contracted, batch = (of_inputs[at] for of_inputs in params["dimension_numbers"])
            return "i" if axis in contracted else TAKEN if axis in batch else "o"
        case "conv_general_dilated" if at == 1:
            return "o" if axis == params["dimension_numbers"].rhs_spec[0] else "i"
        case "reduce_sum" if axis in params["axes"]:
            return "i"
        case "scan" if axis == 0 and sliced_by_scan(eqn)[at]:
            return "s"
        case "slice":
            size = params["limit_indices"][axis] - params["start_indices"][axis]
            return None if size == shape[axis] else "s" if size == 1 else TAKEN
        case "unstack" if axis == params["axis"]:
            return "s"
        case "split" if axis == params["axis"] and max(params["sizes"]) == 1:
            return "s"
        case "dynamic_slice" if at == 0 and params["slice_sizes"][axis] < shape[axis]:
            return TAKEN
        case "gather" if at == 0 and axis in params["dimension_numbers"].start_index_map:
            return TAKEN if params["slice_sizes"][axis] == 1 else None
    return None


def fitting(roles: Sequence[Sequence[str]], shape: tuple[int, ...]) -> str | None:
    """The word for a parameter whose axes have these roles; None where they don't tell.

    Args:
      roles: of each axis, in the order of the program.
      shape: of the parameter.
    """
    letters = [_letter(heard) for heard in roles]
    rest = tuple(n for n, x in zip(shape, letters, strict=True) if x != "s")
    guess = default_split(rest)
    if guess == FULL:
        return FULL
    known = {x for x in letters if x in ("i", "o")}
    if not known and TAKEN in letters:
        return None
    rest_of = iter(guess)
    for i, x in enumerate(letters):
        if not x and not known:
            letters[i] = next(rest_of)
        elif not x and len(known) == 1:
            letters[i] = "o" if "i" in known else "i"
        elif not x:
            letters[i] = letters[i - 1] if i else "i"
    word = "".join(letters).replace(TAKEN, "s")
    return word if {"i", "o"} <= set(word) else None


def _letter(heard: Sequence[str]) -> str:
    """The role that counts: that in the first product, else `TAKEN`, else s; "" for none."""
    in_products = [x for x in heard if x in "io"]
    return next(iter(in_products), TAKEN if TAKEN in heard else "s" if "s" in heard else "")


__all__ = ["fitting", "role"]
