"""Runs a jaxpr on values that are arrays or `Perturbed` parameters."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend import core

from zovh_jax._jaxprs import bound, entered, evaluate, gains_axis, mapped, opened, scan_sizes
from zovh_jax.evaluators.factored.perturbed import Perturbed, dense
from zovh_jax.evaluators.factored.rules import RULES

Report = Callable[[Any, Sequence, str | None], None]
"""Hears of each equation that perturbed parameters enter: the equation, its inputs, None.

Of each that forms some, too: the equation, values with those parameters among them, and why.
"""


def run(jaxpr: core.Jaxpr, consts: Sequence, args: Sequence, report: Report) -> list[Any]:
    """The outputs of a jaxpr."""
    return evaluate(jaxpr, consts, args, lambda eqn, ins: _apply(eqn, ins, report))


def _apply(eqn: core.JaxprEqn, ins: list[Any], report: Report) -> list[Any]:
    """The outputs of an equation."""
    factored = any(isinstance(x, Perturbed) for x in ins)
    if factored:
        report(eqn, ins, None)
    elif not mapped():
        return bound(eqn, ins)
    name = eqn.primitive.name
    if (program := entered(eqn)) is not None:
        return run(*program, ins, report)
    if name in CONTROL:
        return CONTROL[name](eqn, ins, report)
    if not factored:  # in a map programs are entered anyway: the mesh that they name is not its own
        return bound(eqn, ins)
    if name == "dot_general" and all(isinstance(x, Perturbed) for x in ins):
        # An activation is there for each query anyway.
        i = min((1, 0), key=lambda i: (not ins[i].part, ins[i].base.size))
        ins[i : i + 1] = _formed(
            eqn, ins[i : i + 1], report, "it is multiplied by another parameter"
        )
    outs = RULES[name](eqn.params, *ins) if name in RULES else f"{name} has no rule for factors"
    if isinstance(outs, str):
        return bound(eqn, _formed(eqn, ins, report, outs))
    return outs if isinstance(outs, list) else [outs]


def _formed(eqn: core.JaxprEqn, values: Sequence, report: Report, why: str) -> list[Any]:
    """Values as arrays."""
    if any(isinstance(x, Perturbed) for x in values):
        report(eqn, values, why)
    return [dense(x) for x in values]


def _scan(eqn: core.JaxprEqn, ins: list[Any], report: Report) -> list[Any]:
    """A loop over arrays; factored parameters are constants of it, or are sliced with the rest."""
    params = eqn.params
    body, consts = opened(params["jaxpr"])
    num_consts, num_carry = scan_sizes(eqn)
    closed, carry = ins[:num_consts], ins[num_consts : num_consts + num_carry]
    carry = _formed(eqn, carry, report, "a loop changes it")
    sliced = [_Sliced(x) for x in ins[num_consts + num_carry :]]

    def step(carry, rows):
        xs = [x.row(arrays) for x, arrays in zip(sliced, rows, strict=True)]
        outs = run(body, consts, [*closed, *carry, *xs], report)
        outs = _formed(eqn, outs, report, "it leaves a loop")
        return outs[:num_carry], outs[num_carry:]

    carry, ys = jax.lax.scan(
        step,
        carry,
        [x.arrays for x in sliced],
        length=params["length"],
        reverse=params["reverse"],
        unroll=params["unroll"],
    )
    return [*carry, *ys]


def sliced_by_scan(eqn: core.JaxprEqn) -> list[bool]:
    """Which of its inputs a scan slices."""
    return gains_axis(eqn.invars, opened(eqn.params["jaxpr"])[0].invars)


class _Sliced:
    """A value that a scan slices: what is sliced of it, and what is the same in each step."""

    def __init__(self, x: Any):
        self.x = x
        self.arrays = [x]
        if isinstance(x, Perturbed):
            sides = (x.left, x.right)
            self.arrays = [x.base, *(s.swapaxes(0, 1) for s in sides if s.shape[1] != 1)]

    def row(self, arrays: list[jax.Array]) -> Any:
        """The value in one step."""
        base, *sides = arrays
        if not isinstance(self.x, Perturbed):
            return base
        rest = iter(sides)
        left, right = (
            next(rest) if side.shape[1] != 1 else side.squeeze(1)
            for side in (self.x.left, self.x.right)
        )
        return dataclasses.replace(self.x, base=base, left=left, right=right)


def _while(eqn: core.JaxprEqn, ins: list[Any], report: Report) -> list[Any]:
    """A loop; factored parameters are constants of it."""
    n, m = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    cond, cond_consts = opened(eqn.params["cond_jaxpr"])
    body, body_consts = opened(eqn.params["body_jaxpr"])
    of_cond, of_body = ins[:n], ins[n : n + m]
    carry = _formed(eqn, ins[n + m :], report, "a loop changes it")

    def step(carry):
        outs = run(body, body_consts, [*of_body, *carry], report)
        return _formed(eqn, outs, report, "it leaves a loop")

    return jax.lax.while_loop(
        lambda carry: run(cond, cond_consts, [*of_cond, *carry], report)[0], step, carry
    )


def _cond(eqn: core.JaxprEqn, ins: list[Any], report: Report) -> list[Any]:
    """A branch; factored parameters are constants of the branches."""
    index, *operands = ins

    def branch(closed):
        jaxpr, consts = opened(closed)
        return lambda: _formed(
            eqn, run(jaxpr, consts, operands, report), report, "it leaves a branch"
        )

    branches = [branch(closed) for closed in eqn.params["branches"]]
    if (platforms := eqn.params.get("branches_platforms")) is None:
        return jax.lax.switch(index, branches)
    of = {
        name: function
        for names, function in zip(platforms, branches, strict=True)
        for name in names or ("default",)
    }
    return jax.lax.platform_dependent(**of)


CONTROL = {"scan": _scan, "while": _while, "cond": _cond}

__all__ = ["CONTROL", "Report", "run", "sliced_by_scan"]
