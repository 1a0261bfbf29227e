"""The least change of a prior that explains curvatures along random directions."""

import dataclasses
from typing import Literal

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._products import tensordot
from zovh_jax._rows import gram_of, mixed, squared_norms
from zovh_jax._tree import Layout, scalar_dtype, total
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions, gaussian
from zovh_jax.estimators import interpolated_hessian
from zovh_jax.estimators.least_change import Ridge
from zovh_jax.operators import LowRankPlusScaled
from zovh_jax.solvers.spectrum import Spectrum
from zovh_jax.structures.structure import Spectral, Structure, along


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Modes(Spectral):
    """A few eigenvectors; all that lies across them shares one eigenvalue, the last one.

    Attributes:
      modes: orthonormal directions, a list of arrays [m − 1, *shape], one for each perturbed leaf;
        zeros where a value was missing.
    """

    eigenvalues: jax.Array
    counts: jax.Array
    measured: jax.Array
    modes: Leaves
    layout: Layout = dataclasses.field(metadata={"static": True})

    @property
    def _across(self) -> jax.Array:
        """The eigenvalue across the modes; 0 where they leave nothing, as it would only round."""
        complete = (self.counts[-1] == 0) & jnp.all(self.measured[:-1])
        return jnp.where(complete, 0, self.eigenvalues[-1])

    def apply(self, vectors):
        across = self._across
        pairs = list(zip(vectors, self.modes, strict=True))
        dots = total([gram_of(z, u) for z, u in pairs]) * (self.eigenvalues[:-1] - across)
        return [across.astype(z.dtype) * z + mixed(dots, u).astype(z.dtype) for z, u in pairs]

    def diagonal(self):
        def of(u):
            along_modes = tensordot(self.eigenvalues[:-1].astype(u.dtype), u**2, 1)
            rest = jnp.maximum(1 - jnp.sum(u**2, 0), 0)
            return along_modes + self._across.astype(u.dtype) * rest

        return self._tree([of(u) for u in self.modes])


@dataclasses.dataclass(frozen=True)
class Interpolated(Structure):
    """The Hessian that differs least from its prior and explains the curvatures along K directions.

    It is exact for a quadratic from K = d(d + 1)/2 on, in float32 from about a fifth more. With
    fewer, it has the data's curvature along what the directions show, and an average across them.
    Memory: 2K copies of the parameters and a K×K matrix. O(K²d + K³) time.

    Args:
      num_directions: K.
      prior: what is assumed of curvature that no direction shows: "trace", the average of what was
        measured, so that the trace is right; None, nothing.
      ridge: for noisy values; see `zo.estimators.interpolated_hessian`.
      directions: the family to ask along; with ``low_rank()`` no query forms a perturbed matrix.
    """

    num_directions: int
    prior: Literal["trace"] | None = "trace"
    ridge: Ridge = 0.0
    directions: Directions = dataclasses.field(default_factory=gaussian)

    def __post_init__(self):
        _checks.positive_int("num_directions", self.num_directions)

    def family(self):
        return self.directions

    def num_pairs(self, layout):
        return self.num_directions

    def curvature(self, queries, params):
        found = interpolated_hessian(queries, params, prior=self.prior, ridge=self.ridge)
        assert isinstance(found, LowRankPlusScaled)
        layout, valid = found.layout, queries.valid
        rows = [jnp.where(along(valid, u), u, 0) for u in found.plan.materialise(layout)]
        plan = dataclasses.replace(found.plan, stored=layout.tree(rows))
        found = dataclasses.replace(found, plan=plan)
        spectrum = Spectrum.of(found, jnp.zeros((), scalar_dtype()))
        modes = [mixed(spectrum.modes.T, u) for u in spectrum.rows]
        some = total([squared_norms(u) for u in modes]) > 0.5  # the others are zeros
        eigenvalues = jnp.append(spectrum.values, spectrum.base)
        return Modes(
            jnp.maximum(eigenvalues, 0),
            jnp.append(jnp.ones_like(spectrum.values), spectrum.num_others),
            jnp.append(some, False),
            modes,
            layout,
        )


__all__ = ["Interpolated", "Modes"]
