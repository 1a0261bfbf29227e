"""The methods that are compared on the language model, by what they need.

All but two kinds perturb every parameter by numbers of its own. Low-rank directions and factored
Hadamard ones are kept as factors, so that all queries share the products with the weights.
"""

from typing import Any

import zovh_jax as zo
from benchmarks.common.adam import on_gradients
from benchmarks.common.methods import METHODS, Method, forward, newton, zoar

LOW_RANK: dict[str, Any] = {"directions": zo.directions.low_rank()}
SIGNS: dict[str, Any] = {"directions": zo.directions.hadamard(factored=True)}
LEVELS = {"reuse": zo.reuse.levels()}


KINDS: dict[str, dict[str, Method]] = {
    "full": {
        "mezo": METHODS["mezo"],
        "zoar_1": METHODS["zoar_1"],
        "zoar": zoar("ZoAR", history=True, **LEVELS),
        "zovh": METHODS["zovh"],
        "radazo": METHODS["radazo"],
        "fzoo": METHODS["fzoo"],
    },
    "factored": {
        "zoar_low_rank": zoar("ZoAR, N = 1, low rank", history=False, **LOW_RANK),
        "zoar_signs": zoar("ZoAR, N = 1, factored signs", history=False, **SIGNS),
    },
    "no learning rate": {
        "poem": METHODS["poem"],
        "scalar_newton": newton(
            zo.scalar_newton, "scalar Newton, factored signs", noise="auto", **SIGNS
        ),
        "low_rank_newton": newton(zo.low_rank_newton, "low-rank Newton", rounds=2, noise="auto"),
        "diagonal_newton": newton(zo.diagonal_newton, "diagonal Newton", noise="auto"),
    },
    "derivatives": {
        "adam": Method("Adam on true gradients", on_gradients, forward(True), "coordinate"),
    },
}
"""Tuned ones along full directions and along factored ones, those without a learning rate, and the
ceiling, which uses derivatives."""

CONTENDERS = {name: method for methods in KINDS.values() for name, method in methods.items()}
"""All of them, by name."""


def kind_of(name: str) -> str:
    """The kind of a method."""
    return next(kind for kind, methods in KINDS.items() if name in methods)
