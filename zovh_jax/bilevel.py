"""Bilevel problems: the gradient of an outer function through the minimum of an inner one.

With y*(x) the minimum of inner(x, ·), and all derivatives taken there, implicit differentiation
gives

    d/dx outer(x, y*(x)) = ∂ₓouter − ∂ₓ[qᵀ∂_y inner],   q = (∂²_y inner + λI)⁻¹ ∂_y outer.

Both second derivatives are needed as products with a vector v alone, and each is the gradient of
one difference of values, h = [inner(x, y + εv) − inner(x, y − εv)]/2ε: with respect to y it is the
product with the inner Hessian, with respect to x the mixed product. These gradients are estimated
from pairs of values of h. Their directions are a whole epoch without replacement, so that they are
gradients to O(μ²), and products are as symmetric as the Hessian is.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from zovh_jax import _checks
from zovh_jax._tree import add_scaled, cast_like, layout_of, norm, scalar_dtype, widen
from zovh_jax._types import PyTree
from zovh_jax.directions import hadamard
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators import interpolated_hessian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.query import query
from zovh_jax.functional import grad
from zovh_jax.solvers import SolveInfo, Solver, neumann, woodbury
from zovh_jax.solvers.solver import poison
from zovh_jax.stencils import central


class HypergradientInfo(NamedTuple):
    """How a hypergradient came about.

    Attributes:
      solution: q, a tree like y: where the next solve may start.
      solve: how the solve went; see `zo.solvers`.
      num_queries: values of inner and outer that were asked for, int32.
    """

    solution: PyTree
    solve: SolveInfo
    num_queries: jax.Array


def hypergradient(
    outer: Callable[[PyTree, PyTree], Any],
    inner: Callable[[PyTree, PyTree], Any],
    *,
    radius: Any,
    num_directions: int | None = None,
    damping: Any = 0.0,
    hessian: Literal["products", "interpolated"] = "products",
    solver: Solver | None = None,
    evaluate: Evaluator = vmapped(),
    outer_grad: Callable[[PyTree, PyTree], tuple[PyTree, PyTree]] | None = None,
    inner_hvp: Callable[[PyTree, PyTree, PyTree], PyTree] | None = None,
    inner_grad: Callable[[PyTree, PyTree], PyTree] | None = None,
    direct: bool = True,
    return_info: bool = False,
) -> Callable[..., Any]:
    """A function that gives the gradient of outer(x, y*(x)) from values of outer and inner.

    Args:
      outer: maps x and y to a scalar float.
      inner: the same; y*(x) minimises it.
      radius: μ: how far queries go in each parameter, of x and of y. A product with a Hessian is a
        second difference: in float32 take μ as large as the problem's curvature allows.
      num_directions: K, the most pairs for a gradient or a Hessian. None takes whole epochs of
        `hadamard`, D ≥ d of x and of y, with which gradients are exact to O(μ²); with fewer they
        are unbiased to O(μ²).
      damping: λ ≥ 0, added to the inner Hessian.
      hessian: "products": each product with the inner Hessian is asked for, 4D queries, so
        ``num_directions`` has to be left out. "interpolated": K pairs around y give an operator
        (`zo.estimators.interpolated_hessian`), exact for K = d(d + 1)/2 on a quadratic, with which
        the solve is free; for d where 4D queries a product are too many.
      solver: None takes ``neumann(num_terms=30)`` for products and ``woodbury()`` for the operator.
        ``neumann(…, truncation="random")`` has no bias from ending the series; ``cg()``
        needs fewer products where the inner problem is ill-conditioned.
      evaluate: as for `zo.query`.
      outer_grad: where outer can be differentiated: gives its gradients with respect to x and y.
      inner_hvp: where inner can: (x, y, v) to the product of its Hessian in y with v.
      inner_grad: where inner can be differentiated in x, as by the weights of its terms: (x, y) to
        that gradient, which is asked for twice.
      direct: whether outer depends on x itself. If it depends on y alone, False saves its 2D_x.
      return_info: also return `HypergradientInfo`.

    Returns:
      ``g(x, y, *, key, start=None)``, to be called under ``jax.jit``: the gradient, a tree like x,
      at y = y*(x); or (gradient, info). ``start`` is where the solve begins, as the ``solution`` of
      the step before. Its bias is O(μ²), and what the solver leaves: ``info.solve.residual``. NaN
      where the series diverges, as for an inner Hessian that is not positive definite.
      Queries: 2D_y + 2D_x for outer (2D_y with ``direct=False``), 4D_x for the mixed product, and
      4D_y for each of the solver's products (`SolveInfo`; one more with ``start``), or 2K + 1 for
      the operator. (K in place of D where it is less; nothing for what ``outer_grad``,
      ``inner_hvp`` or ``inner_grad`` gives.)

    Raises:
      ValueError: for arguments out of range or that do not go together, naming them.
      TypeError: as `zo.query`.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> inner = lambda x, y: jnp.sum((y - 1) ** 2) + jnp.exp(x) * jnp.sum(y ** 2)  # a penalty
      >>> outer = lambda x, y: jnp.sum((y - 0.7) ** 2)
      >>> g = zo.hypergradient(outer, inner, radius=0.1)
      >>> x = jnp.zeros(())
      >>> y = jnp.full(4, 1 / (1 + jnp.exp(x)))  # the inner minimum
      >>> round(float(jax.jit(g)(x, y, key=jax.random.key(0))), 2)  # 2·4·(0.5 − 0.7)·(−0.25)
      0.4
    """
    if hessian not in ("products", "interpolated"):
        raise ValueError(f'hessian must be "products" or "interpolated", got {hessian!r}.')
    _checks.positive("radius", radius)
    _checks.nonnegative("damping", damping)
    if num_directions is not None:
        _checks.positive_int("num_directions", num_directions)
    if hessian == "products" and num_directions is not None and inner_hvp is None:
        raise ValueError(
            f"num_directions={num_directions} with hessian='products': products from fewer than a "
            "whole epoch of directions are no products with one matrix. Leave num_directions out, "
            'or pass hessian="interpolated".'
        )
    if hessian == "interpolated" and num_directions is None:
        raise ValueError('hessian="interpolated" needs num_directions.')
    if not direct and outer_grad is not None:
        raise ValueError(
            "direct=False with outer_grad, which gives the direct part: leave one of them out."
        )
    if solver is None:
        solver = neumann(num_terms=30) if hessian == "products" else woodbury()
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")

    def gradient_of(f, at, key):
        k = order_of(layout_of(at, None).size)
        if num_directions is not None:
            k = min(k, num_directions)
        estimate = grad(
            f,
            num_directions=k,
            radius=radius,
            directions=hadamard(),
            stencil=central(),
            evaluate=evaluate,
        )
        return estimate(at, key=key), 2 * k

    def along(y, v):
        """Differences of a function along v, over their distance: as far as the queries go."""
        size = sum(np.size(leaf) for leaf in jax.tree.leaves(y))
        length = norm(v)
        unit = radius * np.sqrt(size) / jnp.where(length > 0, length, 1)
        there = [cast_like(add_scaled(widen(y), sign * unit, v), y) for sign in (1, -1)]

        def difference(f, x, shift):
            ahead, behind = (widen(f(x, jax.tree.map(jnp.add, z, shift))) for z in there)
            return jax.tree.map(lambda a, b: (a - b) / (2 * unit), ahead, behind)

        return difference

    def hypergradient_at(x, y, *, key, start=None):
        key = _checks.key(key)
        keys = iter(jax.random.split(key, 6))
        x, y = jax.tree.map(jnp.asarray, (x, y))
        nowhere = jax.tree.map(jnp.zeros_like, y)
        spent = jnp.zeros((), jnp.int32)
        if outer_grad is not None:
            outer_x, outer_y = outer_grad(x, y)
        else:
            outer_x, n = jax.tree.map(jnp.zeros_like, x), 0
            if direct:
                outer_x, n = gradient_of(lambda x: outer(x, y), x, next(keys))
            outer_y, m = gradient_of(lambda y: outer(x, y), y, next(keys))
            spent += n + m
        product_key, solve_key, mixed_key, round_key = (next(keys) for _ in range(4))
        each = 0
        if inner_hvp is not None:
            operator = lambda v: widen(inner_hvp(x, y, v))  # noqa: E731
        elif hessian == "products":
            each = 4 * order_of(layout_of(y, None).size)

            def operator(v):
                difference = along(y, v)
                # One key for all products: they are products with one matrix.
                product = gradient_of(lambda z: difference(inner, x, z), nowhere, product_key)
                return widen(product[0])

        else:
            pairs = query(
                lambda y: inner(x, y),
                y,
                round_key,
                num_directions=num_directions,
                radius=radius,
                stencil=central(),
                evaluate=evaluate,
                origin=True,
            )
            operator = interpolated_hessian(pairs, y)
            spent += 2 * num_directions + 1
        q, info = _solved(solver, operator, widen(outer_y), damping, solve_key, start)
        spent += each * (info.num_matvecs + (start is not None))
        difference = along(y, q)
        if inner_grad is not None:
            mixed = difference(inner_grad, x, nowhere)
        else:
            mixed, n = gradient_of(lambda x: difference(inner, x, nowhere), x, mixed_key)
            spent += 2 * n
        # Queries along a q of NaN are missing values, and would leave a gradient of zero.
        mixed = poison(widen(mixed), ~jnp.isfinite(norm(q)))
        total = cast_like(jax.tree.map(jnp.subtract, widen(outer_x), mixed), x)
        done = HypergradientInfo(q, info, spent)
        return (total, done) if return_info else total

    return hypergradient_at


def _solved(solver, operator, v, damping, key, start):
    """(H + λI)⁻¹ v, from a solution of a problem like it."""
    damping = jnp.asarray(damping, scalar_dtype())
    if start is None:
        return solver.solve(operator, v, damping, key)
    lost = ~jnp.isfinite(norm(start))  # the step before diverged
    start = jax.tree.map(lambda x: jnp.where(lost, 0, x), widen(start))
    product = operator if callable(operator) else operator.mv
    there = add_scaled(widen(product(start)), damping, start)
    missing = jax.tree.map(jnp.subtract, v, there)
    rest, info = solver.solve(operator, missing, damping, key)
    size = norm(v)
    residual = info.residual * norm(missing) / jnp.where(size > 0, size, 1)
    return jax.tree.map(jnp.add, start, rest), info._replace(residual=residual)


__all__ = ["HypergradientInfo", "hypergradient"]
