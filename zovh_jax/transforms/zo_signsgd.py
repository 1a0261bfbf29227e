"""ZO-signSGD: steps of constant size along the signs of a gradient estimate.

Source: Liu et al., "signSGD via Zeroth-Order Oracle", ICLR 2019, Alg. 1. Estimator: (E13). Queries
per step: K + 1 (forward, the centre included), 2K (central), 2K + 1 (three_point).
"""

import jax
import jax.numpy as jnp
import optax

from zovh_jax._rows import row_sum
from zovh_jax._types import Schedule
from zovh_jax.baselines import Baseline, origin
from zovh_jax.directions import Directions, gaussian
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.queries import Queries, check_params
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._precision import on_floats
from zovh_jax.transforms._rounds import Rounds, descent, finite_or_zero, transformation
from zovh_jax.transforms.zo_gradient import zo_gradient


def zo_signsgd(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    majority_vote: bool = False,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = origin(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """ZO-signSGD: θ ← θ − η sign(ĝ), elementwise.

    For what it lacks, such as query reuse, chain ``zo.zo_gradient(…), optax.scale_by_sign(),
    optax.scale_by_learning_rate(η)``.

    Args:
      learning_rate: η, or a schedule: how far every parameter moves.
      majority_vote: let every direction vote for a sign, sign(Σ_k sign(ĝ_k)) with the K
        one-direction estimates ĝ_k = (F_k − f0)/μ u_k, rather than average them first: sign(ĝ).
        (ZO-M-signSGD in the paper.) A tie moves nothing.
      num_directions, radius, key, directions, stencil, baseline, evaluate, shaping: as for
        `zo_gradient`. The paper draws on the sphere, ``directions=zo.directions.sphere()``; K = 1
        gives the same signs for both. Its central variant is ``stencil=zo.stencils.central()``.

    Returns:
      An optimiser; K + 1 queries a step by default. Parameters that got no direction, and all of
      them where no query was finite, stay. State: scalars.

    Raises:
      ValueError, TypeError: as `zo_gradient`.

    Source: Liu et al., ICLR 2019, Alg. 1 and its variants.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.zo_signsgd(0.25, num_directions=8, radius=1e-2, key=jax.random.key(0))
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> [abs(float(u)) for u in updates], int(zo.num_queries(state))
      ([0.25, 0.25, 0.25], 9)
    """
    estimate = _sum_of_signs if majority_vote else zo_gradient
    return optax.chain(
        estimate(
            num_directions,
            radius,
            key=key,
            directions=directions,
            stencil=stencil,
            baseline=baseline,
            evaluate=evaluate,
            shaping=shaping,
        ),
        on_floats(optax.scale_by_sign()),
        descent(learning_rate),
    )


def _sum_of_signs(
    num_directions, radius, *, key, directions, stencil, baseline, evaluate, shaping
) -> optax.GradientTransformationExtraArgs:
    """Replaces the incoming updates by Σ_k sign(ĝ_k), the votes of one round."""
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        stencil=stencil,
        baseline=baseline,
        evaluate=evaluate,
        shaping=shaping,
    )

    def step(updates, state, params, value_fn, value):
        del updates
        queries, _, state = rounds.step(state, params, value_fn, value)
        return finite_or_zero(_count_votes(queries, params, baseline)), state

    return transformation("zo_signsgd", rounds.init, step)


def _count_votes(queries: Queries, params, baseline: Baseline):
    """Σ_k sign(c_k) sign(u_k), over blocks of directions; a dropped query has c_k = 0."""
    layout = check_params(queries, params)
    signs = jnp.sign(gradient_coefficients(queries, layout, baseline))

    def add(votes, block, c):
        return [v + row_sum(c, jnp.sign(u)) for v, u in zip(votes, block, strict=True)], ()

    votes, _ = queries.plan.fold(layout, add, layout.zeros(), signs)
    return layout.updates(votes)


__all__ = ["zo_signsgd"]
