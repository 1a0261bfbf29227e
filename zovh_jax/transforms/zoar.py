"""ZoAR: averaged baseline and query reuse.

Source: arXiv 2506.14460, eq. 6 and Alg. 1. Estimator: (E15). Queries per step: K with the default
forward stencil.
"""

import jax
import optax

from zovh_jax._types import Schedule
from zovh_jax.baselines import mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.reuse import Reuse, levels
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.zo_gradient import zo_gradient


def zoar(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    history_size: int = 4,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    evaluate: Evaluator = vmapped(),
    store_directions: bool = False,
    reuse: Reuse = levels(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """ZoAR: θ ← θ − η/(NK − 1) Σ (F − F̄)/μ u over the last N rounds.

    The paper takes one mean F̄ over all of them: ``reuse=zo.reuse.uniform()``. The default gives
    each round a level of its own as far as levels differ, so that it may be used on minibatches.

    With Gaussian directions a round estimates ∇F_μ (E1) without bias. On the sphere, ‖u‖² = d (Thm
    3.3; ``directions=zo.directions.sphere()``), it does so for the gradient of E f(θ + v), with v
    uniform in the ball of radius μ√d. For other baselines chain ``zo.zo_gradient(…),
    optax.scale_by_learning_rate(η)``.

    Args:
      learning_rate: η, or a schedule.
      history_size: N, rounds that an estimate is made from, the current one included.
      num_directions, radius, key, directions, stencil, evaluate, store_directions, reuse,
        shaping: as for `zo.zo_gradient`.

    Returns:
      An optimiser; K queries a step (2K central, 2K + 1 three_point). State: N keys, N radii and
      N·K values.

    Raises:
      ValueError, TypeError: as `zo.zo_gradient`.

    Source: ZoAR, eq. 6 and Alg. 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.zoar(0.05, num_directions=4, radius=1e-2, key=jax.random.key(0))
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))
      4
    """
    return optax.chain(
        zo_gradient(
            num_directions,
            radius,
            key=key,
            directions=directions,
            stencil=stencil,
            baseline=mean(),
            history_size=history_size,
            evaluate=evaluate,
            store_directions=store_directions,
            reuse=reuse,
            shaping=shaping,
        ),
        descent(learning_rate),
    )


__all__ = ["zoar"]
