"""FZOO: steps along signs, in units of how far the round's values spread.

Source: Dang et al., "FZOO: Fast Zeroth-Order Optimizer for Fine-Tuning Large Language Models
towards Adam-Scale Speed", ICLR 2026, arXiv 2506.09034. Estimator: (E13). Queries per step: K + 1.
"""

import jax
import jax.numpy as jnp
import optax

from zovh_jax._types import Schedule
from zovh_jax.baselines import origin
from zovh_jax.directions import Directions, rademacher
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.transforms._rounds import Rounds, descent, finite_or_zero, transformation


def fzoo(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    directions: Directions = rademacher(),
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """FZOO: θ ← θ − η ĝ/σ with forward differences ĝ along signs.

    With F_k = f(θ + μ u_k) and F̄ their mean:

    - ĝ = 1/(μK) Σ_k (F_k − f(θ)) u_k
    - σ² = 1/(K − 1) Σ_k (F_k − F̄)²

    For small μ, σ is about μ‖∇f‖: a normalised gradient step, which goes about η/μ along the
    gradient however large f is. So η/μ is what to tune: the best η for one μ is not the best for
    another.

    Args:
      learning_rate: η, or a schedule. The authors' program has no 1/μ, and K for K − 1 in σ²: its
        rate is √((K − 1)/K) η/μ, so that 5e-5 with μ = 1e-4 there is about 5e-9 here.
      num_directions: K, at least 2; 8 in the authors' program.
      radius, key, directions, evaluate: as for `zo_gradient`.

    Returns:
      An optimiser; K + 1 queries a step, f(θ) included, K where ``value=f(params)`` is passed.
      Where all values are equal or fewer than two are finite, nothing moves; where f(θ) is missing,
      the mean of the round's other values stands in for it. State: scalars.

    Raises:
      ValueError, TypeError: as `zo_gradient`; a ``num_directions`` below 2.

    Source: arXiv 2506.09034, the update of FZOO in full precision. The equations are from a
    transcription of the paper and agree with the authors' program but for the factors above; the
    paper's own text could not be read, so they go without its numbers. Not here: FZOO-R, which
    uses the last round's values again, and the batched forward pass of the authors' program.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(8)
      >>> optimizer = zo.fzoo(1e-3, num_directions=8, radius=1e-2, key=jax.random.key(0))
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(40):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1), int(zo.num_queries(state))  # from 8
      (True, 360)
    """
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        baseline=origin(),
        evaluate=evaluate,
    )
    if num_directions < 2:
        raise ValueError(
            f"num_directions must be at least 2, as a step is divided by the values' standard "
            f"deviation; got {num_directions}."
        )

    def step(updates, state, params, value_fn, value):
        del updates
        queries, _, state = rounds.step(state, params, value_fn, value)
        layout = rounds.layout(params)
        c = gradient_coefficients(queries, layout, rounds.baseline)
        spread = state.summary.last_spread
        c = jnp.where(spread > 0, c / jnp.where(spread > 0, spread, 1), 0)
        return finite_or_zero(layout.updates(queries.plan.combine(c, layout))), state

    return optax.chain(transformation("fzoo", rounds.init, step), descent(learning_rate))


__all__ = ["fzoo"]
