"""What to perturb along: families of random directions with E[u uᵀ] = I.

A family turns (key, layout, indices) into direction arrays, leaf by leaf, so that any direction
can be replayed later from its key alone. An entry of direction k depends on ``fold_in(key, k)``,
the number of its leaf and its place there, and on nothing else; only ``hadamard`` reads its place
in an epoch from the key instead. `Directions` says how to write a family of your own.

Which family?

- ``gaussian``: the default, and the law behind all the Hessian estimators.
- ``sphere``, ``orthogonal``: constant norm, so less variance in gradients. Averages for Hessians
  have other constants: where ‖u‖² = d, with w = (F⁺ + F⁻ − 2 f0)/(2μ²), E[w (u uᵀ − I)] is
  d/(d+2)·(H − tr(H)/d·I). `zo.estimators.hessian` corrects that when f0 is known, else it raises.
- ``rademacher``: random signs, the cheapest to draw (a hashed bit each). For gradients only, as
  u_i² = 1 hides the Hessian's diagonal.
- ``hadamard``: signs at the same price, orthogonal in a round and drawn without replacement over
  an optimiser's rounds: the best for gradients and for traces.
- ``low_rank``, and ``hadamard(factored=True)``: matrices along outer products, for networks: their
  perturbed weights are not formed, except where `zo.explain` says so. The first one does not do
  for averaged Hessians, nor for optimisers without a learning rate.
- ``explicit``: directions of your own.
- ``masked``: any family, on some of the leaves only.
- ``scaled``: any family, times a number s_i for each parameter. E[u uᵀ] is diag(s²), not I, so a
  gradient comes out multiplied by s²; no Hessians.
"""

from zovh_jax._factors import Factors
from zovh_jax._tree import Layout
from zovh_jax.directions.families import (
    Directions,
    Explicit,
    Gaussian,
    Orthogonal,
    Rademacher,
    Sphere,
)
from zovh_jax.directions.hadamard import Hadamard
from zovh_jax.directions.low_rank import LowRank
from zovh_jax.directions.wrappers import Masked, Scaled, Wrapper

gaussian = Gaussian
sphere = Sphere
rademacher = Rademacher
orthogonal = Orthogonal
hadamard = Hadamard
low_rank = LowRank
explicit = Explicit
masked = Masked
scaled = Scaled

__all__ = [
    "Directions",
    "Factors",
    "Layout",
    "Wrapper",
    "explicit",
    "gaussian",
    "hadamard",
    "low_rank",
    "masked",
    "orthogonal",
    "rademacher",
    "scaled",
    "sphere",
]
