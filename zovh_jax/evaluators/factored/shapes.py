"""Operations that move, cut or repeat a perturbed parameter: each factor goes along.

A factor has length 1 along the axes that it does not depend on, and keeps it.
"""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax.evaluators.factored.perturbed import Perturbed


def transpose(params: dict, x: Perturbed) -> Any:
    """Axes in another order."""
    move = functools.partial(jax.lax.transpose, permutation=params["permutation"])
    return x.map(move(x.base), move)


def squeeze(params: dict, x: Perturbed) -> Any:
    """Axes of length 1 go."""
    drop = functools.partial(jax.lax.squeeze, dimensions=params["dimensions"])
    return x.map(drop(x.base), drop)


def rev(params: dict, x: Perturbed) -> Any:
    """Some axes backwards."""
    turn = functools.partial(jax.lax.rev, dimensions=params["dimensions"])
    return x.map(turn(x.base), turn)


def broadcast_in_dim(params: dict, x: Any, *dynamic: Any) -> Any:
    """More axes, of which no factor depends."""
    if dynamic:
        return "its new shape is not static"
    at = params["broadcast_dimensions"]

    def widened(row):
        shape = [1] * len(params["shape"])
        for axis, n in zip(at, row.shape, strict=True):
            shape[axis] = n
        return row.reshape(shape)

    return x.map(jax.lax.broadcast_in_dim(x.base, params["shape"], at), widened)


def reshape(params: dict, x: Any, *dynamic: Any) -> Any:
    """Axes merged or cut; those that are merged must belong to one factor alone."""
    if dynamic or params["dimensions"] is not None:
        return "its new shape is not static"
    new = params["new_sizes"]
    groups = _groups(x.shape, new)
    for old_axes, _ in groups:
        has = [any(side.shape[i + 1] != 1 for i in old_axes) for side in (x.left, x.right)]
        whole = [
            all(side.shape[i + 1] == x.shape[i] for i in old_axes) for side in (x.left, x.right)
        ]
        if all(has) and not all(whole):
            return "an axis of its inputs is merged with one of its outputs"

    def reshaped(row):
        merged, shape = [], []
        for old_axes, new_axes in groups:
            if any(row.shape[i] != 1 for i in old_axes):
                merged += [x.shape[i] for i in old_axes]
                shape += [new[i] for i in new_axes]
            else:
                merged += [1] * len(old_axes)
                shape += [1] * len(new_axes)
        return jnp.broadcast_to(row, merged).reshape(shape)

    return x.map(x.base.reshape(new), reshaped)


def _groups(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Old axes and new ones that hold the same numbers, in the smallest groups."""
    if 0 in old:
        return [(list(range(len(old))), list(range(len(new))))]
    groups, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        first = (i, j)
        a, b = math.prod(old[i : i + 1]), math.prod(new[j : j + 1])
        i, j = min(i + 1, len(old)), min(j + 1, len(new))
        while a != b:
            if a < b:
                a, i = a * old[i], i + 1
            else:
                b, j = b * new[j], j + 1
        groups.append((list(range(first[0], i)), list(range(first[1], j))))
    return groups


def slice_(params: dict, x: Perturbed) -> Any:
    """A part."""
    starts, limits = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or (1,) * x.ndim

    def cut(row):
        ends = zip(starts, limits, strides, strict=True)
        return row[
            tuple(
                slice(None) if n == 1 else slice(*of_axis)
                for n, of_axis in zip(row.shape, ends, strict=True)
            )
        ]

    return x.map(jax.lax.slice(x.base, starts, limits, params["strides"]), cut)


def split(params: dict, x: Perturbed) -> Any:
    """Parts along an axis."""
    axis, sizes = params["axis"], params["sizes"]
    ends = [0, *itertools.accumulate(map(int, sizes))]

    def part(start, stop):
        limits = {
            "start_indices": [start if i == axis else 0 for i in range(x.ndim)],
            "limit_indices": [stop if i == axis else n for i, n in enumerate(x.shape)],
            "strides": None,
        }
        return slice_(limits, x)

    return [part(*pair) for pair in itertools.pairwise(ends)]


def dynamic_slice(params: dict, x: Any, *starts: Any) -> Any:
    """A part that starts where the program says."""
    if any(isinstance(start, Perturbed) for start in starts):
        return "it says where a part starts"
    sizes = params["slice_sizes"]

    def cut(row):
        at = [start * 0 if n == 1 else start for n, start in zip(row.shape, starts, strict=True)]
        of = [1 if n == 1 else size for n, size in zip(row.shape, sizes, strict=True)]
        return jax.lax.dynamic_slice(row, at, of)

    return x.map(jax.lax.dynamic_slice(x.base, starts, sizes), cut)


def gather(params: dict, x: Any, indices: Any) -> Any:
    """Entries at indices, such as rows of a table of embeddings."""
    if isinstance(indices, Perturbed):
        return "it is an index"
    numbers, slice_sizes = params["dimension_numbers"], params["slice_sizes"]
    ends = list(zip(x.left.shape[1:], x.right.shape[1:], strict=True))
    if any(max(ends[i]) < x.shape[i] for i in numbers.start_index_map):
        return "none of its factors depends on an axis that is indexed"
    take = functools.partial(
        jax.lax.gather,
        dimension_numbers=numbers,
        mode=params["mode"],
    )

    def taken(row):
        in_batch = numbers.operand_batching_dims
        row = jnp.broadcast_to(
            row, [x.shape[i] if i in in_batch else n for i, n in enumerate(row.shape)]
        )
        # Along an axis of length 1 any index means the only entry. Out of bounds a factor is zero.
        known = np.array([row.shape[i] == x.shape[i] for i in numbers.start_index_map])
        sizes = [min(n, size) for n, size in zip(row.shape, slice_sizes, strict=True)]
        at = jnp.where(known, indices, 0)
        return take(row, at, slice_sizes=tuple(sizes), fill_value=0)

    # What is promised of the indices need not hold for those of a factor.
    base = take(
        x.base,
        indices,
        slice_sizes=slice_sizes,
        fill_value=params["fill_value"],
        indices_are_sorted=params["indices_are_sorted"],
        unique_indices=params["unique_indices"],
    )
    return dataclasses.replace(x.map(base, taken), part=True)


def concatenate(params: dict, *xs: Any) -> Any:
    """Side by side: the factors of each are zero in the place of the others."""
    axis = params["dimension"]
    ends = [0, *itertools.accumulate(x.shape[axis] for x in xs)]
    shape = [ends[-1] if i == axis else n for i, n in enumerate(xs[0].shape)]
    base = jnp.concatenate([x.base if isinstance(x, Perturbed) else x for x in xs], axis)
    around = [
        (x, [(start, ends[-1] - stop, 0) if i == axis else (0, 0, 0) for i in range(len(shape))])
        for x, (start, stop) in zip(xs, itertools.pairwise(ends), strict=True)
        if isinstance(x, Perturbed)
    ]
    return functools.reduce(
        lambda a, b: a.plus(base, b), [_padded(x, base, config) for x, config in around]
    )


def stack(params: dict, *xs: Any) -> Any:
    """Side by side along a new axis."""
    axis = params["axis"]

    def widened(x):
        if not isinstance(x, Perturbed):
            return jnp.expand_dims(x, axis)
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        kept = tuple(i for i in range(len(shape)) if i != axis)
        return broadcast_in_dim({"shape": shape, "broadcast_dimensions": kept}, x)

    return concatenate({"dimension": axis}, *map(widened, xs))


def unstack(params: dict, x: Perturbed) -> Any:
    """Single entries along an axis."""
    axis = params["axis"]
    parts = split({"axis": axis, "sizes": (1,) * x.shape[axis]}, x)
    return [squeeze({"dimensions": (axis,)}, part) for part in parts]


def tile(params: dict, x: Perturbed) -> Any:
    """Repeated along axes."""
    reps = params["reps"]
    shape = tuple(n for pair in zip(reps, x.shape, strict=True) for n in pair)
    kept = tuple(range(1, 2 * x.ndim, 2))
    repeated = broadcast_in_dim({"shape": shape, "broadcast_dimensions": kept}, x)
    new = tuple(times * n for times, n in zip(reps, x.shape, strict=True))
    return reshape({"new_sizes": new, "dimensions": None}, repeated)


def pad(params: dict, x: Any, value: Any) -> Any:
    """More entries, which are not perturbed."""
    if not isinstance(x, Perturbed) or isinstance(value, Perturbed):
        return "it fills what is padded"
    config = params["padding_config"]
    return _padded(x, jax.lax.pad(x.base, value, config), config)


def _padded(x: Perturbed, base: jax.Array, config: Sequence[tuple[int, int, int]]) -> Perturbed:
    """Factors are zero where nothing was; an axis that none has becomes the left one's."""
    changed = [any(ends) for ends in config]

    def of(side, has):
        shape = [
            n if here and change else m
            for n, m, here, change in zip(x.shape, side.shape[1:], has, changed, strict=True)
        ]
        rows = [jnp.broadcast_to(row, shape) for row in side]
        zero = jnp.zeros((), side.dtype)
        own = [ends if here else (0, 0, 0) for ends, here in zip(config, has, strict=True)]
        return jnp.stack([jax.lax.pad(row, zero, own) for row in rows])

    right = [n > 1 for n in x.right.shape[1:]]
    left = [n > 1 or not other for n, other in zip(x.left.shape[1:], right, strict=True)]
    return dataclasses.replace(x, base=base, left=of(x.left, left), right=of(x.right, right))


__all__ = [
    "broadcast_in_dim",
    "concatenate",
    "dynamic_slice",
    "gather",
    "pad",
    "reshape",
    "rev",
    "slice_",
    "split",
    "squeeze",
    "stack",
    "tile",
    "transpose",
    "unstack",
]
