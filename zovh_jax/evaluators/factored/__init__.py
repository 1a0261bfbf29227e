"""Evaluates an unmodified objective at parameters that are perturbed along `Factors`.

The objective's program (its jaxpr) is run with values that are arrays or `Perturbed` parameters,
x + Σ_i left_i·right_i. A product with such a parameter is that with x, which all queries share, and
a few operations with the factors. What no rule covers forms the perturbed parameter there, and goes
on: the value is right whatever the program.
"""

from collections.abc import Callable
from typing import Any

import jax

from zovh_jax.evaluators.factored.interpreter import Report, run
from zovh_jax.evaluators.factored.perturbed import Perturbed, dense


def interpreted(fn: Callable, *like: Any, report: Report = lambda *_: None) -> Callable:
    """A function that is traced once, here, and runs where leaves of its arguments are `Perturbed`.

    Args:
      fn: a function of trees of arrays; returns one array.
      like: its arguments, or their shapes.
      report: hears where perturbed parameters go, and where they are formed.
    """
    closed = jax.make_jaxpr(fn)(*like)

    def call(*args):
        leaves = jax.tree.leaves(args, is_leaf=lambda x: isinstance(x, Perturbed))
        return dense(run(closed.jaxpr, closed.consts, leaves, report)[0])

    return call


__all__ = ["Perturbed", "Report", "interpreted"]
