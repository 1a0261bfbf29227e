"""ZO-SAH: Newton steps in random 2-dimensional subspaces, whose queries are used again.

Source: ZO-SAH, arXiv 2507.06125. Queries per step, with J subspaces of q dimensions: 1 + J·q, and
J·q(q+1)/2 more in the steps that switch subspaces (the first, then every 20th by default).
"""

from typing import Literal

import jax
import optax

from zovh_jax._types import Schedule
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.sah.zo_sah_direction import zo_sah_direction


def zo_sah(
    learning_rate: Schedule,
    *,
    num_subspaces: int,
    radius: Schedule,
    key: jax.Array,
    curvature_radius: Schedule | None = None,
    switch_every: int = 20,
    clip: Schedule = 0.1,
    ridge: Schedule = 0.3,
    ridge_towards: Literal["previous", "zero"] = "previous",
    subspace_dimension: int = 2,
    isotropy_tolerance: Schedule | None = None,
    num_probes: int = 1,
    pairing: Literal["random", "coupled"] = "random",
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """ZO-SAH: θ ← θ − η Σ_j P_jᵀ |H_j|⁻¹ g_j, in random pairs of parameters by default.

    Args:
      learning_rate: η, or a schedule. 1 is Newton's step in each subspace, right for a quadratic
        whose subspaces do not interact. Where they do, `zo_sah_direction` shortens the steps.
      num_subspaces, radius, key, curvature_radius, switch_every, clip, ridge, ridge_towards,
        subspace_dimension, isotropy_tolerance, num_probes, pairing, evaluate: as for
        `zo_sah_direction`.

    Returns:
      An optimiser; 1 + 2·num_subspaces queries a step, 1 + 5·num_subspaces in every 20th.

    Raises:
      ValueError, TypeError: as `zo_sah_direction`.

    Source: ZO-SAH (arXiv 2507.06125).

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f = lambda x: jnp.sum(jnp.array([1.0, 10.0, 100.0, 1000.0]) * x ** 2)
      >>> x = jnp.ones(4)
      >>> optimizer = zo.zo_sah(0.5, num_subspaces=1, radius=0.01, key=jax.random.key(0),
      ...                       switch_every=5)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(60):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> float(f(x)) < 0.1
      True
    """
    return optax.chain(
        zo_sah_direction(
            num_subspaces,
            radius,
            key=key,
            curvature_radius=curvature_radius,
            switch_every=switch_every,
            clip=clip,
            ridge=ridge,
            ridge_towards=ridge_towards,
            subspace_dimension=subspace_dimension,
            isotropy_tolerance=isotropy_tolerance,
            num_probes=num_probes,
            pairing=pairing,
            evaluate=evaluate,
        ),
        descent(learning_rate),
    )


__all__ = ["zo_sah"]
