"""The methods that are compared on the language model, by what they need.

All but two kinds perturb every parameter by numbers of its own. Low-rank directions and factored
Hadamard ones are kept as factors, so that all queries share the products with the weights.
"""

from typing import Any

import zovh_jax as zo
from benchmarks.common.adam import on_gradients
from benchmarks.common.methods import METHODS, Method, forward, newton, zoar

LEVELS = {"reuse": zo.reuse.levels()}


def kinds(split: Any = None) -> dict[str, dict[str, Method]]:
    """Methods by name, by kind: the ceiling is the kind that uses derivatives.

    Args:
      split: of factored directions, for models whose parameters are stacks; see `zo.explain`.
    """
    low_rank: dict[str, Any] = {"directions": zo.directions.low_rank(split=split)}
    signs: dict[str, Any] = {"directions": zo.directions.hadamard(factored=True, split=split)}
    return {
        "full": {
            "mezo": METHODS["mezo"],
            "zoar_1": METHODS["zoar_1"],
            "zoar": zoar("ZoAR", history=True, **LEVELS),
            "zovh": METHODS["zovh"],
            "hizoo": METHODS["hizoo"],
            "radazo": METHODS["radazo"],
            "fzoo": METHODS["fzoo"],
        },
        "factored": {
            "zoar_low_rank": zoar("ZoAR, N = 1, low rank", history=False, **low_rank),
            "zoar_signs": zoar("ZoAR, N = 1, factored signs", history=False, **signs),
        },
        "no learning rate": {
            "poem": METHODS["poem"],
            "scalar_newton": newton(
                zo.scalar_newton, "scalar Newton, factored signs", noise="auto", **signs
            ),
            "low_rank_newton": newton(
                zo.low_rank_newton, "low-rank Newton", rounds=2, noise="auto"
            ),
            "diagonal_newton": newton(zo.diagonal_newton, "diagonal Newton", noise="auto"),
        },
        "derivatives": {
            "adam": Method("Adam on true gradients", on_gradients, forward(True), "coordinate"),
        },
    }


def contenders(split: Any = None) -> dict[str, Method]:
    """All of them, by name."""
    return {name: method for methods in kinds(split).values() for name, method in methods.items()}


KINDS, CONTENDERS = kinds(), contenders()
"""Along directions that split every parameter by themselves."""


def kind_of(name: str) -> str:
    """The kind of a method."""
    return next(kind for kind, methods in KINDS.items() if name in methods)
