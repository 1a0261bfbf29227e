"""Programs of JAX as data: the few things that all of their interpreters need."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.extend import core, source_info_util

INLINED = {
    "jit": "jaxpr",
    "closed_call": "call_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_lin": "call_jaxpr",
}
"""Equations that hold a program to enter; nothing here is differentiated."""


def evaluate(
    jaxpr: core.Jaxpr,
    consts: Sequence,
    args: Sequence,
    apply: Callable[[core.JaxprEqn, list[Any]], list[Any]],
    literal: Callable[[Any], Any] = lambda x: x,
) -> list[Any]:
    """The outputs of a jaxpr whose equations are done by ``apply``.

    Args:
      jaxpr: the program.
      consts, args: values of its constants and inputs, of any type.
      apply: gives an equation's outputs from its inputs.
      literal: makes such a value from a literal.
    """
    env: dict[Any, Any] = {}

    def read(atom):
        return literal(atom.val) if isinstance(atom, core.Literal) else env[atom]

    env |= dict(zip(jaxpr.constvars, consts, strict=True))
    env |= dict(zip(jaxpr.invars, args, strict=True))
    for eqn in jaxpr.eqns:
        outs = apply(eqn, [read(atom) for atom in eqn.invars])
        env |= dict(zip(eqn.outvars, outs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def bound(eqn: core.JaxprEqn, ins: list[Any]) -> list[Any]:
    """The outputs of an equation whose inputs are arrays."""
    params = eqn.primitive.get_bind_params(eqn.params)
    mesh = jax.sharding.get_abstract_mesh()
    if mapped() and eqn.primitive.name != "sharding_constraint":
        # A sharding on an Auto mesh constrains nothing, and clashes with the mesh of the map.
        params = {name: None if _says_nothing(x) else x for name, x in params.items()}
    stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
    with (
        source_info_util.user_context(eqn.source_info.traceback, name_stack=stack),
        eqn.ctx.manager,
        jax.sharding.use_abstract_mesh(mesh),  # the map's, not that of the equation
    ):
        outs = eqn.primitive.bind(*ins, **params)
    return outs if eqn.primitive.multiple_results else [outs]


def mapped() -> bool:
    """Whether what is traced here is inside of ``jax.shard_map``."""
    return bool(jax.sharding.get_abstract_mesh().manual_axes)


def _says_nothing(param: Any) -> bool:
    return isinstance(param, jax.sharding.NamedSharding) and param.mesh.are_all_axes_auto


def opened(jaxpr: Any) -> tuple[core.Jaxpr, Sequence]:
    """A jaxpr, closed or not, and its constants."""
    return (jaxpr.jaxpr, jaxpr.consts) if hasattr(jaxpr, "consts") else (jaxpr, ())


def entered(eqn: core.JaxprEqn) -> tuple[core.Jaxpr, Sequence] | None:
    """The program that an equation does nothing but run, and its constants."""
    name = INLINED.get(eqn.primitive.name)
    return opened(eqn.params[name]) if name in eqn.params else None


def programs_in(eqn: core.JaxprEqn) -> Iterator[Any]:
    """All programs that an equation holds, closed or not."""
    for value in eqn.params.values():
        for each in value if isinstance(value, (tuple, list)) else [value]:
            if isinstance(each, (core.Jaxpr, core.ClosedJaxpr)):
                yield each


def constants_of(jaxpr: Any) -> Iterator[Any]:
    """The arrays that a closed jaxpr, and those inside it, close over or have as literals."""
    program, consts = opened(jaxpr)
    yield from consts
    for eqn in program.eqns:
        yield from (x.val for x in eqn.invars if isinstance(x, core.Literal) and np.ndim(x.val))
        for inner in programs_in(eqn):
            yield from constants_of(inner)


def gains_axis(outside: Sequence, inside: Sequence) -> list[bool]:
    """Which variables of a scan have an axis more outside than in its body.

    Versions of JAX differ in how a scan says so.
    """
    return [a.aval.ndim > b.aval.ndim for a, b in zip(outside, inside, strict=True)]


def scan_sizes(eqn: core.JaxprEqn) -> tuple[int, int]:
    """How many of a scan's inputs are constants, and how many are carried."""
    body = opened(eqn.params["jaxpr"])[0]
    num_carry = sum(not more for more in gains_axis(eqn.outvars, body.outvars))
    return len(eqn.invars) - sum(gains_axis(eqn.invars, body.invars)) - num_carry, num_carry


__all__ = [
    "INLINED",
    "bound",
    "constants_of",
    "entered",
    "evaluate",
    "gains_axis",
    "mapped",
    "opened",
    "programs_in",
    "scan_sizes",
]
