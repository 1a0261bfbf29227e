"""Zeroth-order gradient descent: classical finite differences along random directions (ZOO).

Estimator: (E13). Queries per step: K + 1 (forward, the centre included), 2K (central), 2K + 1
(three_point).
"""

import jax
import optax

from zovh_jax._types import Schedule
from zovh_jax.baselines import Baseline, origin
from zovh_jax.directions import Directions, gaussian
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.zo_gradient import zo_gradient


def zo_sgd(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    key: jax.Array,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = origin(),
    evaluate: Evaluator = vmapped(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """Zeroth-order gradient descent: classical forward differences (E13) by default.

    θ ← θ − η/K Σ (F − f0)/μ u: vanilla ZOO with Gaussian directions, or on the sphere with
    ``directions=zo.directions.sphere()``. The divisor is K, as f0 is not one of the F. The code
    published with ZoVH divides by K − 1 instead: its η is K/(K − 1) η here. For query reuse or
    stored directions chain ``zo.zo_gradient(…)`` with ``optax.scale_by_learning_rate(η)``.

    Args:
      learning_rate: η, or a schedule.
      num_directions, radius, key, directions, stencil, baseline, evaluate, shaping: as for
        `zo_gradient`.

    Returns:
      An optimiser; K + 1 queries a step by default. State: scalars.

    Raises:
      ValueError, TypeError: as `zo_gradient`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.zo_sgd(0.05, num_directions=8, radius=1e-2, key=jax.random.key(0))
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(50):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> float(f(x)) < 1e-3
      True
    """
    return optax.chain(
        zo_gradient(
            num_directions,
            radius,
            key=key,
            directions=directions,
            stencil=stencil,
            baseline=baseline,
            evaluate=evaluate,
            shaping=shaping,
        ),
        descent(learning_rate),
    )


__all__ = ["zo_sgd"]
