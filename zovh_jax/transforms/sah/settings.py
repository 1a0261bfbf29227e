"""The arguments of `zo_sah_direction`: checked once, and read at each step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import Schedule
from zovh_jax.transforms._rounds import scheduled
from zovh_jax.transforms.sah.couplings import Couplings, couple
from zovh_jax.transforms.sah.groups import curvature_points, forward_points, random_groups

WIDER = 10
"""By default the curvature radius is at most this many times the radius."""

SMALL_RIDGE = 1e-6
"""The largest ridge towards a prior of zero."""


class Now(NamedTuple):
    """The settings at one step.

    Attributes:
      switches: whether the step draws new subspaces.
      radius: μ of all queries of the step.
      clip, ridge: the scheduled numbers.
      small_ridge: the ridge for fits whose prior is zero.
    """

    switches: jax.Array
    radius: jax.Array
    clip: jax.Array
    ridge: jax.Array
    small_ridge: jax.Array


@dataclasses.dataclass(frozen=True)
class Settings:
    """The arguments of `zo_sah_direction` that `Rounds` does not know, and the radius."""

    num_subspaces: int
    dimension: int
    radius: Schedule
    curvature_radius: Schedule | None
    switch_every: int
    clip: Schedule
    ridge: Schedule
    ridge_towards: str
    isotropy_tolerance: Schedule | None
    num_probes: int
    pairing: str

    def __post_init__(self):
        _checks.positive_int("num_subspaces", self.num_subspaces)
        _checks.positive_int("switch_every", self.switch_every)
        _checks.positive_int("subspace_dimension", self.dimension)
        _checks.positive_int("num_probes", self.num_probes)
        _checks.positive("radius", self.radius, schedule=True)
        _checks.positive("clip", self.clip, schedule=True)
        _checks.positive("ridge", self.ridge, schedule=True)
        for name in ("curvature_radius", "isotropy_tolerance"):
            if getattr(self, name) is not None:
                _checks.positive(name, getattr(self, name), schedule=True)
        for name, allowed in (
            ("ridge_towards", ("previous", "zero")),
            ("pairing", ("random", "coupled")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, got {getattr(self, name)!r}.")

    @property
    def num_coordinates(self) -> int:
        """J·q, how many parameters move."""
        return self.num_subspaces * self.dimension

    @property
    def points(self) -> np.ndarray:
        """The points queried in each subspace when a step switches; else only the first q are."""
        return np.concatenate([forward_points(self.dimension), curvature_points(self.dimension)])

    @property
    def tests_isotropy(self) -> bool:
        """Whether a switch may find that curvature is the same everywhere."""
        return self.isotropy_tolerance is not None

    @property
    def pairs(self) -> bool:
        """Whether coupled parameters are put into one subspace."""
        return self.pairing == "coupled"

    def at(self, count: jax.Array, precision: float, known: jax.Array) -> Now:
        """The settings at a step.

        Args:
          count: steps before this one.
          precision: as `precision_of` gives it.
          known: [J], which of the present subspaces have curvature; if fewer than half do, new ones
            are due.
        """
        switches = (count % self.switch_every == 0) | (2 * jnp.sum(known) < known.size)
        radius = scheduled(self.radius, count)
        if self.curvature_radius is None:
            wider = jnp.maximum(radius, jnp.minimum(WIDER * radius, precision**0.25 / 2))
        else:
            wider = scheduled(self.curvature_radius, count)
        ridge = scheduled(self.ridge, count)
        return Now(
            switches,
            jnp.where(switches, wider, radius),
            scheduled(self.clip, count),
            ridge,
            jnp.minimum(ridge, SMALL_RIDGE),
        )

    def check(self, layout: Layout) -> None:
        """Raises where the subspaces need more parameters than there are."""
        j, q = self.num_subspaces, self.dimension
        if 0 < layout.size < j * q:  # optax looks at init with an empty tree
            raise ValueError(
                f"num_subspaces={j} disjoint subspaces of subspace_dimension={q} need {j * q} "
                f"parameters, and params has {layout.size}: lower either."
            )

    def subspaces(
        self, now: Now, key: jax.Array, size: int, present: jax.Array, couplings: Couplings | tuple
    ) -> jax.Array:
        """[J, q] coordinates of ``size``: the present ones, or new ones where the step switches."""

        def draw():
            draw_key, couple_key = jax.random.split(key)
            groups = random_groups(draw_key, size, self.num_subspaces, self.dimension)
            return couple(couple_key, groups, couplings) if self.pairs else groups

        return jax.lax.cond(now.switches, draw, lambda: present)


def precision_of(layout: Layout) -> float:
    """The relative rounding error of values: ε of the coarsest of the parameters' dtypes."""
    return max(float(jnp.finfo(dtype).eps) for dtype in (*layout.dtypes, scalar_dtype()))
