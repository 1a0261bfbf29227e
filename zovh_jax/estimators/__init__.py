"""Estimators: pure functions from `Queries` to gradients, Hessians and Newton directions.

- ``gradient``: first order; the place to start.
- ``hessian``: an operator, for its products, trace, diagonal, or to solve with.
- ``hessian_trace``: the trace, with its standard error; cheap.
- ``hessian_diagonal``: the diagonal; exact from d pairs on for a diagonal Hessian.
- ``newton_direction``: (Ĥ + λI)⁻¹ ĝ, with the ZoVH paper's leave-one-out correction.
- ``interpolated_gradient``, ``interpolated_hessian``: biased towards a prior, and far more
  accurate where there are fewer queries than unknowns.

Every one of them takes what `zo.query`, `zo.Queries.from_values` or `zo.History.queries` returns.
"""

from zovh_jax.estimators.diagonal import hessian_diagonal
from zovh_jax.estimators.gradient import gradient
from zovh_jax.estimators.hessian import hessian
from zovh_jax.estimators.interpolation import interpolated_gradient, interpolated_hessian
from zovh_jax.estimators.newton import newton_direction
from zovh_jax.estimators.trace import TraceAverage, TraceEstimate, hessian_trace

__all__ = [
    "TraceAverage",
    "TraceEstimate",
    "gradient",
    "hessian",
    "hessian_diagonal",
    "hessian_trace",
    "interpolated_gradient",
    "interpolated_hessian",
    "newton_direction",
]
