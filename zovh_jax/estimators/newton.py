"""The ZoVH product (E18): an inverse-Hessian-gradient direction from one set of queries."""

import dataclasses
from typing import Any, Literal

import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.baselines import Baseline, Mean, mean
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.estimators.hessian import hessian_weights
from zovh_jax.estimators.weights import based, importance
from zovh_jax.operators import LowRankPlusScaled
from zovh_jax.queries import Queries, check_params
from zovh_jax.solvers import DirectSolver, Solver, gram_diagonal

STRUCTURES = ("global", "leaf")


def newton_direction(
    queries: Queries,
    params: PyTree,
    *,
    damping: Any,
    baseline: Baseline = mean(),
    solver: Solver = gram_diagonal(),
    bias_correction: bool = True,
    structure: Literal["global", "leaf"] = "global",
    weights: Any = None,
    self_normalized: bool = False,
    decoupled: bool = False,
    key: Any = None,
) -> PyTree:
    """(Ĥ + λI)⁻¹ ĝ with Ĥ and ĝ from the same queries.

    With ĝ = Σ a_k u_k and Ĥ = scale·I + Σ w_k u_k u_kᵀ from `gradient` and `hessian`, a direct
    solver gives ĝ/β − Σ_k q_k u_k, where β = λ + scale and q depends on the n products u_k·ĝ.
    Those contain u_k itself, which correlates Ĥ and ĝ. The correction replaces ĝ in them by the
    gradient of the other queries, ĝ_{−k} = r Σ_{j≠k} a_j u_j. It takes no further pass, as
    u_k·ĝ_{−k} = r (u_k·ĝ − a_k‖u_k‖²). r = n/(n−1) makes it unbiased. With ``mean()`` on forward
    queries r is the paper's (n−1)/(n−2), larger by the factor 1 + 1/(n(n−2)) (4/3 at n = 3): the
    defaults are exactly ZoVH's product (E18), but for the guard of `gram_diagonal`, and its reuse
    form on a `History`.

    **Where it descends.** On a quadratic with slope g and Hessian H, with Gaussian directions and
    ``mean()`` on forward queries, the expected product is (our derivation, not the paper's)

    - (I − (n−2)/n · H/λ) g/λ on flat ground, where values differ by far less than λμ²√n/d: it
      descends along eigenvalues below λ n/(n−2);
    - (1 − (n−1)²/(d(n−2))) g/λ on steep ground, where they differ by far more than λμ²(n−1)/d: it
      climbs if n + 1/(n−2) > d, however small the learning rate: from n = d on, there hardly.

    In between it is longer than g/λ, several times so where n > d. The guard keeps each direction
    from taking more of ĝ than on steep ground, so that with n < d the product descends on average
    everywhere, up to terms of order 1/n. Where d ≫ n it is close to ĝ/λ (compare it with ZoAR at a
    learning rate divided by λ). With n ≥ d take a large λ, or ``gram_diagonal(limit=d/(2n))``,
    which descends everywhere. Without the correction the product is −(n−1)/d · g/λ on steep ground:
    it climbs for any n.

    A random objective: as for `gradient` and `hessian`; the correction holds with common keys and
    without.

    Spends no queries; two passes over the directions, O(n d) time; ``woodbury`` holds all n
    directions in memory.

    Args:
      queries: as for `gradient`.
      params: a tree with the shapes and dtypes of the parameters.
      damping: λ > 0.
      baseline: the baseline of both estimates.
      solver: ``gram_diagonal()`` (the paper's), ``woodbury()``, ``cg()`` or ``neumann(…)``.
      bias_correction: the leave-one-out correction; needs n ≥ 3 and a direct solver.
      structure: "global" takes norms and products over the whole tree (the paper); "leaf" treats
        each leaf as a problem of its own (the paper's code for language models).
      weights: importance ratios (E5), as for `gradient`.
      self_normalized: divide the ratios by their mean.
      decoupled: make ĝ from the even-numbered directions of each round and Ĥ from the
        odd-numbered ones, instead of sharing all. The two are then independent, so that nothing
        needs correcting, but each has half the queries; needs num_directions ≥ 2, and enough
        queries in either half for the baseline.
      key: for ``neumann(truncation="random")``.

    Returns:
      An ascent direction, a tree like params: subtract it. Zero with fewer finite queries than
      needed; NaN where an iterative solver diverged.

    Raises:
      ValueError: if n < 3 with bias_correction; if an iterative solver is asked for
        bias_correction or structure="leaf"; and as for `gradient` and `hessian`.

    Source: ZoVH (arXiv 2605.30960), eq. 16 and its reuse form.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=4, radius=0.1)
      >>> zo.estimators.newton_direction(queries, x, damping=0.1).shape
      (3,)
    """
    _checks.instance("queries", queries, Queries, "the results of zo.query or History.queries()")
    plan = queries.plan
    check_options(
        plan.num_directions,
        plan.size,
        baseline=baseline,
        solver=solver,
        bias_correction=bias_correction,
        structure=structure,
        decoupled=decoupled,
    )
    layout = check_params(queries, params)
    damping = jnp.asarray(_checks.positive("damping", damping), scalar_dtype())
    first, second = split_round(queries) if decoupled else (queries, queries)
    a = gradient_coefficients(first, layout, baseline, weights, self_normalized)
    w, scale = hessian_weights(second, layout, baseline, None, weights, self_normalized)
    gradient = plan.combine(a, layout)
    valid = based(queries, baseline)
    enough = jnp.sum(valid) >= max(baseline.min_queries, 3 if bias_correction else 1)
    if decoupled:
        enough = jnp.sum(valid) >= baseline.min_queries
        for half in (first, second):
            enough &= jnp.sum(based(half, baseline)) >= baseline.min_queries
    if not isinstance(solver, DirectSolver):
        operator = LowRankPlusScaled(plan, w, scale, layout)
        solution, _ = solver.solve(operator, layout.tree(gradient), damping, key)
        leaves = layout.leaves(solution, "solution")
        return layout.updates([jnp.where(enough, x, jnp.zeros_like(x)) for x in leaves])

    corrected = bias_correction and not decoupled
    rescale = _rescale(queries, baseline, valid, weights, self_normalized) if corrected else None

    def grouped(per_leaf):
        return per_leaf if structure == "leaf" else jnp.sum(per_leaf, -1, keepdims=True)

    def coefficients(dots, norms, rows, gram=None):
        """Of a block of directions, from its u·ĝ and ‖u‖²."""
        a, w = rows
        dots, norms = grouped(dots), grouped(norms)
        if corrected:
            dots = (dots - a[:, None] * norms) * rescale
        base = jnp.broadcast_to(scale + damping, (dots.shape[1],))
        q = solver.coefficients(w, base, damping, dots, norms, gram)
        c = jnp.where(enough, a[:, None] / solver.regularise(base, damping)[None, :] - q, 0)
        return c if structure == "leaf" else c[:, 0]

    if solver.needs_gram:
        dots, norms = plan.inner(gradient, layout)
        c = coefficients(dots, norms, (a, w), lambda: grouped(plan.gram(layout)))
        return layout.updates(plan.combine(c, layout))
    return layout.updates(plan.combine_along(gradient, coefficients, (a, w), layout))


def _rescale(queries, baseline, valid, weights, self_normalized):
    """r of ĝ_{−k} = r Σ_{j≠k} a_j u_j."""
    if queries.stencil.paired:  # as a's divisor is: pairs need no f(θ)
        valid = queries.valid
    n = jnp.sum(valid).astype(scalar_dtype())
    ratios, normalized = importance(weights, queries, valid, self_normalized)
    if normalized:  # n²/ΣW², the effective number
        n = jnp.square(n) / jnp.maximum(jnp.sum(jnp.square(ratios)), n)
    # E[Σ_{j≠k} a_j u_j] = (n−1)/n ∇F_μ whatever the baseline.
    papers = isinstance(baseline, Mean) and not queries.stencil.paired
    return (n - 1) / jnp.maximum(n - 2, 1) if papers else n / jnp.maximum(n - 1, 1)


def split_round(queries: Queries) -> tuple[Queries, Queries]:
    """The even-numbered and the odd-numbered directions of each round; the others are dropped."""
    odd = (jnp.arange(queries.plan.num_directions) % 2).astype(bool)
    odd = odd[:, None] if queries.stencil.paired else odd
    return (
        dataclasses.replace(queries, values=jnp.where(odd, jnp.nan, queries.values)),
        dataclasses.replace(queries, values=jnp.where(odd, queries.values, jnp.nan)),
    )


def check_options(
    num_directions: int,
    size: int,
    *,
    baseline: Baseline,
    solver: Solver,
    bias_correction: bool,
    structure: str,
    decoupled: bool,
) -> None:
    """Raises for options that do not go together; also used when an optimiser is made."""
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")
    if structure not in STRUCTURES:
        raise ValueError(f"structure must be 'global' or 'leaf', got {structure!r}.")
    if not isinstance(solver, DirectSolver) and (bias_correction or structure == "leaf"):
        raise ValueError(
            f"solver={solver!r} sees the Hessian through products only: it needs "
            "bias_correction=False and structure='global'. "
            "woodbury() and gram_diagonal() take both."
        )
    half = num_directions // 2 * (size // num_directions)
    if decoupled and half < baseline.min_queries:
        raise ValueError(
            "decoupled=True halves each round between gradient and Hessian: the smaller half, "
            f"of num_directions={num_directions}, gives {half} queries, and {baseline!r} needs "
            f"{baseline.min_queries}. Raise num_directions or history_size, or share the queries."
        )
    if bias_correction and not decoupled and size < 3:
        raise ValueError(
            "the leave-one-out product (E18) needs at least 3 directions; got num_directions × "
            f"history_size = {size}. Raise either, or pass bias_correction=False."
        )


__all__ = ["newton_direction"]
