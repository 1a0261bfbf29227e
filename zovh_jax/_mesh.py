"""How arrays are laid out over devices: by XLA (Auto meshes), by type (Explicit), by shard_map."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType

from zovh_jax._types import PyTree


def explicit_sharding(leaf: Any) -> Any:
    """The sharding that is part of an array's type; None where there is none."""
    if not isinstance(leaf, jax.Array) or _is_key(leaf):
        return None
    sharding = jax.typeof(leaf).sharding
    if sharding.mesh.empty or all(axis is None for axis in sharding.spec):
        return None
    # An array that is not traced has its devices too, which others like it need.
    at = leaf if hasattr(leaf, "sharding") else jax.typeof(leaf)
    mesh = at.sharding.mesh  # type: ignore[union-attr]
    return jax.sharding.NamedSharding(mesh, sharding.spec)


def is_split(x: jax.Array) -> bool:
    """Whether an array's type says that it is split over an Explicit mesh."""
    return explicit_sharding(x) is not None


def on_explicit_mesh(tree: PyTree) -> bool:
    """Whether a tree has arrays (not tracers) that are split over an Explicit mesh."""
    return any(is_split(x) and hasattr(x, "sharding") for x in jax.tree.leaves(tree))


def spread(sharding: Any, num_axes: int) -> Any:
    """The sharding with ``num_axes`` more leading axes, over which nothing is split."""
    if sharding is None or not num_axes:
        return sharding
    spec = jax.sharding.PartitionSpec(*[None] * num_axes, *sharding.spec)
    return jax.sharding.NamedSharding(sharding.mesh, spec)


def constant(shape: tuple[int, ...], value: float, dtype: Any, sharding: Any) -> jax.Array:
    """An array filled with one number, whose last axes are laid out as a sharding says."""
    if sharding is None:
        return jnp.full(shape, value, dtype)
    sharding = spread(sharding, len(shape) - len(sharding.spec))
    if isinstance(sharding.mesh, jax.sharding.Mesh):
        # Outside jit arrays have devices, which a branch of a conditional must keep.
        with jax.ensure_compile_time_eval():
            return jnp.full(shape, value, dtype, device=sharding)
    with jax.sharding.use_abstract_mesh(sharding.mesh):  # JAX 0.12 forgets the sharding without it
        return jnp.full(shape, value, dtype, device=sharding)


def alike(tree: PyTree, like: PyTree) -> PyTree:
    """The tree, laid out over the devices as another one is; numbers don't change.

    XLA does not know which parameters random numbers are for: unless told, it may give each device
    all of them.
    """
    return tree if jax.device_count() == 1 else jax.tree.map(_tied, tree, like)


def _tied(x: jax.Array, like: jax.Array) -> jax.Array:
    """The array, laid out as another one is; on an Explicit mesh its type says so already.

    XLA lays operands of an elementwise operation out alike, and does not see through the barrier
    that the other array is never selected.
    """
    mesh = jax.typeof(like).sharding.mesh
    numbers = not (_is_key(x) or _is_key(like))
    if x.shape != jnp.shape(like) or not numbers or not (mesh.empty or mesh.are_all_axes_auto):
        return x
    other = jax.lax.optimization_barrier(jnp.zeros((), bool))
    return jax.lax.select(other, like.astype(x.dtype), x)


def placed_with(state: PyTree, params: PyTree) -> PyTree:
    """A new state, on the devices of params: leaves like a parameter are laid out as it is.

    A leaf of the state is like a parameter if it has its shape, perhaps after leading axes. Of
    several such parameters the one at the same place in its tree counts. On an Explicit mesh other
    leaves are put on every device: an array's type includes the mesh, and must not change later.
    """
    arrays = [x for x in jax.tree_util.tree_leaves_with_path(params) if isinstance(x[1], jax.Array)]

    def place(path, leaf):
        if _is_key(leaf):
            return leaf  # of any shape: a key is like no parameter
        suffix = jax.tree_util.keystr(path)
        same = [
            (suffix.endswith(jax.tree_util.keystr(at)), x)
            for at, x in arrays
            if x.ndim and jnp.shape(leaf)[-x.ndim :] == x.shape
        ]
        if not same:
            return leaf
        like = max(same, key=lambda pair: pair[0])[1]
        if is_split(like):
            return leaf if is_split(leaf) else leaf + _zeros_of(like).astype(leaf.dtype)
        tie = lambda row: _tied(row, like)  # noqa: E731
        for _ in range(leaf.ndim - like.ndim):
            tie = jax.vmap(tie)
        return tie(leaf)

    if jax.device_count() > 1:
        state = jax.tree_util.tree_map_with_path(place, state)
    there = [x for _, x in arrays if AxisType.Explicit in jax.typeof(x).sharding.mesh.axis_types]
    return jax.tree.map(lambda x: on_mesh_of(x, there[0]), state) if there else state


def on_mesh_of(x: jax.Array, other: jax.Array) -> jax.Array:
    """The array on the Explicit mesh of another one, on every device; as it is without one."""
    mesh, wanted = (jax.typeof(a).sharding.mesh for a in (x, other))
    return varying_with(x, other) if mesh.empty and not wanted.empty else x


def varying_with(tree: PyTree, *others: PyTree) -> PyTree:
    """The tree, varying over the axes of ``jax.shard_map`` that the others vary over.

    What loops and branches carry must vary over the same axes before and after. Numbers do not
    change, as zeros are added; outside ``shard_map`` nothing does.
    """
    zeros = [jnp.sum(_zeros_of(x)) for x in jax.tree.leaves(others)]

    def add(x):
        if _is_key(x):
            return jax.random.wrap_key_data(
                add(jax.random.key_data(x)), impl=jax.random.key_impl(x)
            )
        return sum((z.astype(x.dtype) for z in zeros), x)

    return jax.tree.map(add, tree)


def _zeros_of(x: jax.Array) -> jax.Array:
    """Zeros of an array's shape that depend on the array, as far as its type shows."""
    if _is_key(x):
        x = jax.random.key_data(x)
    elif jnp.issubdtype(x.dtype, jnp.floating):
        x = jax.lax.bitcast_convert_type(x, f"uint{8 * x.dtype.itemsize}")
    return x.astype(jnp.uint32) & np.uint32(0)


def _is_key(x: Any) -> bool:
    return jnp.issubdtype(jax.typeof(x).dtype, jax.dtypes.prng_key)
