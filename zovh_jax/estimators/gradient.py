"""Gradients from values (E13–E15)."""

from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout
from zovh_jax._types import PyTree
from zovh_jax.baselines import Baseline, mean
from zovh_jax.estimators.weights import based, centred, check_baseline, importance
from zovh_jax.queries import Queries, check_params


def gradient(
    queries: Queries,
    params: PyTree,
    *,
    baseline: Baseline = mean(),
    weights: Any = None,
    self_normalized: bool = False,
) -> PyTree:
    """An unbiased estimate of ∇F_μ, the gradient of the smoothed objective.

    - forward stencil: Σ_k c_k u_k / μ with the baseline's c_k: (E13) with ``origin()``, (E15) with
      ``mean()``, ZoAR when the queries come from a `History`.
    - paired stencils: (1/n) Σ_k (F⁺ − F⁻)/(2μ) u_k (E14); the baseline cancels in the pair and is
      ignored.

    Bias against ∇f: O(μ²) times third derivatives (E[uuᵀ] = I makes it exact on quadratics).
    Spends no queries. Memory: one copy of the parameters beyond what the replay holds.

    A random objective. If all queries of a round see the same examples and key, as they do unless
    ``common_key=False``, this is an estimate of the gradient of that one sampled objective: a
    constant error cancels, and a small radius costs nothing. With independent errors of variance σ²
    it stays unbiased, and has in addition the error below; there the radius must not be small.

    Rounds of different radii, in a `History`, count alike: the estimate is of the mean of their
    ∇F_μ. Independent noise of standard deviation σ in the values makes an error of variance σ²/μ²
    times ‖u‖² a direction (half that for pairs): where it dominates, ``weights=queries.radii ** 2,
    self_normalized=True`` is the weighting of least variance. A missing value that is not missing
    at random makes a bias: see `zo.baselines`. Where f(θ) is missing and the baseline needs it, the
    mean of the round's other values stands in for it.

    Args:
      queries: from `zo.query`, `Queries.from_values` or `History.queries`. Queries that are NaN or
        ±Inf are dropped, and divisors count those that are left.
      params: a tree with the shapes and dtypes of the parameters.
      baseline: what to subtract from the values; see `zo.baselines`.
      weights: importance ratios W_k = π(u_k)/ρ(u_k) for directions that come from another law (E5),
        [n]. Exactly unbiased with ``leave_one_out()``; with ``mean()`` up to O(1/n).
      self_normalized: divide the ratios by their mean: less variance, bias O(1/n).

    Returns:
      A tree like params; zero with fewer finite queries than the baseline needs.

    Raises:
      ValueError: if the baseline needs f(θ) or more queries than there are.

    Source: ZoAR (arXiv 2506.14460) Thm 3.1–3.2, eq. 6.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=2000, radius=1e-2)
      >>> bool(jnp.allclose(zo.estimators.gradient(queries, x), 2 * x, atol=0.3))
      True
    """
    layout = check_params(queries, params)
    c = gradient_coefficients(queries, layout, baseline, weights, self_normalized)
    return layout.updates(queries.plan.combine(c, layout))


def gradient_coefficients(
    queries: Queries,
    layout: Layout,
    baseline: Baseline,
    weights: Any = None,
    self_normalized: bool = False,
) -> jax.Array:
    """a_k such that the gradient is Σ_k a_k u_k, [n]."""
    if queries.stencil.paired:
        valid = queries.valid
        ratios, _ = importance(weights, queries, valid, self_normalized)
        n = jnp.sum(valid).astype(ratios.dtype)
        c = ratios * jnp.where(valid, queries.odd, 0) / jnp.maximum(n, 1)
    else:
        check_baseline(queries, baseline, "gradient")
        valid = based(queries, baseline)
        ratios, normalized = importance(weights, queries, valid, self_normalized)
        c = centred(queries.odd, queries, baseline, ratios, normalized, valid, layout, order=1)
    return c / queries.radii


__all__ = ["gradient"]
