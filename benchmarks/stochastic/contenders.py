"""The methods that are compared on objectives with noise, by what they need.

Reuse is with levels, the optimisers' default: values of two batches have two levels. The methods
without a learning rate find out about the noise by themselves.
"""

import dataclasses
from typing import Any

import jax
import optax
import optax.contrib

import zovh_jax as zo
from benchmarks.common.adam import on_gradients
from benchmarks.common.evolution import RIVALS
from benchmarks.common.methods import METHODS, Method, Setting, forward, newton, zoar

LEVELS = {"reuse": zo.reuse.levels()}


def zo_adam(rate: Any, key: jax.Array, setting: Setting) -> Any:
    """Adam on estimated gradients, as optax has it."""
    return optax.chain(zo.zo_gradient(**setting.options(key)), optax.adam(rate))


def of_optax(rule: Any, label: str) -> Method:
    """A rule of optax that needs no rate, on estimated gradients."""

    def make(rate, key, setting):
        del rate
        return optax.chain(zo.zo_gradient(**setting.options(key)), rule())

    return Method(label, make, forward(False), "newton", tuned=False)


def rateless(factory: Any, label: str, rounds: int = 1) -> Method:
    """One of our methods without a learning rate, with its defaults."""
    return newton(factory, label, rounds=rounds, noise="auto")


KINDS: dict[str, dict[str, Method]] = {
    "first order": {
        "zo_sgd": METHODS["zo_sgd"],
        "zoar_1": METHODS["zoar_1"],
        "zoar": zoar("ZoAR", history=True, **LEVELS),
        "zoar_hadamard": zoar(
            "ZoAR, Hadamard", history=True, directions=zo.directions.hadamard(), **LEVELS
        ),
        "mezo": METHODS["mezo"],
        "radazo": METHODS["radazo"],
        "zo_adam": Method("ZO gradient, Adam", zo_adam, forward(False), "coordinate"),
        "zo_adamm": METHODS["zo_adamm"],
        "zo_signsgd": METHODS["zo_signsgd"],
        "fzoo": METHODS["fzoo"],
    },
    "tuned": {"hizoo": METHODS["hizoo"], **RIVALS},
    "no learning rate": {
        "poem": METHODS["poem"],
        "poem_average": dataclasses.replace(METHODS["poem_average"], label="POEM, average"),
        "mechanic": of_optax(
            lambda: optax.contrib.mechanize(optax.sgd(1.0)), "ZO gradient, Mechanic"
        ),
        "prodigy": of_optax(optax.contrib.prodigy, "ZO gradient, Prodigy"),
        "scalar_newton": rateless(zo.scalar_newton, "scalar Newton"),
        "diagonal_newton": rateless(zo.diagonal_newton, "diagonal Newton"),
        "low_rank_newton": rateless(zo.low_rank_newton, "low-rank Newton", rounds=2),
    },
    "derivatives": {
        "adam": Method("Adam on true gradients", on_gradients, forward(True), "coordinate"),
    },
}
"""The tuned methods of first order, the other tuned ones, those without a learning rate, and one
that uses derivatives: what would be reached if they were known."""

FIXED = ("mechanic", "prodigy")
"""Those of no learning rate that do not change the radius."""

CONTENDERS = {name: method for methods in KINDS.values() for name, method in methods.items()}
"""All of them, by name."""


def kind_of(name: str) -> str:
    """The kind of a method."""
    return next(kind for kind, methods in KINDS.items() if name in methods)
