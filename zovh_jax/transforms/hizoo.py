"""HiZOO and ZOHA: a running diagonal of curvature scales the perturbations and the step.

Source: HiZOO, Zhao et al., arXiv 2402.15173, Alg. 1; ZOHA, Ye et al., arXiv 1812.11377. Queries
per step: 2K + 1, f(θ) included.

With z a random direction, h the state, ℓ± = f(θ ± μ s∘z), ℓ = f(θ), and everything elementwise:

| variant | s | h ← | emitted |
|---|---|---|---|
| ``"paper"`` | 1/√h | (1−α) h + α (|ℓ⁺ + ℓ⁻ − 2ℓ|/(2μ²) · h z² + λ) | (ℓ⁺ − ℓ⁻)/(2μ) · z/√h |
| ``"zovh"`` | 1/h | the same | (ℓ⁺ − ℓ⁻)/(2μ) · h z |

The queries use the old h and the emitted update uses the new one, as in Algorithm 1 and in its
authors' code. Estimates are averaged over K directions; HiZOO has λ = 0. ``"paper"`` emits ∇f/h on
average. ``"zovh"`` is what the code of the ZoVH paper ran under the name HiZOO: it emits
h∘(∇f/h) = ∇f on average, with no preconditioning, and at that code's α = 1e-8 central differences.

h is not the Hessian's diagonal, as the −I of (E8) is dropped: on a quadratic whose Hessian diag(a)
is positive, E[|…|/(2μ²) h z²] = a + ½ Σ_j(a_j/h_j) · h. The mean update has one fixed point,
h = (d+2)/2 · a. The scale of h gets there within about 1/α steps, the ratios between its elements
within about d/(2α). |·| is taken of a sum over all coordinates: negative curvature changes sign
along z as a whole, not for each parameter.
"""

import dataclasses
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import Number, PyTree, Schedule
from zovh_jax.baselines import origin
from zovh_jax.directions import Directions, gaussian, scaled
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.estimators.weights import usable
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.queries import Queries
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import three_point
from zovh_jax.transforms._rounds import (
    Rounds,
    ZerothOrderState,
    by_share,
    descent,
    scheduled,
    transformation,
)

VARIANTS = ("paper", "zovh")


class HiZOOState(NamedTuple):
    """State of `zo_hizoo`.

    Attributes:
      counts: of queries and rounds, and the key.
      curvature: h, a tree like params in float32 or wider, None where frozen: one copy of the
        parameters.
    """

    counts: ZerothOrderState
    curvature: PyTree


def zo_hizoo(
    num_directions: int,
    radius: Schedule,
    *,
    key: jax.Array,
    smoothing: Schedule = 1e-6,
    damping: Schedule = 0.0,
    variant: Literal["paper", "zovh"] = "paper",
    floor: Number = 1e-8,
    directions: Directions = gaussian(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
    reduce: Literal["mean"] | None = None,
    common_key: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming updates by HiZOO's: a gradient divided by a running diagonal h.

    Args:
      num_directions: K, directions a step.
      radius: μ, or a schedule. The points are θ ± μ z/√h, with h = 1 at the start. Once h has
        settled, ℓ⁺ + ℓ⁻ − 2ℓ is about 2μ²; rounding then inflates h unless μ is well above
        √(ε|ℓ|), with ε = 6e-8 in float32: 0.01 where values are about 1000.
      key: ``jax.random.key(seed)``.
      smoothing: α in [0, 1], or a schedule. The authors used constants from 1e-12 to 1e-2 (1e-8 in
        their example), warm-ups, and 1e-6 with 1e-8 from step 9800 on
        (``optax.piecewise_constant_schedule(1e-6, {9800: 1e-2})``). Float32 loses what adds less
        than 6e-8·h: α = 1e-8 moves h only where the curvature is far above it.
      damping: λ ≥ 0 added to the curvature (ZOHA's +λI), or a schedule. HiZOO has none.
      variant: "paper", or "zovh": see the module's docstring.
      floor: the least value of h: a guard that the paper lacks, and that α below 1 never needs.
      directions: the family of z. ``sphere`` and ``orthogonal`` change the fixed point of h to
        d/2 · diag(H); ``low_rank`` also shows the curvature of a matrix's other entries in the same
        row and column; ``rademacher`` is an error, as z² = 1 cannot tell coordinates apart.
      evaluate, shaping, reduce, common_key: as for `zo.zo_gradient`; ``ranks()`` is refused.

    Returns:
      A transformation that emits an ascent direction, 2K + 1 queries a step (2K where ``value`` is
      given). Memory: h, one copy of the parameters. A pair is dropped where either value is not
      finite; h stays where f(θ), or the new h, is not finite.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`.

    Source: HiZOO (arXiv 2402.15173), Alg. 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(jnp.array([1., 100.]) * x ** 2), jnp.ones(2)
      >>> optimizer = optax.chain(
      ...     zo.zo_hizoo(4, 1e-2, smoothing=1e-2, key=jax.random.key(0)), optax.scale(-0.1)
      ... )
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> state[0].curvature.shape
      (2,)
    """
    _checks.nonnegative("smoothing", smoothing, most=1, schedule=True)
    _checks.nonnegative("damping", damping, schedule=True)
    _checks.positive("floor", floor)
    if variant not in VARIANTS:
        raise ValueError(f"variant must be 'paper' or 'zovh', got {variant!r}.")
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        stencil=three_point(),
        baseline=origin(),
        evaluate=evaluate,
        shaping=shaping,
        reduce=reduce,
        common_key=common_key,
    )
    rounds.check_curvature()
    if not (directions.isotropic and directions.sees_diagonal):
        raise ValueError(
            f"HiZOO sees curvature in the differences between the squares of z: directions="
            f"{directions!r} do not give them. Use directions=zo.directions.gaussian()."
        )

    def init(params):
        layout = rounds.layout(params)
        return HiZOOState(rounds.init(params), layout.tree(layout.filled(1.0)))

    def step(updates, state, params, value_fn, value):
        del updates
        old = state.curvature
        scale = jax.tree.map(jax.lax.rsqrt if variant == "paper" else jnp.reciprocal, old)
        along = dataclasses.replace(rounds, directions=scaled(directions, scale))
        queries, _, new_state = along.step(state.counts, params, value_fn, value)
        layout = rounds.layout(params)
        slopes = queries.plan.combine(gradient_coefficients(queries, layout, origin()), layout)
        squares = queries.plan.combine_squares(_curvatures(queries), layout)
        enough = jnp.any(usable(queries, needs_origin=True))
        alpha, extra_curvature = (scheduled(x, state.counts.count) for x in (smoothing, damping))
        emitted, curvature = [], []
        leaves = (jax.tree.leaves(tree) for tree in (old, scale))
        for g, q, h, s in zip(slopes, squares, *leaves, strict=True):
            # g and q are sums over the plan's directions s∘z: Σ_k w_k z_k² = q/s², and so for g.
            estimate = h * (q / jnp.square(s)) + extra_curvature.astype(h.dtype)
            new = h + alpha.astype(h.dtype) * (estimate - h)
            new = jnp.maximum(new, jnp.asarray(floor, h.dtype))
            new = jnp.where(enough & jnp.isfinite(new), new, h)
            emitted.append(g / s * (jax.lax.rsqrt(new) if variant == "paper" else new))
            curvature.append(new)
        direction = by_share(layout.updates(emitted), queries, origin())
        return direction, HiZOOState(new_state, layout.tree(curvature))

    return transformation("zo_hizoo", init, step)


def hizoo(
    learning_rate: Schedule,
    *,
    radius: Schedule,
    key: jax.Array,
    num_directions: int = 1,
    smoothing: Schedule = 1e-6,
    damping: Schedule = 0.0,
    variant: Literal["paper", "zovh"] = "paper",
    floor: Number = 1e-8,
    directions: Directions = gaussian(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """HiZOO: θ ← θ − η (ℓ⁺ − ℓ⁻)/(2μ) z/√h, h a running diagonal of curvature.

    Args:
      learning_rate: η, or a schedule.
      radius, key, num_directions, smoothing, damping, variant, floor, directions, evaluate,
        shaping: as for `zo_hizoo`.

    Returns:
      An optimiser; 2K + 1 queries a step (2K where ``value`` is given). State: h, one copy of the
      parameters.

    Raises:
      ValueError, TypeError: as `zo_hizoo`.

    Source: HiZOO (arXiv 2402.15173), Alg. 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(jnp.array([1., 100.]) * x ** 2), jnp.ones(2)
      >>> optimizer = zo.hizoo(0.1, radius=1e-2, smoothing=0.1, key=jax.random.key(0))
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))
      3
    """
    return optax.chain(
        zo_hizoo(
            num_directions,
            radius,
            key=key,
            smoothing=smoothing,
            damping=damping,
            variant=variant,
            floor=floor,
            directions=directions,
            evaluate=evaluate,
            shaping=shaping,
        ),
        descent(learning_rate),
    )


def zoha(
    learning_rate: Schedule,
    *,
    radius: Schedule,
    damping: Schedule,
    key: jax.Array,
    num_directions: int = 1,
    directions: Directions = gaussian(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """ZOHA-style: HiZOO with α = 1, so without an average over steps, and with +λ.

    h ← mean_k |ℓ⁺ + ℓ⁻ − 2ℓ|/(2μ²) · h z² + λ. Ye et al. estimate a Hessian along plain directions,
    with queries of its own, and add λI. Here the diagonal of their Gaussian-smoothing estimate
    comes from the queries of the gradient, along the scaled directions of HiZOO. Without an average
    h is a product of random numbers, which only λ keeps from vanishing: it needs K well above 1.

    Args:
      learning_rate: η, or a schedule.
      damping: λ ≥ 0, or a schedule.
      radius, key, num_directions, directions, evaluate, shaping: as for `zo_hizoo`.

    Returns:
      An optimiser; 2K + 1 queries a step (2K where ``value`` is given). State: h, one copy of the
      parameters.

    Raises:
      ValueError, TypeError: as `zo_hizoo`.

    Source: ZOHA (arXiv 1812.11377), the Gaussian-smoothing variant.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(jnp.array([1., 100.]) * x ** 2), jnp.ones(2)
      >>> optimizer = zo.zoha(
      ...     0.1, num_directions=8, radius=1e-2, damping=1.0, key=jax.random.key(0)
      ... )
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))
      17
    """
    return hizoo(
        learning_rate,
        radius=radius,
        key=key,
        num_directions=num_directions,
        smoothing=1.0,
        damping=damping,
        directions=directions,
        evaluate=evaluate,
        shaping=shaping,
    )


def _curvatures(queries: Queries) -> jax.Array:
    """|ℓ⁺ + ℓ⁻ − 2ℓ|/(2μ²) over the number of directions that have it, [K]; zero for the others."""
    valid = usable(queries, needs_origin=True)
    assert queries.origins is not None
    n = jnp.sum(valid).astype(scalar_dtype())
    differences = jnp.where(valid, queries.even - queries.origins, 0)
    return jnp.abs(differences) / jnp.square(queries.radii) / jnp.maximum(n, 1)


__all__ = ["HiZOOState", "hizoo", "zo_hizoo", "zoha"]
