"""Shapes of a Hessian that values can afford: where each asks, and what it makes of the answers.

| structure | pairs of queries | what it can show |
|---|---|---|
| ``interpolated(K)`` | K | any Hessian, from K = d(d + 1)/2 on; with fewer, little more than tr/d |
| ``diagonal()`` | d, or fewer | the diagonal |
| ``full()`` | d(d + 1)/2 | any Hessian |
| ``kronecker(K)`` | K | A ⊗ B of each layer, from a few times as many pairs as it has unknowns |

``full`` asks along coordinates and needs no system of equations: memory d², time d³.
``interpolated`` asks along random directions, and takes memory K² and time K³. `zo.laplace` makes
posteriors of them.
"""

from zovh_jax.structures.coordinates import Diagonal, Full
from zovh_jax.structures.interpolated import Interpolated
from zovh_jax.structures.kronecker import Kronecker
from zovh_jax.structures.structure import Structure

interpolated = Interpolated
diagonal = Diagonal
full = Full
kronecker = Kronecker

__all__ = ["Structure", "diagonal", "full", "interpolated", "kronecker"]
