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
    return Couplings(jnp.full((size, 2), -1, jnp.int32), jnp.zeros(size, scalar_dtype()))


def remember(
    couplings: Couplings, groups: jax.Array, hessians: jax.Array, floor: jax.Array
) -> Couplings:
    """The strongest of the old couplings and those in ``groups``, which replace their old ones."""
    i, j = np.triu_indices(groups.shape[1], 1)
    pairs = jnp.sort(jnp.stack([groups[:, i], groups[:, j]], -1).reshape(-1, 2), -1)
    scale = jnp.maximum(jnp.abs(jnp.diagonal(hessians, axis1=1, axis2=2)), floor)
    strengths = jnp.abs(hessians[:, i, j]) / jnp.sqrt(scale[:, i] * scale[:, j])
    seen_again = jnp.any(jnp.all(couplings.pairs[:, None] == pairs[None], -1), -1)
    old = jnp.where(seen_again, 0, couplings.strengths)
    pairs = jnp.concatenate([couplings.pairs, pairs])
    strengths, best = jax.lax.top_k(jnp.concatenate([old, strengths.reshape(-1)]), len(old))
    return Couplings(pairs[best], strengths)


def couple(key: jax.Array, groups: jax.Array, couplings: Couplings) -> jax.Array:
    """Groups in which coupled coordinates are together: a sampled greedy matching.

    Strongest first, and each with its strength as probability (so that others get their chance),
    a remembered pair is put into one group if a coordinate of it has been drawn and there is
    room: the partner comes in for a coordinate that nothing has claimed yet, or changes places
    with it if it was drawn too. Groups stay disjoint.
    """
    dimension = groups.shape[1]
    positions = jnp.arange(groups.size)
    tries = jax.random.uniform(key, couplings.strengths.shape, couplings.strengths.dtype)

    def place(p, carry):
        flat, fixed = carry
        a, b = couplings.pairs[p]
        is_fixed = lambda c: jnp.any((flat == c) & fixed)  # noqa: E731
        swap = is_fixed(b) | ~jnp.any(flat == a)
        stays, comes = jnp.where(swap, b, a), jnp.where(swap, a, b)
        at, origin = jnp.argmax(flat == stays), jnp.argmax(flat == comes)
        drawn = jnp.any(flat == comes)
        same_group = positions // dimension == at // dimension
        free = same_group & ~fixed & (positions != at)
        together = drawn & (origin // dimension == at // dimension)
        to = jnp.where(together, origin, jnp.argmax(free))
        ok = jnp.any(flat == stays) & (tries[p] < couplings.strengths[p])
        ok = ok & (together | (jnp.any(free) & ~is_fixed(comes)))
        moved = jnp.where(drawn, flat.at[origin].set(flat[to]), flat).at[to].set(comes)
        return (
            jnp.where(ok, moved, flat),
            fixed | (ok & ((positions == at) | (positions == to))),
        )

    carry = groups.reshape(-1), jnp.zeros(groups.size, bool)
    flat, _ = jax.lax.fori_loop(0, len(couplings.strengths), place, carry)
    return flat.reshape(groups.shape)
