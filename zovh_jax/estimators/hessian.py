"""Hessians from values (E6–E12), as operators."""

from typing import Any

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout
from zovh_jax._types import PyTree
from zovh_jax.baselines import Baseline, Origin, Past, mean
from zovh_jax.directions import Directions
from zovh_jax.estimators.weights import (
    based,
    centred,
    check_baseline,
    check_values,
    importance,
    usable,
)
from zovh_jax.operators import LowRankPlusScaled
from zovh_jax.queries import Queries, check_params


def hessian(
    queries: Queries,
    params: PyTree,
    *,
    baseline: Baseline = mean(),
    identity_term: bool | None = None,
    weights: Any = None,
    self_normalized: bool = False,
) -> LowRankPlusScaled:
    """An estimate of ∇²F_μ as scale·I + Σ_k w_k u_k u_kᵀ, never as a d×d array.

    | estimator | stencil | baseline | identity_term |
    |---|---|---|---|
    | S1 (E6) | forward | ``none()`` | True |
    | S2 (E7) | forward | ``origin()`` | True |
    | S3 (E8) | three_point | ``origin()`` | True |
    | CD (E9), biased by ½ tr(H)·I | three_point | ``origin()`` | False |
    | ZoVH (E10) | forward | ``mean()`` | False |
    | ZoVH with reuse (E11) | forward, from a `History` | ``mean()`` | False |
    | least variance (E12) | any | ``variance_optimal()`` | True |

    All but CD are unbiased for ∇²F_μ with Gaussian directions, so biased against ∇²f by O(μ²)
    times fourth derivatives. A paired stencil uses (F⁺ + F⁻)/2 for F, which drops the slope's
    noise. Spends no queries; memory: n weights (and the plan).

    A random objective: with common examples and key in a round this is an estimate of the sampled
    objective's Hessian. Independent errors of variance σ² leave it unbiased and add an error of
    variance σ²/μ⁴ a direction, which needs a large radius.

    Rounds of different radii, in a `History`, are averaged as they are: the estimate is of the mean
    of their ∇²F_μ, and exact on average for a quadratic. Noise of standard deviation σ in the
    values makes an error of variance σ²/μ⁴ times ‖u uᵀ‖_F² a direction, so that a round at half
    the radius counts as much as the others and is 16 times as noisy. Where noise dominates,
    ``weights=queries.radii ** 4, self_normalized=True`` is the weighting of least variance.

    On ‖u‖² = d (``sphere``, ``orthogonal``) the sum sees only d/(d+2)·(H − tr(H)/d·I). With
    ``origin()`` the mean of the values gives the trace, so the estimate uses (d+2)/d·uuᵀ − I
    instead and is unbiased on quadratics. With other baselines the trace is lost: an error.
    ``rademacher`` cannot see the diagonal at all: an error.

    Args:
      queries: as for `gradient`.
      params: a tree with the shapes and dtypes of the parameters.
      baseline: what to subtract from the values.
      identity_term: whether to subtract I from u uᵀ. None subtracts it, but takes the coefficients
        of ``mean()`` to add up to zero: the term then vanishes at one radius, and only its part
        from different radii, in a `History`, is subtracted. (With importance ``weights`` they add
        up to zero only if ``self_normalized``.) False leaves the estimate of several radii biased
        by Σ_k (F_k − F̄)/((n − 1) μ_k²)·I.
      weights: importance ratios (E5), as for `gradient`.
      self_normalized: divide the ratios by their mean.

    Returns:
      A `LowRankPlusScaled`; zero with fewer finite queries than the baseline needs.

    Raises:
      ValueError: if the directions cannot identify the Hessian with this baseline, or the baseline
        needs f(θ) or more queries than there are.

    Source: ZoVH (arXiv 2605.30960) Lem 3.1, Prop 3.2–3.7.

    Example:
      >>> import jax, jax.numpy as jnp, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2 * jnp.array([1., 2.])), jnp.ones(2)
      >>> queries = zo.query(f, x, jax.random.key(0), num_directions=20_000, radius=0.1,
      ...                    stencil=zo.stencils.three_point())
      >>> H = zo.estimators.hessian(queries, x, baseline=zo.baselines.origin())
      >>> bool(jnp.allclose(H.as_matrix(), jnp.diag(jnp.array([2., 4.])), atol=0.3))
      True
    """
    layout = check_params(queries, params)
    w, scale = hessian_weights(queries, layout, baseline, identity_term, weights, self_normalized)
    return LowRankPlusScaled(queries.plan, w, scale, layout)


def hessian_weights(
    queries: Queries,
    layout: Layout,
    baseline: Baseline,
    identity_term: bool | None = None,
    weights: Any = None,
    self_normalized: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """w_k, [n], and the scale of the identity, []."""
    check_baseline(queries, baseline, "hessian")
    check_values(queries, "a Hessian")
    directions = queries.plan.directions
    known = baseline.identity_term if identity_term is None else identity_term
    check_moments(directions, baseline, known)
    # No mean can stand in for f(θ) on the sphere, where f(θ) tells the trace, or without the −I.
    strict = on_sphere(directions) or not known
    valid = usable(queries, baseline.needs_origin) if strict else based(queries, baseline)
    ratios, normalized = importance(weights, queries, valid, self_normalized)
    c = centred(queries.even, queries, baseline, ratios, normalized, valid, layout, order=2)
    w = c / jnp.square(queries.radii)
    scale = jnp.zeros((), w.dtype)
    if known:
        scale = -jnp.sum(w)
    elif identity_term is None:
        # The c_k add up to zero, but the c_k/μ_k² of different radii don't. This form of their sum
        # is exactly zero where there is one radius.
        squares = 1 / jnp.square(queries.radii)
        scale = -jnp.sum(c * (squares - jnp.max(squares)))
    if on_sphere(directions):
        d = layout.size
        w = w * ((d + 2) / d)
    return w, scale


def check_moments(directions: Directions, baseline: Baseline, identity_term: bool) -> None:
    """Raises where these directions would silently give something else than the Hessian."""
    if isinstance(baseline, Past):
        raise ValueError(
            "baseline=past(trace) follows ‖u‖², which would take trace/d·I off a Hessian: it is "
            "for gradients. Use zo.baselines.mean() or origin()."
        )
    if directions.gaussian_moments or directions.given:
        return
    if directions.constant_norm and not directions.sees_diagonal:
        raise ValueError(
            "rademacher and hadamard directions cannot see the Hessian's diagonal (u_i² = 1): use "
            "directions=zo.directions.gaussian()."
        )
    if not on_sphere(directions):
        raise ValueError(
            f"directions={directions!r} do not say that they have the moments of a Gaussian, which "
            "averaged Hessians need (scaled ones have E[u uᵀ] = diag(scale²), not I): use "
            "directions=zo.directions.gaussian(), or set gaussian_moments = True on a family of "
            "your own that has them."
        )
    if not (isinstance(baseline, Origin) and identity_term):
        raise ValueError(
            f"sphere and orthogonal directions have constant norm, so with baseline={baseline!r} "
            f"and identity_term={identity_term} they lose the Hessian's trace: use "
            "baseline=zo.baselines.origin() with its identity term, or "
            "directions=zo.directions.gaussian()."
        )


def on_sphere(directions: Directions) -> bool:
    """Whether directions are uniform on the sphere ‖u‖² = d, whose fourth moments are known."""
    return directions.rotation_invariant and directions.constant_norm


__all__ = ["check_moments", "hessian", "hessian_weights"]
