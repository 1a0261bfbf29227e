"""A Hessian from the last few steps and the changes of the gradient along them (L-BFGS).

The model of the Hessian H is γP, where γ is a scalar and P is I until something is known. A pair is
a step s and y = ∇f(θ + s) − ∇f(θ), about Hs. P follows from the last m pairs, the oldest first, by
the formula of Broyden, Fletcher, Goldfarb and Shanno (Nocedal and Wright 2006, eq. 6.17; γ is their
eq. 7.20, yᵀy/sᵀy of the last pair). Old pairs go, so that the model follows a valley that turns.

P is I except in the span of the pairs, where it is a matrix of order 2m. Its eigenvalues p_j and
eigenvectors give every power, P^a = I + Σ_j (p_j^a − 1) v_j v_jᵀ: P^{-1/2} for directions that are
isotropic in the metric of P, and P^{-1} for the step. The v_j are not stored: v_j = Σ_i T_ji w_i,
where the w_i are the pairs.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _random
from zovh_jax._factors import dense
from zovh_jax._products import matmul
from zovh_jax._tree import Layout, scalar_dtype
from zovh_jax._types import Leaves
from zovh_jax.directions import Directions, Wrapper
from zovh_jax.transforms.newton.spikes import dots, mix, one_row

BENT = 1e-8
"""The least cosine between s and y of a pair that is kept."""
TURN = 2**31
"""What these rounds' keys are folded with, which no epoch's number reaches."""


class Secants(NamedTuple):
    """The model.

    Attributes:
      rows: m steps, and then the m changes of the gradient, the newest last: a tree like params
        with a leading axis [2m], None where frozen; zeros where there is no pair yet.
      mixing: T, [2m, 2m].
      stretches: p, [2m]; ones where nothing is known.
      scale: γ.
      num_pairs: how many there are.
    """

    rows: Any
    mixing: jax.Array
    stretches: jax.Array
    scale: jax.Array
    num_pairs: jax.Array

    @classmethod
    def init(cls, num_pairs: int, layout: Layout) -> "Secants":
        """The model before the first pair: P = I, γ = 0."""
        n, dtype = 2 * num_pairs, scalar_dtype()
        rows = layout.tree(layout.filled(rows=(n,)))
        none = jnp.zeros((), jnp.int32)
        return cls(rows, jnp.zeros((n, n), dtype), jnp.ones(n, dtype), jnp.zeros((), dtype), none)

    def forgotten(self) -> "Secants":
        """The model without its pairs; γ is kept."""
        return self._replace(
            stretches=jnp.ones_like(self.stretches), num_pairs=jnp.zeros_like(self.num_pairs)
        )

    def power(self, exponent: float, rows: Leaves) -> Leaves:
        """P^exponent times each of the rows, [n, *leaf]."""
        pairs = jax.tree.leaves(self.rows)
        along = matmul(dots(rows, pairs), self.mixing.T)
        along = matmul(along * (self.stretches**exponent - 1)[None], self.mixing)
        return [x + c.astype(x.dtype) for x, c in zip(rows, mix(along, pairs), strict=True)]

    def times(self, exponent: float, x: Leaves) -> Leaves:
        """P^exponent x."""
        return [rows[0] for rows in self.power(exponent, one_row(x))]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class Turned(Wrapper):
    """u = P^{-1/2} z, and rounds that are counted by their own number.

    Args:
      directions: the family of z.
      secants: the model.
      count: the number of the round, whatever the optimiser has counted.
      side: 1, or −1 for −u.
    """

    directions: Directions
    secants: Secants
    count: jax.Array
    side: jax.Array

    def draw(self, key, layout, num_directions, indices):
        drawn = dense(self.directions.draw(key, layout, num_directions, indices))
        return [self.side.astype(u.dtype) * u for u in self.secants.power(-0.5, drawn)]

    def round_key(self, key, count, layout, num_directions):
        key = _random.fold_in(key, jnp.uint32(TURN))
        return self.directions.round_key(key, self.count, layout, num_directions)


def learned(secants: Secants, step: Leaves, change: Leaves) -> Secants:
    """The model with one more pair.

    Where the curvature along the step is not positive the pair is dropped, and γ is halved, so that
    the next steps are longer. Where anything is not finite the model stays.

    Args:
      secants: the model.
      step: s.
      change: y.
    """
    rows = [
        jnp.concatenate([old[1:m], s[None], old[m + 1 :], y[None]])
        for old, s, y in zip(jax.tree.leaves(secants.rows), step, change, strict=True)
        for m in [old.shape[0] // 2]
    ]
    m = secants.stretches.shape[0] // 2
    gram = dots(rows, rows)
    slope, square = gram[m - 1, -1], gram[-1, -1]
    finite = jnp.isfinite(slope) & jnp.isfinite(square)
    bent = finite & (slope > BENT * jnp.sqrt(gram[m - 1, m - 1] * square)) & (square > 0)
    scale = square / jnp.where(bent, slope, 1)
    num_pairs = jnp.minimum(secants.num_pairs + 1, m)
    mixing, stretches = _model(gram, scale, num_pairs)
    good = bent & jnp.all(jnp.isfinite(mixing)) & jnp.all(jnp.isfinite(stretches))
    new = Secants(
        jax.tree.unflatten(jax.tree.structure(secants.rows), rows),
        mixing,
        stretches,
        scale,
        num_pairs,
    )
    old = secants._replace(scale=jnp.where(finite & ~bent, secants.scale / 2, secants.scale))
    return jax.tree.map(lambda x, y: jnp.where(good, x, y), new, old)


def _model(gram: jax.Array, scale: jax.Array, num_pairs: jax.Array) -> tuple[jax.Array, jax.Array]:
    """T and p, from the inner products of all rows and γ."""
    n = gram.shape[0]
    m = n // 2
    known = jnp.tile(jnp.arange(m) >= m - num_pairs, 2)
    lengths = jnp.sqrt(jnp.where(known, jnp.diagonal(gram), 1))
    unit = jnp.where(known[:, None] & known[None], gram / lengths[:, None] / lengths[None], 0)
    values, basis = jnp.linalg.eigh(unit)
    kept = values > jnp.sqrt(jnp.finfo(gram.dtype).eps) * values[-1]
    root = jnp.sqrt(jnp.where(kept, values, 1))
    places = basis * jnp.where(kept, root, 0)[None]  # the rows in an orthonormal basis
    steps = places[:m]
    changes = places[m:] * (lengths[m:] / (scale * lengths[:m]))[:, None]

    def updated(i, inverse):
        s, y = steps[i], changes[i]
        slope = jnp.sum(s * y)
        positive = known[i] & (slope > 0)
        turn = jnp.eye(n) - s[:, None] * y[None] / jnp.where(positive, slope, 1)
        new = matmul(matmul(turn, inverse), turn.T)
        new += s[:, None] * s[None] / jnp.where(positive, slope, 1)
        return jnp.where(positive, new, inverse)

    inverse = jax.lax.fori_loop(0, m, updated, jnp.eye(n, dtype=gram.dtype))
    inverses, vectors = jnp.linalg.eigh((inverse + inverse.T) / 2)
    inverses = jnp.maximum(inverses, jnp.finfo(gram.dtype).eps * inverses[-1])
    mixing = matmul(vectors.T, (basis * jnp.where(kept, 1 / root, 0)[None]).T)
    return jnp.where(known, mixing / lengths[None], 0), 1 / inverses


__all__ = ["Secants", "Turned", "learned"]
