"""Work of a population, shared by devices."""

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, Mesh
from jax.sharding import PartitionSpec as P

AXIS = "pop"  # as shardes calls it: arrays of two meshes do not meet


def mesh_of(devices: int) -> Mesh:
    """The first devices."""
    return jax.make_mesh(
        (devices,),
        (AXIS,),
        axis_types=(AxisType.Auto,),
        devices=jax.devices()[:devices],
    )


def shared(fn: Callable[..., Any], devices: int) -> Callable[..., Any]:
    """Spreads the rows of the first argument, and of what comes out, over devices."""
    if devices == 1:
        return fn

    def call(rows, *others):
        mapped = jax.shard_map(
            fn,
            mesh=mesh_of(devices),
            in_specs=(P(AXIS), *(P(),) * len(others)),
            out_specs=P(AXIS),
            check_vma=False,
        )
        return mapped(rows, *others)

    return call


def on_all(fn: Callable[..., Any], devices: int) -> Callable[..., Any]:
    """Makes every device compute the same."""
    if devices == 1:
        return fn
    mesh = mesh_of(devices)
    return jax.shard_map(fn, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
