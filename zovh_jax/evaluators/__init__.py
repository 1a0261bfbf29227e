"""How a round is evaluated: the only code that calls the user's objective."""

from zovh_jax.evaluators.query import (
    Evaluator,
    chunked,
    perturb,
    query,
    scalar_objective,
    vmapped,
)

__all__ = ["Evaluator", "chunked", "perturb", "query", "scalar_objective", "vmapped"]
