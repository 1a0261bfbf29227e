"""The ZoVH product (E18): an inverse-Hessian-gradient direction from one set of queries."""

from typing import Any, Literal

import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._tree import cast_leaves, scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.baselines import Baseline, Mean, mean
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.estimators.hessian import hessian_weights
from zovh_jax.estimators.weights import usable
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
    key: Any = None,
) -> PyTree:
    """(Ĥ + λI)⁻¹ ĝ with Ĥ and ĝ from the same queries.

    With ĝ = Σ a_k u_k and Ĥ = scale·I + Σ w_k u_k u_kᵀ from `gradient` and `hessian`, a direct
    solver gives ĝ/β − Σ_k q_k u_k, where q depends on the n products u_k·ĝ. Those contain u_k
    itself, which correlates Ĥ and ĝ. The correction puts the gradient of the other queries in ĝ's
    place there, ĝ_{−k} = r Σ_{j≠k} a_j u_j, at no cost in passes: u_k·ĝ_{−k} = r (u_k·ĝ −
    a_k‖u_k‖²). r = n/(n−1) makes it unbiased. With ``mean()`` on forward queries r is the paper's
    (n−1)/(n−2), larger by the factor 1 + 1/(n(n−2)) (4/3 at n = 3), so that the defaults are
    ZoVH's product (E18) to the letter, but for the guard of `gram_diagonal`; on a `History` it is
    its reuse form.

    The paper's product is close to ĝ/λ where d ≫ n (measure it against ZoAR with its learning
    rate divided by λ), and may point away from Newton's direction where n is of d's size.

    Spends no queries; three passes over the directions, O(n d) time; ``woodbury`` holds all n
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
    check_options(queries.plan.size, solver, bias_correction, structure)
    shapes = check_params(queries, params)
    plan = queries.plan
    damping = jnp.asarray(_checks.positive("damping", damping), scalar_dtype())
    a = gradient_coefficients(queries, shapes, baseline, weights, self_normalized)
    w, scale = hessian_weights(
        queries, shapes, baseline, baseline.identity_term, weights, self_normalized
    )
    gradient = [
        zeros if leaf is None else leaf
        for leaf, zeros in zip(plan.combine(a, shapes), shapes.zeros(), strict=True)
    ]
    n = jnp.sum(usable(queries, baseline.needs_origin)).astype(scalar_dtype())
    enough = n >= max(baseline.min_queries, 3 if bias_correction else 1)
    if not isinstance(solver, DirectSolver):
        operator = LowRankPlusScaled(plan, w, scale, shapes)
        solution, _ = solver.solve(operator, shapes.unflatten(gradient), damping, key)
        leaves = shapes.treedef.flatten_up_to(solution)
        return cast_leaves([jnp.where(enough, x, jnp.zeros_like(x)) for x in leaves], shapes)

    def grouped(per_leaf):
        return per_leaf if structure == "leaf" else jnp.sum(per_leaf, -1, keepdims=True)

    dots, norms = map(grouped, plan.inner(gradient, shapes))
    base = jnp.broadcast_to(scale + damping, (dots.shape[1],))
    if bias_correction:
        if queries.stencil.paired:  # a's own divisor: pairs need no f(θ)
            n = jnp.sum(queries.valid).astype(scalar_dtype())
        # E[Σ_{j≠k} a_j u_j] = (n−1)/n ∇F_μ whatever the baseline.
        papers = isinstance(baseline, Mean) and not queries.stencil.paired
        rescale = (n - 1) / jnp.maximum(n - 2, 1) if papers else n / jnp.maximum(n - 1, 1)
        dots = (dots - a[:, None] * norms) * rescale

    def gram():
        return grouped(plan.gram(shapes))

    q = solver.coefficients(w, base, damping, dots, norms, gram)
    c = jnp.where(enough, a[:, None] / solver.regularise(base, damping)[None, :] - q, 0)
    return cast_leaves(plan.combine(c if structure == "leaf" else c[:, 0], shapes), shapes)


def check_options(
    num_directions: int, solver: Solver, bias_correction: bool, structure: str
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
    if bias_correction and num_directions < 3:
        raise ValueError(
            "the leave-one-out product (E18) needs at least 3 directions; got num_directions × "
            f"history_size = {num_directions}. Raise either, or pass bias_correction=False."
        )


__all__ = ["newton_direction"]
