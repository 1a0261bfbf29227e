"""2SPSA: Newton's method by simultaneous perturbation, for problems of a few parameters.

Source: Spall, IEEE Trans. Automatic Control 45:10 (2000). Queries per step: 4K.
"""

import dataclasses
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._products import einsum, mv
from zovh_jax._rows import raveled, unraveled
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import Number, PyTree, Schedule
from zovh_jax.baselines import none
from zovh_jax.directions import Directions, Wrapper, masked, rademacher
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.queries import Queries
from zovh_jax.transforms._rounds import (
    Rounds,
    ZerothOrderState,
    descent,
    finite_or_zero,
    saturating_add,
    scheduled,
    transformation,
)


class SPSA2State(NamedTuple):
    """State of `zo_spsa2`.

    Attributes:
      counts: of queries and rounds, and the key.
      hessian: H̄, the average of the estimates so far: a d×d array over the perturbed leaves.
      num_averaged: how many it averages.
    """

    counts: ZerothOrderState
    hessian: jax.Array
    num_averaged: jax.Array


def zo_spsa2(
    num_directions: int,
    radius: Schedule,
    *,
    key: jax.Array,
    gradient_radius: Schedule | None = None,
    regularization: Schedule = 1e-2,
    initial_hessian: Number | None = None,
    max_size: int = 2000,
    mask: PyTree = True,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming updates by 2SPSA's Newton direction.

    Δ and Δ̃ are independent random signs; G and Ĥ are means over K pairs of them:

    - G = (f(θ + cΔ) − f(θ − cΔ))/(2c) Δ,
    - δG = [f(θ + cΔ + c̃Δ̃) − f(θ + cΔ) − f(θ − cΔ + c̃Δ̃) + f(θ − cΔ)]/c̃ Δ̃,
    - Ĥ = ½ (δG Δᵀ + Δ δGᵀ)/(2c), and H̄ ← H̄ + (Ĥ − H̄)/(k + 1), their average after k + 1 steps,
    - emitted: (H̄² + δI)^(−1/2) G: the eigenvalues λ of H̄ become √(λ² + δ), so the matrix is
      positive definite, also where curvature is negative, and the length is at most ‖G‖/√δ.

    Every entry of Ĥ has mean H + O(c², c̃²), on the diagonal too (which values along one random
    sign vector cannot show), and variance of order ‖H‖_F²: H̄ means something only after many
    steps. **The state is a d×d array** and a step costs an eigendecomposition, O(d³): for small
    problems.

    Args:
      num_directions: K, of both Δ and Δ̃.
      radius: c, or a schedule.
      key: ``jax.random.key(seed)``.
      gradient_radius: c̃, or a schedule; None takes c. Spall advises c, or somewhat more.
      regularization: δ > 0, in units of curvature squared, or a schedule.
      initial_hessian: None starts the average with the first Ĥ, as Spall does: then all but two
        eigenvalues are zero and the first steps are about G/√δ. A number h starts it from h·I, as
        though one step had been averaged.
      max_size: the most parameters for which a d×d state is made.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.
      evaluate: as for `zo.zo_gradient`.

    Returns:
      A transformation that emits an ascent direction, 4K queries a step. A direction whose four
      values are not all finite is dropped; without any the update is zero and H̄ stays.

    Raises:
      ValueError: at ``init`` for more than max_size parameters, and as `zo.zo_gradient`.

    Source: Spall 2000, eq. 2.1–2.3 and §II-D for the root.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(jnp.array([1., 100.]) * x ** 2), jnp.ones(2)
      >>> optimizer = optax.chain(
      ...     zo.zo_spsa2(8, 1e-1, key=jax.random.key(0)), optax.scale(-0.1)
      ... )
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> state[0].hessian.shape, int(zo.num_queries(state))
      ((2, 2), 32)
    """
    signs_family = masked(rademacher(), mask)
    _checks.positive("regularization", regularization, schedule=True)
    _checks.positive_int("max_size", max_size)
    if gradient_radius is not None:
        _checks.positive("gradient_radius", gradient_radius, schedule=True)
    if initial_hessian is not None:
        _checks.positive("initial_hessian", initial_hessian)
    k = _checks.positive_int("num_directions", num_directions)
    rounds = Rounds(
        num_directions=4 * k,
        radius=radius,
        key=key,
        directions=_Corners(signs_family, 1.0),
        baseline=none(),
        evaluate=evaluate,
    )

    def init(params):
        size = rounds.layout(params).size
        if size > max_size:
            raise ValueError(
                f"2SPSA holds a d×d Hessian: {size} parameters need {4 * size**2 / 2**20:.0f} MiB "
                f"in float32 and O(d³) time a step, above max_size={max_size}. Use zo.spsa, "
                "zo.hizoo or zo.zovh, or raise max_size."
            )
        start = 0.0 if initial_hessian is None else initial_hessian
        hessian = jnp.asarray(start, scalar_dtype()) * jnp.eye(size, dtype=scalar_dtype())
        averaged = jnp.full((), initial_hessian is not None, jnp.int32)
        return SPSA2State(rounds.init(params), hessian, averaged)

    def step(updates, state, params, value_fn, value):
        del updates, value
        c = scheduled(radius, state.counts.count)
        ratio = jnp.ones_like(c)
        if gradient_radius is not None:
            ratio = scheduled(gradient_radius, state.counts.count) / c
        corners = dataclasses.replace(rounds, directions=_Corners(signs_family, ratio))
        queries, key, new_state = corners.step(state.counts, params, value_fn, None)
        layout = rounds.layout(params)
        signs = raveled(signs_family.draw(key, layout, 2 * k, jnp.arange(2 * k)), 2 * k)
        g, hessian, valid = _estimates(queries, signs, c, ratio)
        weight = 1 / (state.num_averaged.astype(hessian.dtype) + 1)
        use = valid & jnp.all(jnp.isfinite(hessian))
        average = jnp.where(use, state.hessian + weight * (hessian - state.hessian), state.hessian)
        eigenvalues, basis = jnp.linalg.eigh(average)
        root = jnp.sqrt(jnp.square(eigenvalues) + scheduled(regularization, state.counts.count))
        direction = mv(basis, mv(basis.T, g) / root)
        return (
            finite_or_zero(layout.updates(unraveled(direction, layout))),
            SPSA2State(new_state, average, saturating_add(state.num_averaged, use)),
        )

    return transformation("zo_spsa2", init, step)


def spsa2(
    learning_rate: Schedule,
    *,
    radius: Schedule,
    key: jax.Array,
    num_directions: int = 1,
    gradient_radius: Schedule | None = None,
    regularization: Schedule = 1e-2,
    initial_hessian: Number | None = None,
    max_size: int = 2000,
    mask: PyTree = True,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """2SPSA: θ ← θ − a_k (H̄² + δI)^(−1/2) G, H̄ the average of Hessian estimates. For small d.

    Args:
      learning_rate: a_k: a number or a schedule, such as ``spsa_gains(…).learning_rate``.
      radius, key, num_directions, gradient_radius, regularization, initial_hessian, max_size,
        mask, evaluate: as for `zo_spsa2`.

    Returns:
      An optimiser; 4K queries a step. State: a d×d array.

    Raises:
      ValueError: at ``init`` for more than max_size parameters.

    Source: Spall 2000, eq. 2.1–2.3.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.spsa2(0.1, radius=1e-2, initial_hessian=1.0, key=jax.random.key(0))
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))
      4
    """
    return optax.chain(
        zo_spsa2(
            num_directions,
            radius,
            key=key,
            gradient_radius=gradient_radius,
            regularization=regularization,
            initial_hessian=initial_hessian,
            max_size=max_size,
            mask=mask,
            evaluate=evaluate,
        ),
        descent(learning_rate),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class _Corners(Wrapper):
    """Δ, −Δ, Δ + rΔ̃ and −Δ + rΔ̃, K of each: where 2SPSA asks, in one round.

    A round of 2K signs is drawn, the Δs first, then the Δ̃s.
    """

    directions: Directions
    ratio: Any
    joint: ClassVar[bool] = True  # type: ignore[misc]

    def draw(self, key, layout, num_directions, indices):
        k = num_directions // 4
        leaves = []
        for signs in self.directions.draw(key, layout, 2 * k, jnp.arange(2 * k)):
            first, second = signs[:k], signs[k:] * jnp.asarray(self.ratio, signs.dtype)
            corners = jnp.concatenate([first, -first, first + second, second - first])
            leaves.append(corners[indices])
        return leaves


def _estimates(
    queries: Queries, signs: jax.Array, c: jax.Array, ratio: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """G [d], Ĥ [d, d], and whether there is any direction with four finite values."""
    first, second = jnp.split(signs, 2)
    plus, minus, plus_moved, minus_moved = jnp.split(queries.values, 4)
    valid = jnp.all(jnp.stack(jnp.split(queries.valid, 4)), 0)
    n = jnp.maximum(jnp.sum(valid), 1).astype(signs.dtype)
    slopes = jnp.where(valid, plus - minus, 0) / (2 * c * n)
    bends = jnp.where(valid, (plus_moved - plus) - (minus_moved - minus), 0)
    bends = bends / (2 * c * (ratio * c) * n)
    product = einsum("k,ki,kj->ij", bends, second, first)
    return mv(first.T, slopes), (product + product.T) / 2, jnp.any(valid)


__all__ = ["SPSA2State", "spsa2", "zo_spsa2"]
