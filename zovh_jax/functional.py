"""``grad``, ``value_and_grad`` and ``hvp`` from function values."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import cast_like, layout_of
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.estimators import gradient, hessian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.query import query
from zovh_jax.stencils import Stencil, central, forward


def grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    num_directions: int,
    radius: Any,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = mean(),
    evaluate: Evaluator = vmapped(),
    has_aux: bool = False,
) -> Callable[..., Any]:
    """A function that estimates the gradient of ``f`` from its values.

    Args:
      f: returns a scalar float, or (scalar, aux) with ``has_aux``.
      argnums: which positional argument (or arguments) to differentiate, as in ``jax.grad``.
      num_directions: K, the number of random directions.
      radius: μ, the size of the perturbations.
      directions, stencil, baseline, evaluate: as for `zo.query` and `zo.estimators.gradient`.
      has_aux: whether f returns auxiliary data, of JAX types. The data at the arguments themselves
        is returned, for one more query.

    Returns:
      ``g(*args, key=key, **kwargs)``: the gradient, shaped like the argument (a tuple for several),
      or (gradient, aux). K queries with the default stencil (2K central, 2K + 1 three-point; one
      more for ``baseline=origin()``).

    Raises:
      ValueError: for a size or radius out of range, or fewer queries than the baseline needs.
      TypeError: for arguments that are missing or not floats, or an f that is not a scalar float.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f = lambda x, y: jnp.sum(x ** 2) * y
      >>> g = zo.grad(f, num_directions=8, radius=1e-2)(jnp.ones(3), 2.0, key=jax.random.key(0))
      >>> g.shape
      (3,)
    """
    make = _prepare(f, argnums, num_directions, radius, directions, stencil, evaluate, has_aux)
    _checks.instance("baseline", baseline, Baseline, "the baselines of zo.baselines")
    needs_origin = baseline.needs_origin and not stencil.paired

    def gradient_of_f(*args, key, **kwargs):
        ask, theta, aux = make(args, kwargs, key, origin=has_aux or needs_origin)
        estimate = gradient(ask, theta, baseline=baseline)
        return (estimate, aux) if has_aux else estimate

    return gradient_of_f


def value_and_grad(
    f: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    *,
    num_directions: int,
    radius: Any,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = mean(),
    evaluate: Evaluator = vmapped(),
    has_aux: bool = False,
) -> Callable[..., Any]:
    """As `grad`, but returns (f's value, gradient) for one more query.

    Returns:
      ``vg(*args, key=key, **kwargs)``: (value, gradient), or ((value, aux), gradient). The value
      is f's own, not a smoothed one.

    Raises:
      ValueError, TypeError: as `grad`.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> vg = zo.value_and_grad(lambda x: jnp.sum(x ** 2), num_directions=8, radius=1e-2)
      >>> value, g = vg(jnp.ones(3), key=jax.random.key(0))
      >>> float(value), g.shape
      (3.0, (3,))
    """
    make = _prepare(f, argnums, num_directions, radius, directions, stencil, evaluate, has_aux)
    _checks.instance("baseline", baseline, Baseline, "the baselines of zo.baselines")

    def value_and_gradient_of_f(*args, key, **kwargs):
        ask, theta, aux = make(args, kwargs, key, origin=True)
        estimate = gradient(ask, theta, baseline=baseline)
        return ((ask.origin, aux) if has_aux else ask.origin), estimate

    return value_and_gradient_of_f


def hvp(
    f: Callable[..., Any],
    argnums: int = 0,
    *,
    num_directions: int,
    radius: Any,
    directions: Directions = gaussian(),
    stencil: Stencil = central(),
    baseline: Baseline = mean(),
    evaluate: Evaluator = vmapped(),
) -> Callable[..., Any]:
    """A function that estimates Hessian-vector products of ``f`` from its values.

    It is `zo.estimators.hessian` times v: ``jax.jvp(jax.grad(f), (x,), (v,))[1]`` without
    derivatives, unbiased on quadratics. The default is (E10) on the even part of pairs. Its noise,
    relative to the product, is of order d/√K for a Hessian like the identity.

    Args:
      f: returns a scalar float.
      argnums: the argument to differentiate.
      num_directions, radius, directions, stencil, baseline, evaluate: as for `zo.query` and
        `zo.estimators.hessian`.

    Returns:
      ``h(x, v, *args, key=key, **kwargs)``, the product with v, a tree like x. (With ``argnums``
      i, v comes right after argument i.) 2K queries by default.

    Raises:
      ValueError, TypeError: as `grad`, and for ``argnums`` that is negative or a sequence.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> h = zo.hvp(lambda x: jnp.sum(x ** 2), num_directions=5000, radius=0.1)
      >>> v = jnp.array([1.0, 0.0])
      >>> bool(jnp.allclose(h(jnp.ones(2), v, key=jax.random.key(0)), 2 * v, atol=0.2))
      True
    """
    if isinstance(argnums, Sequence) or argnums < 0:
        raise ValueError(f"argnums of hvp must be one int, 0 or more; got {argnums!r}.")
    make = _prepare(f, argnums, num_directions, radius, directions, stencil, evaluate, False)
    _checks.instance("baseline", baseline, Baseline, "the baselines of zo.baselines")

    def product(*args, key, **kwargs):
        if len(args) < argnums + 2:
            raise TypeError(
                f"hvp needs the vector right after argument {argnums}; got {len(args)} arguments."
            )
        vector = args[argnums + 1]
        args = args[: argnums + 1] + args[argnums + 2 :]
        layout_of(args[argnums], directions.active, f"argument {argnums}").leaves(vector, "vector")
        ask, theta, _ = make(args, kwargs, key, origin=baseline.needs_origin)
        return cast_like(hessian(ask, theta, baseline=baseline).mv(vector), theta)

    return product


def _prepare(f, argnums, num_directions, radius, directions, stencil, evaluate, has_aux):
    _checks.positive_int("num_directions", num_directions)
    _checks.positive("radius", radius)
    single = not isinstance(argnums, Sequence)
    numbers = (operator.index(argnums),) if single else tuple(argnums)

    def make(args, kwargs, key, origin):
        if max(numbers) >= len(args):
            raise TypeError(f"argnums={argnums!r} needs more than the {len(args)} arguments given.")
        theta = tuple(args[i] for i in numbers)
        theta = jax.tree.map(jnp.asarray, theta[0] if single else theta)

        def objective(x):
            full = list(args)
            for i, part in zip(numbers, (x,) if single else x, strict=True):
                full[i] = part
            return f(*full, **kwargs)

        value, aux, value_fn = None, None, objective
        if has_aux:
            both = jax.jit(objective)  # traced once for the value with its aux and for the round
            value, aux = both(theta)
            value_fn = lambda x: both(x)[0]  # noqa: E731
        ask = query(
            value_fn,
            theta,
            key,
            num_directions=num_directions,
            radius=radius,
            directions=directions,
            stencil=stencil,
            evaluate=evaluate,
            value=value,
            origin=origin,
            store_directions=isinstance(evaluate, vmapped),
        )
        return ask, theta, aux

    return make


__all__ = ["grad", "hvp", "value_and_grad"]
