"""A round's queries, spread over devices."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, PartitionSpec

from zovh_jax import _checks
from zovh_jax._mesh import explicit_sharding
from zovh_jax._tree import Layout
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions
from zovh_jax.directions.wrappers import Wrapper
from zovh_jax.evaluators.evaluator import Evaluator
from zovh_jax.evaluators.vmapped import vmapped
from zovh_jax.plan import Plan


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sharded(Evaluator):
    """A round's queries over an axis of a mesh: each device draws and evaluates its own.

    On n devices each has ⌈K/n⌉ directions, which ``inner`` evaluates. All that they exchange is the
    values: 4 bytes a query (8 in double precision), or as many for each example with
    ``reduce="mean"``. From these every device makes the estimate by drawing all K directions again,
    in blocks of ``inner``'s size, so that params and state stay alike on all of them without more
    traffic. The devices may be those of several processes. It pays where ⌈K/n⌉ queries cost more
    than K draws: not for cheap objectives.

    Numbers are those of ``inner`` alone: with ``chunked(1)`` and "replay" bit by bit, as far as XLA
    compiles a query alike, else to rounding. The state knows nothing of devices: a run goes on with
    more or fewer of them.

    What is left over, if n does not divide K, asks at θ. So f(θ), if it is asked for, is a row like
    the others: n devices evaluate K + 1 rows, and it is free where n does not divide K. Families
    whose directions depend on each other (``orthogonal``) are drawn whole by each device.

    The other axes of the mesh are left alone: params may be split over them. Over this one they
    should be whole. Put params on the mesh (``jax.device_put`` with a ``NamedSharding``) before
    ``init``, or the second step is compiled anew. Auto axes are best: on Explicit ones JAX refuses
    frozen leaves and arrays that the objective closes over, if they are on the mesh, and JAX 0.10
    gathers params; on Auto ones it refuses some operations on such arrays, like indexing. Leave
    data off the mesh, where that happens: JAX brings it there. Inside a ``jax.shard_map`` of your
    own, let it map over this axis too, with ``check_vma=False``. Devices that a CPU is told to have
    share threads, and may hang where several steps are under way: there, call
    ``jax.block_until_ready`` after each step.

    Args:
      mesh: a ``jax.sharding.Mesh``.
      axis: the name of one of its axes, or a tuple of names.
      inner: how a device evaluates its own, ``vmapped()`` or ``chunked(size)``.
      reduce: "replay" or "psum": how estimates are made.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> mesh = jax.make_mesh((jax.device_count(),), ("queries",))
      >>> f = lambda x: jnp.sum(x ** 2)
      >>> options = {"num_directions": 16, "radius": 0.1}
      >>> spread = zo.query(f, jnp.ones(3), jax.random.key(0), **options,
      ...                   evaluate=zo.evaluators.sharded(mesh, "queries"))
      >>> alone = zo.query(f, jnp.ones(3), jax.random.key(0), **options)
      >>> bool(jnp.allclose(spread.values, alone.values))
      True
    """

    mesh: Mesh
    axis: str | tuple[str, ...]
    inner: Evaluator = vmapped()  # noqa: RUF009 - frozen
    reduce: Literal["replay", "psum"] = "replay"

    def __post_init__(self):
        if not isinstance(self.mesh, Mesh):
            raise TypeError(
                "mesh must be a jax.sharding.Mesh, such as "
                f'jax.make_mesh((jax.device_count(),), ("queries",)); got {self.mesh!r}.'
            )
        axes = (self.axis,) if isinstance(self.axis, str) else self.axis
        names = self.mesh.axis_names
        if not (isinstance(axes, tuple) and axes and len({*axes} & {*names}) == len(axes)):
            raise ValueError(
                f"axis must be the name of an axis of the mesh, which has {names}, or a tuple of "
                f"different names; got {self.axis!r}."
            )
        example = "zo.evaluators.vmapped(), chunked(size)"
        _checks.instance("inner", self.inner, Evaluator, example)
        if isinstance(self.inner, Sharded):
            raise ValueError(
                f"inner must be one of {example}; got {self.inner!r}. For several axes pass "
                "axis=(name, name)."
            )
        if self.reduce not in ("replay", "psum"):
            raise ValueError(f'reduce must be "replay" or "psum", got {self.reduce!r}.')
        object.__setattr__(self, "axis", axes)

    @property
    def spread(self):
        return self if self.reduce == "psum" else None

    def block_size(self, num_directions):
        # Of the whole round: what is replayed, and kept in states, does not depend on devices.
        return self.inner.block_size(num_directions)

    def traces(self, num_directions):
        return self.inner.traces(self._each(num_directions))

    def evaluate(self, fn, leaves, plan, layout, steps):
        return self._rows(fn, leaves, plan, layout, steps, plan.num_directions)

    def evaluate_with_origin(self, fn, leaves, plan, layout, steps):
        k = plan.num_directions
        rows = self._rows(fn, leaves, plan, layout, steps, k + 1)
        return rows[:k], rows[k, 0]

    def _each(self, num_rows: int) -> int:
        """How many rows a device has."""
        return -(-num_rows // self._num_devices)

    @property
    def _num_devices(self) -> int:
        return math.prod(self.mesh.shape[name] for name in self.axis)

    def _rows(self, fn, leaves, plan, layout, steps, num_rows):
        """Values of the first rows; those behind the last direction are at θ."""
        each = self._each(num_rows)

        def own(leaves, plan, steps):
            start = jax.lax.axis_index(self.axis) * each
            part = Part(plan.directions, start, plan.num_directions)
            # Only in here do types say how arrays are laid out over the other axes.
            here = dataclasses.replace(layout, shardings=tuple(map(explicit_sharding, leaves)))
            stored = None
            if plan.stored is not None or plan.directions.given:
                stored = here.tree(part.of(plan.rows(here), jnp.arange(each)))
            ours = dataclasses.replace(plan, directions=part, stored=stored, num_directions=each)

            def numbered(point, number):
                return fn(point, number + start * steps.shape[0])

            values = self.inner.evaluate(numbered, leaves, ours, here, steps)
            return jax.lax.all_gather(values, self.axis, tiled=True)

        return self._mapped(own, leaves)(leaves, plan, steps)[:num_rows]

    def sum(self, plan: Plan, coefficients: jax.Array, layout: Layout) -> Leaves:
        """Σ_k c_k u_k: each device adds up its own of every round, then all add up the sums."""
        k, rounds = plan.num_directions, plan.num_rounds or 1
        each = self._each(k)
        c = coefficients.reshape(rounds, k, *coefficients.shape[1:])
        missing = each * self._num_devices - k
        c = jnp.pad(c, [(0, 0), (0, missing), *((0, 0),) * (c.ndim - 2)])

        def own(plan, c):
            start = jax.lax.axis_index(self.axis) * each
            part = Part(plan.directions, start, k)
            ours = dataclasses.replace(plan, directions=part, num_directions=each, spread=None)
            mine = jax.lax.dynamic_slice_in_dim(c, start, each, 1)
            here = dataclasses.replace(layout, shardings=(None,) * layout.num_leaves)
            sums = ours.combine(mine.reshape(rounds * each, *c.shape[2:]), here)
            return jax.lax.psum(sums, self.axis)

        return self._mapped(own, [coefficients])(plan, c)

    def _mapped(self, own: Callable, arrays: Leaves) -> Callable:
        """A function that each device calls for its part; ``arrays`` are among what it gets."""
        if {*self.axis} <= {*jax.sharding.get_abstract_mesh().manual_axes}:
            return own
        # Compiled even outside jit: JAX 0.10 runs no map over some axes of a mesh otherwise. No
        # checks of what varies, which would ask for casts in loops of the objective.
        mapped = jax.shard_map(
            own,
            mesh=self._mesh(arrays),
            in_specs=PartitionSpec(),
            out_specs=PartitionSpec(),
            axis_names={*self.axis},
            check_vma=False,
        )
        return jax.jit(mapped)

    def _mesh(self, leaves: Leaves) -> Any:
        """The mesh of the context, as JAX demands, where there is one; else this one.

        Its axes are Auto if params do not have Explicit ones in their types: else values would have
        them in theirs, and a loop over steps refuses what it carries.
        """
        context = jax.sharding.get_abstract_mesh()
        if not context.empty:
            return context
        meshes = [jax.typeof(x).sharding.mesh for x in leaves]
        if not all(mesh.empty or mesh.are_all_axes_auto for mesh in meshes):
            return self.mesh
        names = self.mesh.axis_names
        return Mesh(self.mesh.devices, names, axis_types=(AxisType.Auto,) * len(names))


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Part(Wrapper):
    """The directions of a round from one on; zeros behind the last.

    Args:
      directions: the family.
      start: the number of the first one.
      whole: how many the round has.
    """

    directions: Directions
    start: jax.Array
    whole: int = dataclasses.field(metadata={"static": True})

    def draw(self, key, layout, num_directions, indices):
        places = self._places(indices)
        return self._kept(self.directions.draw(key, layout, self.whole, places), indices)

    def of(self, rows: list[Any], indices: jax.Array) -> list[Any]:
        """Those of a round's rows that are at these places of the part."""
        taken = jax.tree.map(lambda u: u[self._places(indices)], rows)
        return self._kept(taken, indices)

    def _places(self, indices):
        return jnp.minimum(self.start + indices, self.whole - 1)

    def _kept(self, rows, indices):
        there = self.start + indices < self.whole

        def kept(u):
            return jnp.where(there.reshape(-1, *(1,) * (u.ndim - 1)), u, 0)

        return jax.tree.map(kept, rows)


sharded = Sharded

__all__ = ["Sharded", "sharded"]
