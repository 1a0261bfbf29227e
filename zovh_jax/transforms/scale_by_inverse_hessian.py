"""Preconditioning of any updates by a Hessian estimated from queries of its own.

The decoupled regime of ZoVH (arXiv 2605.30960): the Hessian's queries are independent of whatever
made the incoming updates, so the product needs no leave-one-out correction.
"""

from typing import Literal

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import cast_like
from zovh_jax._types import Schedule
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.estimators import hessian
from zovh_jax.estimators.weights import based
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.reuse import Reuse, uniform
from zovh_jax.shaping import Shaping, none
from zovh_jax.solvers import Solver, gram_diagonal, solve
from zovh_jax.solvers.gram_diagonal import warn_of_overlap
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import Rounds, all_finite, scheduled, transformation


def scale_by_inverse_hessian(
    num_directions: int,
    radius: Schedule,
    *,
    damping: Schedule,
    key: jax.Array,
    solver: Solver = gram_diagonal(),
    history_size: int = 1,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = mean(),
    evaluate: Evaluator = vmapped(),
    store_directions: bool = False,
    reuse: Reuse = uniform(),
    shaping: Shaping = none(),
    reduce: Literal["mean"] | None = None,
    common_key: bool = True,
) -> optax.GradientTransformationExtraArgs:
    """Multiplies the incoming updates by (Ĥ + λI)⁻¹, Ĥ from its own queries.

    Give it a key of its own: the same key as the gradient's would make the two dependent.

    Args:
      num_directions: K, directions a step.
      radius: μ, or a schedule.
      damping: λ, or a schedule.
      key: ``jax.random.key(seed)``, not the one the gradient uses.
      solver: ``gram_diagonal()`` (replays directions), ``woodbury()`` (exact), ``cg()``,
        ``neumann(…)``.
      history_size: N, rounds that Ĥ is made from; 1 is no reuse.
      directions, stencil, baseline, evaluate, store_directions, reuse, shaping, reduce,
        common_key: as for `zo.zo_gradient`; ``ranks()`` is refused.

    Returns:
      A transformation. K queries a step (2K central, 2K + 1 three_point; one more for
      ``baseline=origin()`` unless ``value`` is given). Leaves frozen by
      ``directions.masked`` are divided by λ. An update is zero where the solver diverged, or
      while there are too few finite queries for Ĥ.

    Raises:
      ValueError, TypeError: as `zo.zo_gradient`; TypeError for updates that are None.
      UserWarning: from ``init``, where K·N ≥ d directions make ``gram_diagonal()`` climb on steep
        ground; its ``limit`` mends it.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(20)
      >>> optimizer = optax.chain(
      ...     zo.zo_gradient(4, 1e-2, key=jax.random.key(0)),
      ...     zo.scale_by_inverse_hessian(4, 1e-1, damping=1.0, key=jax.random.key(1)),
      ...     optax.scale(-0.1),
      ... )
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))
      8
    """
    _checks.instance("solver", solver, Solver, "the solvers of zo.solvers")
    _checks.positive("damping", damping, schedule=True)
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        stencil=stencil,
        baseline=baseline,
        evaluate=evaluate,
        history_size=history_size,
        store_directions=store_directions,
        second_order=True,
        reuse=reuse,
        shaping=shaping,
        reduce=reduce,
        common_key=common_key,
    )

    def init(params):
        warn_of_overlap(solver, rounds.size, rounds.layout(params).size)
        return rounds.init(params)

    def step(updates, state, params, value_fn, value):
        name = "scale_by_inverse_hessian"
        if updates is None:
            raise TypeError(f"{name} scales incoming updates: got None. Chain it after a gradient.")
        queries, step_key, state = rounds.step(state, params, value_fn, value)
        operator = hessian(queries, params, baseline=baseline)
        enough = jnp.sum(based(queries, baseline)) >= baseline.min_queries
        scaled = solve(
            operator,
            updates,
            damping=scheduled(damping, state.count - 1),
            solver=solver,
            key=jax.random.fold_in(step_key, num_directions),
        )
        # A failed solve gives zeros; NaN that comes in goes out, so that others see it.
        keep = enough & all_finite(scaled) | ~all_finite(updates)
        scaled = jax.tree.map(lambda x: jnp.where(keep, x, jnp.zeros_like(x)), scaled)
        return cast_like(scaled, updates), state

    return transformation("scale_by_inverse_hessian", init, step)


__all__ = ["scale_by_inverse_hessian"]
