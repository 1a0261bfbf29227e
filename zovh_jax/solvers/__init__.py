"""Solvers for (H + λI)⁻¹ v.

- ``woodbury()``: exact for `LowRankPlusScaled`, and for sums and multiples of them; one n×n solve.
  The default; holds n directions in memory.
- ``gram_diagonal(guard=True)``: the ZoVH paper's, O(n d) along replayed directions; approximate.
- ``cg(max_steps, tol)``: products only; any `zo.Operator`, any matvec.
- ``neumann(num_terms=…, step_size=None)``: products only; any `zo.Operator` or matvec with
  H + λI ≻ 0; unbiased with random truncation.
"""

from zovh_jax.solvers.cg import cg
from zovh_jax.solvers.gram_diagonal import gram_diagonal
from zovh_jax.solvers.inverse import InverseOperator, inverse, solve
from zovh_jax.solvers.neumann import neumann, neumann_solve
from zovh_jax.solvers.solver import DirectSolver, SolveInfo, Solver
from zovh_jax.solvers.woodbury import woodbury

__all__ = [
    "DirectSolver",
    "InverseOperator",
    "SolveInfo",
    "Solver",
    "cg",
    "gram_diagonal",
    "inverse",
    "neumann",
    "neumann_solve",
    "solve",
    "woodbury",
]
