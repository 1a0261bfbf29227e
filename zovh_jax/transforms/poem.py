"""POEM: step size and smoothing radius from the distance travelled; nothing to tune.

Source: Ren and Luo, "A Parameter-Free and Near-Optimal Zeroth-Order Algorithm for Stochastic Convex
Optimization", ICML 2025, arXiv 2502.05600. Estimator: (E14). Queries per step: 2K.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import add_scaled, norm, scalar_dtype, scale, vdot, widen
from zovh_jax._types import Number, PyTree
from zovh_jax.directions import Directions, sphere
from zovh_jax.estimators.gradient import gradient_coefficients
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.stencils import central
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero, transformation


class PoemState(NamedTuple):
    """State of `poem`.

    Attributes:
      counts: the counts and the key.
      start: x_0, of the perturbed leaves; zeros before the first step.
      averaged_iterate: the mean of x_0 … x_t with weights r̄_i, likewise.
      max_distance: r̄_t, the largest distance from the start so far.
      sum_distances: Σ r̄_i.
      sum_squares: G_t = Σ ‖g_i‖².
    """

    counts: ZerothOrderState
    start: PyTree
    averaged_iterate: PyTree
    max_distance: jax.Array
    sum_distances: jax.Array
    sum_squares: jax.Array


def poem(
    num_directions: int,
    radius: Number,
    *,
    key: jax.Array,
    directions: Directions = sphere(),
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """POEM: x_{t+1} = x_t − η_t g_t, with a step size and a radius that follow from the run.

    With v uniform on the unit sphere (v = u/√d for the directions u of `zo.directions.sphere`):

    - g_t = d/(2μ_t) [f(x_t + μ_t v) − f(x_t − μ_t v)] v
    - r̄_t = max(r_ε, max_{i≤t} ‖x_i − x_0‖)
    - η_t = r̄_t/√G_t, G_t = Σ_{i≤t} ‖g_i‖²
    - μ_t = r̄_t √(d/(t + 1)): in each parameter about r̄_t/√(t + 1)

    G_t never forgets, so steps shrink as 1/√t: it is made for convex functions of bounded slope,
    from minibatches too. The theory is for a bounded set: project after each step; distances are
    taken between the parameters that come in.

    The theory's answer is not the last iterate but the mean of all, weighted by r̄_t: read it with
    ``optax.tree.get(opt_state, "averaged_iterate")``. It is a tree like params in float32 or
    wider, with None for frozen leaves, and zeros before the first step.

    Args:
      num_directions: K; g_t is the mean of K such estimates. The paper has K = 1.
      radius: r_ε: how far the first queries go in each parameter, and how long the first step is.
        r̄_t never shrinks, so keep r_ε below the distance to the minimum, but not far below: the
        theory says that this costs a logarithm, yet with K ≪ d the sum G_t is mostly noise, and
        r̄_t grows slowly.
      key: ``jax.random.key(seed)``.
      directions, evaluate: as for `zo_gradient`.

    Returns:
      An optimiser; 2K queries a step. A direction with a value that is not finite is left out;
      where none is left nothing moves. State: two copies of the parameters.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo_gradient`.

    Source: arXiv 2502.05600. g_t and η_t = r̄_t/√G_t are as a published summary of the paper has
    them. Its own text could not be read, so that three things are not verified: r̄_t, G_t and the
    weights of the mean, which are DoG's (arXiv 2302.12022), on which the paper builds; μ_t, where
    r̄_t √(d/(t + 1)) is the largest that keeps the paper's rate; and what it takes for r_ε.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(8)
      >>> optimizer = zo.poem(4, 0.1, key=jax.random.key(0))
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(100):
      ...     updates, state = step(x, state)
      ...     x = optax.apply_updates(x, updates)
      >>> average = optax.tree.get(state, "averaged_iterate")
      >>> bool(f(x) < 1), bool(f(average) < 10), int(zo.num_queries(state))  # from 72
      (True, True, 800)
    """
    _checks.positive("radius", radius)
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        stencil=central(),
        evaluate=evaluate,
    )

    def init(params):
        layout = rounds.layout(params)
        distance, distances, squares = (jnp.zeros((), scalar_dtype()) for _ in range(3))
        return PoemState(
            rounds.init(params),
            layout.tree(layout.zeros()),
            layout.tree(layout.zeros()),
            distance,
            distances,
            squares,
        )

    def step(updates, state, params, value_fn, value):
        del updates
        layout, count = rounds.layout(params), state.counts.count
        x = layout.tree(widen(layout.leaves(params, "params")))
        start = jax.tree.map(lambda now, kept: jnp.where(count == 0, now, kept), x, state.start)
        travelled = norm(jax.tree.map(jnp.subtract, x, start))
        least = jnp.asarray(radius, travelled.dtype)
        distance = jnp.maximum(jnp.maximum(state.max_distance, travelled), least)
        shrunk = distance / jnp.sqrt(count.astype(distance.dtype) + 1)
        asked = dataclasses.replace(rounds, radius=shrunk)
        queries, _, counts = asked.step(state.counts, params, value_fn, value)

        c = gradient_coefficients(queries, layout, rounds.baseline)
        g = finite_or_zero(queries.plan.combine(c, layout))
        squares = state.sum_squares + vdot(g, g)
        rate = jnp.where(squares > 0, distance / jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)

        distances = state.sum_distances + distance
        apart = jax.tree.map(jnp.subtract, x, state.averaged_iterate)
        average = add_scaled(state.averaged_iterate, distance / distances, apart)
        new = PoemState(counts, start, average, distance, distances, squares)
        return layout.updates(scale(-rate, g)), new

    return transformation("poem", init, step)


__all__ = ["poem"]
