"""Optimisation from function values alone, as JAX transformations and optax optimisers."""

from zovh_jax import baselines, directions, estimators, evaluators, solvers, stencils
from zovh_jax.evaluators import query
from zovh_jax.functional import grad, hvp, value_and_grad
from zovh_jax.history import History
from zovh_jax.operators import LowRankPlusScaled
from zovh_jax.queries import Plan, Queries
from zovh_jax.solvers import inverse, neumann_solve, solve
from zovh_jax.transforms import (
    num_queries,
    scale_by_inverse_hessian,
    zo_gradient,
    zo_newton,
    zo_sgd,
    zoar,
    zovh,
)

__version__ = "0.1.0"

__all__ = [
    "History",
    "LowRankPlusScaled",
    "Plan",
    "Queries",
    "baselines",
    "directions",
    "estimators",
    "evaluators",
    "grad",
    "hvp",
    "inverse",
    "neumann_solve",
    "num_queries",
    "query",
    "scale_by_inverse_hessian",
    "solve",
    "solvers",
    "stencils",
    "value_and_grad",
    "zo_gradient",
    "zo_newton",
    "zo_sgd",
    "zoar",
    "zovh",
]
