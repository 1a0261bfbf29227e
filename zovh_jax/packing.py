"""States as plain arrays and back: for npz, flax.serialization, safetensors and the like."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._types import PyTree

KEY = ":key:"
"""What stands between the path of a PRNG key and its implementation in the name of its data."""


def pack(state: PyTree) -> dict[str, jax.Array]:
    """The arrays of a state, by name.

    In several processes all of them call it. What is split over them stays so: have orbax save the
    arrays, or gather them with ``multihost_utils.process_allgather(arrays, tiled=True)``.

    Args:
      state: an optimiser's state, or any tree of arrays.

    Returns:
      A dict from the path of each leaf, such as ``"0/history/num_pushed"``, to its array. A typed
      PRNG key is the uint32 array of its data; its path is followed by ``":key:"`` and its
      implementation. A leaf of no elements, which some formats refuse, is left out.

    Raises:
      ValueError: if two leaves have the same path, as a dict with slashes in its keys may make.

    Example:
      >>> import os, jax, jax.numpy as jnp, numpy as np, zovh_jax as zo
      >>> x, key = jnp.ones(3), jax.random.key(0)
      >>> optimizer = zo.zo_sgd(0.1, num_directions=4, radius=0.1, key=key)
      >>> arrays = zo.pack(optimizer.init(x))
      >>> sorted(arrays)[:3], arrays["0/key:key:threefry2x32"].dtype
      (['0/count', '0/key:key:threefry2x32', '0/num_dropped'], dtype('uint32'))
      >>> np.savez(os.devnull, **arrays)
    """
    packed: dict[str, jax.Array] = {}
    for name, leaf in _named(state):
        if name in packed:
            raise ValueError(f"two leaves have the path {name!r}: rename the keys of params.")
        if np.size(leaf):
            packed[name] = jax.random.key_data(leaf) if _is_key(leaf) else jnp.asarray(leaf)
    return packed


def unpack(like: PyTree, arrays: Mapping[str, Any]) -> PyTree:
    """The state whose arrays these are.

    Args:
      like: a state of the same optimiser and parameters, such as ``optimizer.init(params)`` gives,
        or that of ``jax.eval_shape(optimizer.init, params)``: only its structure, shapes, dtypes
        and shardings matter.
      arrays: what `pack` gave, as JAX or numpy arrays.

    Returns:
      A state with buffers of its own, so that it can be donated.

    Raises:
      ValueError: for arrays that are missing or too many, or have another shape, dtype or PRNG
        implementation; the message names the path.

    Example:
      >>> import jax, jax.numpy as jnp, numpy as np, zovh_jax as zo
      >>> x, key = jnp.ones(3), jax.random.key(0)
      >>> optimizer = zo.zo_sgd(0.1, num_directions=4, radius=0.1, key=key)
      >>> state = optimizer.init(x)
      >>> same = zo.unpack(optimizer.init(x), jax.tree.map(np.asarray, zo.pack(state)))
      >>> jax.tree.structure(same) == jax.tree.structure(state)
      True
    """
    named = _named(like)
    wanted = {name for name, leaf in named if np.size(leaf)}
    missing, extra = sorted(wanted - set(arrays)), sorted(set(arrays) - wanted)
    if missing or extra:
        what = [f"{missing[0]!r} is missing"] if missing else []
        what += [f"{extra[0]!r} is not among those that are expected"] if extra else []
        raise ValueError(
            f"these are not the arrays of such a state: {' and '.join(what)} "
            f"({len(missing)} missing, {len(extra)} too many)."
        )
    leaves = [
        _restored(name, leaf, arrays[name]) if name in wanted else jnp.zeros(leaf.shape, leaf.dtype)
        for name, leaf in named
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _named(tree: PyTree) -> list[tuple[str, Any]]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    named = []
    for path, leaf in paths:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if _is_key(leaf):
            name = f"{name}{KEY}{_implementation(leaf)}"
        named.append((name, leaf))
    return named


def _is_key(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _implementation(leaf: Any) -> str:
    """The name of a key's PRNG implementation; an abstract key shows it to a trace alone."""
    found: list[Any] = []
    jax.eval_shape(lambda key: found.append(jax.random.key_impl(key)), leaf)
    return str(found[0])


def _restored(name: str, like: Any, array: Any) -> jax.Array:
    shape, dtype = tuple(np.shape(like)), jnp.result_type(like)
    if _is_key(like):
        data = jax.eval_shape(jax.random.key_data, like)
        shape, dtype = data.shape, data.dtype
    array = array if isinstance(array, jax.Array) else np.asarray(array)
    if array.dtype.kind == "V" and array.dtype.itemsize == jnp.dtype(dtype).itemsize:
        array = array.view(dtype)  # npz forgets the names of bfloat16 and its relatives
    if tuple(array.shape) != shape or array.dtype != dtype:
        raise ValueError(
            f"{name!r} should be {dtype}{list(shape)} and is {array.dtype}{list(array.shape)}: it "
            "comes from other parameters, settings or precision."
        )
    restored = jnp.array(array, copy=True)
    sharding = getattr(like, "sharding", None)
    if sharding is not None and not isinstance(sharding, jax.sharding.SingleDeviceSharding):
        # Before it is a key, which JAX does not put on devices of other processes.
        restored = jax.device_put(restored, sharding)
    if _is_key(like):
        restored = jax.random.wrap_key_data(restored, impl=_implementation(like))
    return restored


__all__ = ["pack", "unpack"]
