"""The papers' test functions, with exact gradients and Hessians; noisy and drifting versions."""

from zovh_jax.problems.drift import drifting
from zovh_jax.problems.functions import ackley, levy, quadratic, rosenbrock, styblinski_tang
from zovh_jax.problems.noise import noisy
from zovh_jax.problems.problem import Problem

__all__ = [
    "Problem",
    "ackley",
    "drifting",
    "levy",
    "noisy",
    "quadratic",
    "rosenbrock",
    "styblinski_tang",
]
