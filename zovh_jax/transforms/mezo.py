"""MeZO: two-point SPSA with Gaussian directions that are drawn again rather than stored.

Source: Malladi et al., NeurIPS 2023, arXiv 2305.17333, Alg. 1. Estimator: (E14). Queries per step:
2K, two by default.
"""

import jax
import optax

from zovh_jax._types import PyTree, Schedule
from zovh_jax.directions import Directions, gaussian
from zovh_jax.evaluators import Evaluator, chunked
from zovh_jax.shaping import Shaping, none
from zovh_jax.stencils import central
from zovh_jax.transforms._precision import on_perturbed
from zovh_jax.transforms._rounds import descent
from zovh_jax.transforms.zo_gradient import zo_gradient


def mezo(
    learning_rate: Schedule,
    *,
    radius: Schedule,
    key: jax.Array,
    num_directions: int = 1,
    weight_decay: Schedule = 0.0,
    weight_decay_mask: PyTree | None = None,
    directions: Directions = gaussian(),
    evaluate: Evaluator = chunked(1, redraw=True),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """MeZO: θ ← θ − η [(F⁺ − F⁻)/(2μ) u + w θ], one direction at a time.

    For other stencils, baselines or query reuse chain ``zo.zo_gradient(…),
    optax.add_decayed_weights(w), optax.scale_by_learning_rate(η)``.

    Args:
      learning_rate: η, or a schedule.
      radius: μ (ε in the paper, 1e-3 there), or a schedule.
      key: ``jax.random.key(seed)``.
      num_directions: K, the paper's n of n-SPSA: the estimate is the mean over K directions.
      weight_decay: w, or a schedule; added to the gradient, so that η multiplies it too.
      weight_decay_mask: a tree of bools like params (or a prefix, or a function that makes it):
        what decays; frozen leaves never do. The paper's code leaves out biases and layer norms.
      directions: the family; ``gaussian(fast=True)`` needs the least memory.
      evaluate: ``chunked(1, redraw=True)``: a copy of the parameters at a time, whatever K is.
      shaping: as for `zo.zo_gradient`.

    Returns:
      An optimiser; 2K queries a step. State: scalars. Memory beyond the parameters: one copy of
      them with K = 1 and two with more (a direction and the sum), and a generator's temporary
      arrays, a few largest leaves, least with ``gaussian(fast=True)``. This holds for a compiled
      step that includes ``optax.apply_updates`` and donates its parameters
      (``jax.jit(step, donate_argnums=(0, 1))``, as below); what ``value_fn`` takes is extra.

    Raises:
      ValueError, TypeError: as `zo_gradient`.

    Source: MeZO (arXiv 2305.17333), Alg. 1 and 2.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(3)
      >>> optimizer = zo.mezo(0.05, radius=1e-3, key=jax.random.key(0))
      >>> def step(x, state):
      ...     updates, state = optimizer.update(None, state, x, value_fn=f)
      ...     return optax.apply_updates(x, updates), state
      >>> step, state = jax.jit(step, donate_argnums=(0, 1)), optimizer.init(x)
      >>> for _ in range(100):
      ...     x, state = step(x, state)
      >>> float(f(x)) < 1e-2, int(zo.num_queries(state))
      (True, 200)
    """
    return optax.chain(
        zo_gradient(
            num_directions,
            radius,
            key=key,
            directions=directions,
            stencil=central(),
            evaluate=evaluate,
            shaping=shaping,
        ),
        on_perturbed(optax.add_decayed_weights(weight_decay, weight_decay_mask), directions),
        descent(learning_rate),
    )


__all__ = ["mezo"]
