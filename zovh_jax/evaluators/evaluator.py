"""What an evaluator is, and what they share: perturbed parameters and a checked objective."""

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax._factors import Factors
from zovh_jax._tree import Layout, direction_dtype, scalar_dtype
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.evaluators.factored.perturbed import Perturbed
from zovh_jax.plan import Plan

LeavesFn = Callable[[Leaves, jax.Array], jax.Array]
"""The objective as a function of the perturbed leaves and of the query's number in its round.

Its value is a scalar in the scalar dtype, or [B] values of examples. Query j of direction k has the
number k·len(steps) + j, whatever the evaluator: the objective's own randomness may depend on it.
"""


class Evaluator:
    """Evaluates a round; nothing else calls the user's objective.

    However it works, the objective is traced exactly once a round.
    """

    @property
    def spread(self) -> "Evaluator | None":
        """Itself, if it has a method ``sum`` for `Plan.combine`."""
        return None

    def block_size(self, num_directions: int) -> int:
        """How many directions are in memory at once, here and in later replays."""
        raise NotImplementedError  # pragma: no cover - abstract

    def traces(self, num_directions: int) -> int:
        """At how many places ``evaluate`` calls its function."""
        raise NotImplementedError  # pragma: no cover - abstract

    def evaluate(
        self, fn: LeavesFn, leaves: Leaves, plan: Plan, layout: Layout, steps: jax.Array
    ) -> jax.Array:
        """Values of ``fn`` at leaves + step·u_k; ``steps`` are offset × radius.

        Returns:
          [K, len(steps)], with the axes of ``fn``'s value, if it has any, behind.
        """
        raise NotImplementedError  # pragma: no cover - abstract

    def evaluate_with_origin(
        self, fn: LeavesFn, leaves: Leaves, plan: Plan, layout: Layout, steps: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """The values, and that of ``fn`` at the leaves, whose number follows on theirs."""
        values = self.evaluate(fn, leaves, plan, layout, steps)
        return values, fn(leaves, jnp.asarray(plan.num_directions * len(steps), int))


@jax.jit
def perturb(x: jax.Array, step: jax.Array, u: jax.Array) -> jax.Array:
    """x + step·u, computed in the direction's precision and rounded once to x's dtype."""
    wide = direction_dtype(x.dtype)
    return (x.astype(wide) + step.astype(wide) * u.astype(wide)).astype(x.dtype)


def perturbed(leaves: Leaves, step: jax.Array, u: list[Any]) -> list[Any]:
    """Every leaf perturbed; along `Factors` it is `Perturbed`."""
    return [
        Perturbed.of(x, step, v, name) if isinstance(v, Factors) else perturb(x, step, v)
        for name, (x, v) in enumerate(zip(leaves, u, strict=True))
    ]


def leaves_objective(
    value_fn: ValueFn,
    params: PyTree,
    layout: Layout,
    *,
    examples: bool = False,
    common_key: bool = True,
) -> LeavesFn:
    """``value_fn`` as a function of the perturbed leaves, its output checked while it is traced.

    The frozen leaves are those of ``params``. Its values are constants to autodiff.

    Args:
      value_fn: the objective.
      params: θ.
      layout: of θ.
      examples: whether it returns a vector, one value an example.
      common_key: whether all queries share the key of a `Keyed` objective.
    """
    frozen = [x for x, on in zip(jax.tree.leaves(params), layout.active, strict=True) if not on]

    def fn(leaves, index):
        leaves, rest = jax.lax.stop_gradient(leaves), iter(frozen)
        point = layout.full(leaves, lambda shape, dtype: next(rest))
        out = value_fn(point) if common_key else value_fn.draw(point, index)  # type: ignore[attr-defined]
        if isinstance(out, (float, jax.Array, np.ndarray, np.generic)):
            shape, dtype = jnp.shape(out), jnp.result_type(out)
            got = f"shape {shape} and dtype {dtype}"
        else:
            shape, dtype, got = None, None, repr(out)
            if isinstance(out, tuple):  # perhaps of tracers, which say nothing
                got = f"a tuple of {len(out)}"
        floating = shape is not None and jnp.issubdtype(dtype, jnp.floating)
        if examples and not (floating and len(shape) == 1 and shape[0] > 0):  # type: ignore[arg-type]
            raise TypeError(
                'with reduce="mean" value_fn must return a vector of floats, one loss an example; '
                f"got {got}. Return the losses before they are averaged, or leave reduce out."
            )
        if not examples and not (floating and shape == ()):
            raise TypeError(
                f"value_fn must return a scalar float; got {got}. Reduce it (jnp.mean), convert "
                'it, or drop auxiliary outputs. (One loss an example: pass reduce="mean".)'
            )
        if jnp.finfo(dtype).nmant < jnp.finfo(jnp.float32).nmant:
            warnings.warn(
                f"value_fn returns {dtype}: values that differ by less than one part in "
                f"{2 ** (jnp.finfo(dtype).nmant + 1):,} are equal, so small perturbations show "
                "nothing. Compute the loss in float32, from logits.astype(jnp.float32).",
                stacklevel=2,
            )
        return jax.lax.stop_gradient(jnp.asarray(out).astype(scalar_dtype()))

    return fn


__all__ = ["Evaluator", "LeavesFn", "leaves_objective", "perturb", "perturbed"]
