"""Which parameters belong in one group: a bounded memory of estimated couplings."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._tree import scalar_dtype


class Couplings(NamedTuple):
    """The strongest couplings met so far, strongest first.

    Attributes:
      pairs: [P, 2] coordinates, the smaller one first.
      strengths: [P], |H_ab|/√(|H_aa||H_bb|); 0 where empty.
    """

    pairs: jax.Array
    strengths: jax.Array


def no_couplings(size: int) -> Couplings:
    """An empty memory for ``size`` pairs."""
    return Couplings(jnp.full((size, 2), -1, jnp.int32), jnp.zeros(size, scalar_dtype()))


def remember(
    couplings: Couplings, groups: jax.Array, hessians: jax.Array, floor: jax.Array
) -> Couplings:
    """The strongest of the old couplings and those in ``groups``; a new value replaces an old one.

    ``floor`` is the least |H_aa|, above zero, that is divided by. A group of −1, whose Hessian must
    be zero, is left out.
    """
    first, second = np.triu_indices(groups.shape[1], 1)
    pairs = jnp.stack([groups[:, first], groups[:, second]], -1)
    pairs = jnp.sort(pairs.reshape(-1, 2), -1)
    scale = jnp.maximum(jnp.abs(jnp.diagonal(hessians, axis1=1, axis2=2)), floor)
    strengths = jnp.abs(hessians[:, first, second])
    strengths = strengths / jnp.sqrt(scale[:, first] * scale[:, second])
    seen_again = jnp.any(jnp.all(couplings.pairs[:, None] == pairs[None], -1), -1)
    old = jnp.where(seen_again, 0, couplings.strengths)
    pairs = jnp.concatenate([couplings.pairs, pairs])
    strengths, best = jax.lax.top_k(jnp.concatenate([old, strengths.reshape(-1)]), len(old))
    return Couplings(pairs[best], strengths)


def couple(key: jax.Array, groups: jax.Array, couplings: Couplings) -> jax.Array:
    """Groups in which coupled coordinates are together: a sampled greedy matching.

    The remembered pairs get their turns strongest first, each with its strength as probability,
    so that weaker ones get their chance. A pair is put into one group if one of its coordinates
    was drawn and there is room. Its partner replaces a coordinate that no pair has claimed yet,
    or, if the partner was drawn too, changes places with it. Groups stay disjoint.
    """
    tries = jax.random.uniform(key, couplings.strengths.shape, couplings.strengths.dtype)
    has_turn = tries < couplings.strengths

    def turn(p, places):
        changed, possible = _put_together(places, couplings.pairs[p], groups.shape[1])
        use = possible & has_turn[p]
        return jax.tree.map(lambda new, old: jnp.where(use, new, old), changed, places)

    places = _Places(groups.reshape(-1), jnp.zeros(groups.size, bool))
    places = jax.lax.fori_loop(0, len(has_turn), turn, places)
    return places.coordinates.reshape(groups.shape)


class _Places(NamedTuple):
    """The coordinates of all groups, one group after the other.

    Attributes:
      coordinates: [J·q].
      claimed: [J·q], which of them are there because of a pair.
    """

    coordinates: jax.Array
    claimed: jax.Array

    def of(self, coordinate: jax.Array) -> jax.Array:
        """[J·q], True where the coordinate is."""
        return self.coordinates == coordinate

    def claims(self, coordinate: jax.Array) -> jax.Array:
        """Whether the coordinate is there because of a pair."""
        return jnp.any(self.of(coordinate) & self.claimed)


def _put_together(places: _Places, pair: jax.Array, dimension: int) -> tuple[_Places, jax.Array]:
    """Places with the pair in one group, and whether there is room; if not, they mean nothing."""
    first, second = pair
    second_stays = places.claims(second) | ~jnp.any(places.of(first))
    stays = jnp.where(second_stays, second, first)
    comes = jnp.where(second_stays, first, second)

    positions = jnp.arange(places.coordinates.size)
    at, source = jnp.argmax(places.of(stays)), jnp.argmax(places.of(comes))
    comes_is_drawn = jnp.any(places.of(comes))
    already_together = comes_is_drawn & (source // dimension == at // dimension)
    in_group = positions // dimension == at // dimension
    room = in_group & ~places.claimed & (positions != at)
    to = jnp.where(already_together, source, jnp.argmax(room))
    can_come = already_together | (jnp.any(room) & ~places.claims(comes))

    old = places.coordinates
    swapped = jnp.where(comes_is_drawn, old.at[source].set(old[to]), old)
    claimed = places.claimed | (positions == at) | (positions == to)
    changed = _Places(swapped.at[to].set(comes), claimed)
    return changed, jnp.any(places.of(stays)) & can_come
