"""Probes: products of the Hessian with random vectors, from values, an epoch of rounds each.

A probe v is measured by a second round beside each of an epoch's rounds, which looks along the same
directions u_k from θ + μ'v:

    u_kᵀHv = [f(θ + μu_k + μ'v) − f(θ + μ'v) − f(θ + μu_k) + f(θ)]/(μμ'),   μ' = μ √(d/K).

The directions of an epoch are complete, and so all of Hv is known at its end. The module `spikes`
has what is learnt from it. A probe doubles the price of its epoch: it is made only where it pays.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._factors import dense
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators.weights import usable
from zovh_jax.evaluators.evaluator import perturbed
from zovh_jax.evaluators.query import query
from zovh_jax.queries import Queries
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, saturating_add
from zovh_jax.transforms.newton.outliers import Usual
from zovh_jax.transforms.newton.spikes import Spikes, Whitened, learned, one_row

EAGERNESS = 4
"""A probe that takes a share g of the trace away is followed by another after d/(4g) queries."""
PROBES = 2**31
"""Where the keys of the probes branch off: rounds count below it."""


class Probe(NamedTuple):
    """A product of the Hessian in the making.

    Attributes:
      direction: v, a tree like params, vᵀPv = d.
      residual: what is known so far of P⁻¹(H − sP)v, a tree like params.
      active: whether this epoch's rounds measure it.
      gain: the share of the trace that the last probe took away; infinite before the first.
      ended: queries spent when the last probe ended.
    """

    direction: Any
    residual: Any
    active: jax.Array
    gain: jax.Array
    ended: jax.Array


@dataclasses.dataclass(frozen=True)
class ProbeRules:
    """When probes are made, and how.

    Attributes:
      layout: of the parameters.
      rounds: the settings of a round; its directions are those of z.
    """

    layout: Layout
    rounds: Rounds

    @property
    def order(self) -> int:
        """D, the number of directions of an epoch."""
        return order_of(self.layout.size)

    def place(self, count: jax.Array) -> jax.Array:
        """The place of a round in its epoch, from 0."""
        return count % -(-self.order // self.rounds.num_directions)

    def init(self, key: jax.Array) -> Probe:
        """The first probe, not active yet."""
        return Probe(
            self.layout.tree(self._random(jax.random.fold_in(key, PROBES))),
            self.layout.tree(self.layout.zeros()),
            jnp.zeros((), bool),
            jnp.array(jnp.inf, scalar_dtype()),
            jnp.zeros((), jnp.int32),
        )

    def finish(
        self, probe: Probe, spikes: Spikes, trace: jax.Array, counts: ZerothOrderState
    ) -> tuple[Spikes, Probe]:
        """The model after an epoch's probe, and the next probe."""
        v, residual = (jax.tree.leaves(tree) for tree in (probe.direction, probe.residual))
        spikes, gain = learned(spikes, v, residual, trace, self.layout.size)
        key = jax.random.fold_in(jax.random.fold_in(counts.key, PROBES), counts.round)
        direction = [x[0] for x in spikes.power(-0.5, one_row(self._random(key)))]
        return spikes, probe._replace(
            direction=self.layout.tree(direction),
            residual=self.layout.tree(self.layout.zeros()),
            gain=gain,
            ended=counts.num_queries,
        )

    def scheduled(self, probe: Probe, counts: ZerothOrderState, noisy: jax.Array) -> Probe:
        """The probe, made active or not where an epoch begins; never under noise."""
        d = self.layout.size
        since = (counts.num_queries - probe.ended).astype(probe.gain.dtype)
        pays = EAGERNESS * probe.gain * jnp.maximum(since, d) >= d
        active = jnp.where(self.place(counts.round) == 0, pays, probe.active)
        return probe._replace(active=active & ~noisy)

    def measured(
        self,
        probe: Probe,
        spikes: Spikes,
        here: Queries,
        usual: Usual,
        counts: ZerothOrderState,
        value_fn: ValueFn,
        params: PyTree,
    ) -> tuple[Probe, jax.Array, jax.Array]:
        """The probe after one more round; the queries that it took, and how many were not finite.

        Args:
          probe: as it was.
          spikes: the model.
          here: this round's queries around θ.
          usual: what is known about the size of differences.
          counts: as they were before this round.
          value_fn: the objective, traced before.
          params: θ.
        """
        k = self.rounds.num_directions
        far = here.radius * math.sqrt(self.layout.size / k)
        there = self._moved_round(probe, spikes, here, far, counts, value_fn, params)
        spent = jnp.asarray(there.values.size + 1, jnp.int32)
        num_nonfinite = there.num_nonfinite
        assert here.origin is not None
        # Outliers among them are charged as other values, and count for nothing.
        there = usual.believed(there, here.origin, self.layout.size)
        # The last round of an epoch may end with the epoch's first directions once more.
        wanted = self.place(counts.round) * k + jnp.arange(k) < self.order
        errors = mixed_slopes(here, there, far) - spikes.scale * self._products(here, spikes, probe)
        for queries in (here, there):
            wanted &= usable(queries, needs_origin=True)
        wanted &= jnp.isfinite(errors)
        more = here.plan.combine(jnp.where(wanted, errors, 0) / self.order, self.layout)
        residual = [r + x for r, x in zip(jax.tree.leaves(probe.residual), more, strict=True)]
        return probe._replace(residual=self.layout.tree(residual)), spent, num_nonfinite

    def _moved_round(
        self,
        probe: Probe,
        spikes: Spikes,
        here: Queries,
        far: jax.Array,
        counts: ZerothOrderState,
        value_fn: ValueFn,
        params: PyTree,
    ) -> Queries:
        """This round's directions, asked from θ + far·v."""
        k, layout, directions = self.rounds.num_directions, self.layout, self.rounds.directions
        v = layout.leaves(probe.direction, "direction")
        moved = perturbed(layout.leaves(params, "params"), far, v)
        return query(
            value_fn,
            layout.merge(moved, params, lambda frozen: frozen),
            directions.round_key(counts.key, counts.round, layout, k),
            num_directions=k,
            radius=here.radius,
            directions=Whitened(directions, spikes),
            stencil=self.rounds.stencil,
            evaluate=self.rounds.evaluate,
            origin=True,
        )

    def _products(self, queries: Queries, spikes: Spikes, probe: Probe) -> jax.Array:
        """u_kᵀPv, [K]."""
        image = spikes.power(1.0, one_row(jax.tree.leaves(probe.direction)))
        return jnp.sum(queries.plan.inner([x[0] for x in image], self.layout)[0], -1)

    def _random(self, key: jax.Array) -> Leaves:
        """One direction z."""
        if not self.layout.num_leaves:  # optax calls init with an empty tree
            return []
        drawn = dense(self.rounds.directions.draw(key, self.layout, 1, jnp.arange(1)))
        return [z[0] for z in drawn]


def mixed_slopes(here: Queries, there: Queries, far: jax.Array) -> jax.Array:
    """u_kᵀHv from the slopes around θ and around θ + far·v, [K]."""
    assert here.origins is not None and there.origins is not None
    if here.stencil.paired:
        change = there.odd - here.odd
    else:
        change = (there.odd - there.origins) - (here.odd - here.origins)
    return change / (here.radii * far)


def charged(counts: ZerothOrderState, spent: jax.Array, bad: jax.Array) -> ZerothOrderState:
    """The counts with more queries in them, and those among them that were not finite."""
    return counts._replace(
        num_queries=saturating_add(counts.num_queries, spent),
        num_nonfinite=saturating_add(counts.num_nonfinite, bad),
    )


__all__ = ["Probe", "ProbeRules", "charged", "mixed_slopes"]
