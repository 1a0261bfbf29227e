"""The entrance of every transformation that queries: what comes in is checked here, once."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from zovh_jax._mesh import alike, on_explicit_mesh, placed_with
from zovh_jax._types import PyTree, ValueFn
from zovh_jax.transforms._extras import check_names, with_extras
from zovh_jax.transforms._state import check_state, counts_of

Step = Callable[[PyTree, Any, PyTree, ValueFn, Any], tuple[PyTree, Any]]
"""(updates, state, params, value_fn, value) -> (updates, state)."""


def transformation(
    name: str, init: Callable[[PyTree], Any], step: Step
) -> optax.GradientTransformationExtraArgs:
    """A transformation that queries, with the checks that all of them share.

    To automatic differentiation values are constants: parameters and ``value`` lose their
    derivatives here, the objective's values in the evaluators.

    Args:
      name: of the transformation, for errors.
      init: makes the state: a `ZerothOrderState`, or a NamedTuple with one as ``counts``.
      step: gets a ``value_fn`` of the parameters alone, ``params`` as arrays, and updates as they
        came in.
    """

    def placed_init(params):
        if "MultiSteps.init" in _optax_callers():
            raise TypeError(_multi_steps(name))
        params = _arrays(params)
        place = lambda params: placed_with(init(params), params)  # noqa: E731
        # On an Explicit mesh nothing can be drawn outside jit, which takes the mesh from params.
        return jax.jit(place)(params) if on_explicit_mesh(params) else place(params)

    def update(updates, state, params=None, *, value_fn=None, value=None, **extra):
        _check_callers(name, updates)
        if value_fn is None:
            check_names(name, extra, value, (), None)
            raise TypeError(
                f"{name} needs the objective: call update(updates, state, params, "
                "value_fn=value_fn), where value_fn(params) returns a scalar float."
            )
        if params is None:
            raise TypeError(
                f"{name} needs the parameters: call update(updates, state, params, "
                "value_fn=value_fn)."
            )
        params, value = _constant(_arrays(params)), _constant(value)
        check_state(name, state, params, init)
        value_fn = with_extras(name, value_fn, value, extra, counts_of(state))
        emitted, state = step(updates, state, params, value_fn, value)
        return alike(emitted, params), state

    return optax.GradientTransformationExtraArgs(placed_init, update)


def _arrays(params: PyTree) -> PyTree:
    """Params with floats of Python and numpy as JAX arrays, in the dtype that JAX gives them."""

    def convert(x):
        if isinstance(x, (float, np.floating, np.ndarray)):
            dtype = jnp.result_type(x)
            if jnp.issubdtype(dtype, jnp.floating):
                return jnp.asarray(x, jax.dtypes.canonicalize_dtype(dtype))
        return x

    return jax.tree.map(convert, params)


def _constant(tree: PyTree) -> PyTree:
    """The tree without derivatives."""

    def stop(x):
        return jax.lax.stop_gradient(x) if isinstance(x, jax.core.Tracer) else x

    return jax.tree.map(stop, tree)


COMPARING = ("apply_if_finite", "conditionally_mask", "conditionally_transform")
"""Wrappers of optax that compare the updates that come out with those that went in."""


def _check_callers(name: str, updates: Any) -> None:
    """Raises where one of optax's wrappers calls in a way that cannot give what was meant."""
    callers = _optax_callers()
    if "MultiSteps.update" in callers:
        raise TypeError(_multi_steps(name))
    wrapper = next((each for each in callers if each in COMPARING), None)
    if updates is None and wrapper is not None:
        raise TypeError(
            f"optax.{wrapper} around {name} needs updates like params, which it compares with "
            "those that come out: call update(optax.tree.zeros_like(params), state, params, "
            "value_fn=value_fn) in place of update(None, …)."
        )


def _multi_steps(name: str) -> str:
    return (
        f"optax.MultiSteps around {name} would ask in every step and use only every k-th: it "
        "averages the updates that come in, which a zeroth-order estimate ignores. Average the "
        "estimates: optax.chain(zo.zo_gradient(…), optax.MultiSteps(optax.sgd(learning_rate), "
        "k).gradient_transformation())."
    )


def _optax_callers() -> set[str]:
    """Names of optax's functions that are being executed, such as "MultiSteps.update".

    A transformation is not told what wraps it, but the call stack shows it. Reading it costs
    microseconds, while JAX traces.
    """
    names, frame = set(), sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__", "").startswith("optax."):
            name = frame.f_code.co_qualname
            names |= {name.split(".<locals>")[0]}
        frame = frame.f_back  # type: ignore[assignment]
    return names


__all__ = ["Step", "transformation"]
