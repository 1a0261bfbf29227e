"""ZoVH: gradient and curvature from the same round (E18, E20), as an optax transformation.

Source: ZoVH, arXiv 2605.30960. Queries per step: K with the default forward stencil.
"""

import math
from typing import Literal

import jax
import optax

from zovh_jax import _checks
from zovh_jax._types import Schedule
from zovh_jax.baselines import Baseline, mean
from zovh_jax.directions import Directions, gaussian
from zovh_jax.estimators import newton_direction
from zovh_jax.estimators.newton import check_options
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.reuse import Reuse, levels, uniform
from zovh_jax.shaping import Shaping, none
from zovh_jax.solvers import Solver, gram_diagonal
from zovh_jax.solvers.gram_diagonal import warn_of_overlap
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import Rounds, by_share, descent, scheduled, transformation


def zo_newton(
    num_directions: int,
    radius: Schedule,
    *,
    damping: Schedule,
    key: jax.Array,
    history_size: int = 1,
    solver: Solver = gram_diagonal(),
    bias_correction: bool = True,
    structure: Literal["global", "leaf"] = "global",
    decoupled: bool = False,
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
    """Replaces the incoming updates by (Ĥ + λI)⁻¹ ĝ, both from the same queries.

    Args:
      num_directions: K, directions a step; K × history_size must be 3 or more.
      radius: μ, or a schedule.
      damping: λ, or a schedule.
      key: ``jax.random.key(seed)``.
      history_size: N, rounds that the estimates are made from; 1 is no reuse.
      solver: ``gram_diagonal()``, the paper's, or any of `zo.solvers`.
      bias_correction: the paper's leave-one-out correction (direct solvers).
      structure: "global" as in the paper, or "leaf".
      decoupled: make gradient and Hessian from different halves of each round, not from all of it.
      reuse: how past rounds count; see `zo.reuse`.
      directions, stencil, baseline, evaluate, store_directions, shaping, reduce, common_key: as for
        `zo.zo_gradient`; ``ranks()`` is refused.

    Returns:
      A transformation that emits an ascent direction; queries a step as for `zovh`. An update is
      zero where it would not be finite, as when an iterative solver diverged.

    Raises:
      ValueError: for options that do not go together; see `zo.estimators.newton_direction`. It
        also says where the product climbs; ``init`` warns where n ≥ d makes that possible.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(20)
      >>> optimizer = optax.chain(
      ...     zo.zo_newton(8, 1e-2, damping=1.0, key=jax.random.key(0)), optax.scale(-0.1)
      ... )
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> updates.shape
      (20,)
    """
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
    check_options(
        num_directions,
        rounds.size,
        baseline=baseline,
        solver=solver,
        bias_correction=bias_correction,
        structure=structure,
        decoupled=decoupled,
    )

    def init(params):
        shapes = rounds.layout(params).shapes
        sizes = [n for n in map(math.prod, shapes) if n] or [0]
        size = min(sizes) if structure == "leaf" else sum(sizes)
        num = num_directions // 2 * history_size if decoupled else rounds.size
        warn_of_overlap(solver, num, size, uncorrected=not (bias_correction or decoupled))
        return rounds.init(params)

    def step(updates, state, params, value_fn, value):
        del updates
        queries, step_key, state = rounds.step(state, params, value_fn, value)
        direction = newton_direction(
            queries,
            params,
            damping=scheduled(damping, state.count - 1),
            baseline=baseline,
            solver=solver,
            bias_correction=bias_correction,
            structure=structure,
            decoupled=decoupled,
            key=jax.random.fold_in(step_key, num_directions),
        )
        return by_share(direction, queries, baseline), state

    return transformation("zo_newton", init, step)


def zovh(
    learning_rate: Schedule,
    *,
    num_directions: int,
    radius: Schedule,
    damping: Schedule,
    key: jax.Array,
    history_size: int = 1,
    solver: Solver = gram_diagonal(),
    bias_correction: bool = True,
    structure: Literal["global", "leaf"] = "global",
    decoupled: bool = False,
    directions: Directions = gaussian(),
    stencil: Stencil = forward(),
    baseline: Baseline = mean(),
    evaluate: Evaluator = vmapped(),
    store_directions: bool = False,
    reuse: Reuse = levels(),
    shaping: Shaping = none(),
) -> optax.GradientTransformationExtraArgs:
    """ZoVH: θ ← θ − η (Ĥ + λI)⁻¹ ĝ (E20), with query reuse when history_size > 1.

    The paper reuses with one mean over all rounds: ``reuse=zo.reuse.uniform()``. The default gives
    each round a level of its own as far as levels differ, so that it may be used on minibatches.

    Args:
      learning_rate: η, or a schedule.
      num_directions, radius, damping, key, history_size, solver, bias_correction, structure,
        decoupled, directions, stencil, baseline, evaluate, store_directions, reuse,
        shaping: as for `zo_newton`.

    The paper's product descends on average where N·K < d. Where N·K ≥ d it climbs on slopes
    ‖∇f‖ far above λμ(N·K − 1)/d, at any learning rate. Take
    ``solver=zo.solvers.gram_diagonal(limit=d/(2·N·K))`` there, which descends everywhere;
    `zo.estimators.newton_direction` has the derivation.

    Returns:
      An optimiser; K queries a step (2K central, 2K + 1 three_point; one more for
      ``baseline=origin()`` unless ``value`` is given). Compare it with `zo.zoar` at learning rate
      η/λ: where d is far above N·K the two are nearly the same.

    Raises:
      ValueError, TypeError: as `zo_newton` and `zo.zo_gradient`.
      UserWarning: from ``init``, where N·K ≥ d and the solver has no such limit.

    Source: ZoVH (arXiv 2605.30960), Alg. 1.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum(x ** 2), jnp.ones(20)
      >>> optimizer = zo.zovh(0.01, num_directions=4, radius=1e-2, damping=1.0,
      ...                     key=jax.random.key(0), history_size=3)
      >>> updates, state = optimizer.update(None, optimizer.init(x), x, value_fn=f)
      >>> int(zo.num_queries(state))
      4
    """
    return optax.chain(
        zo_newton(
            num_directions,
            radius,
            damping=damping,
            key=key,
            history_size=history_size,
            solver=solver,
            bias_correction=bias_correction,
            structure=structure,
            decoupled=decoupled,
            directions=directions,
            stencil=stencil,
            baseline=baseline,
            evaluate=evaluate,
            store_directions=store_directions,
            reuse=reuse,
            shaping=shaping,
        ),
        descent(learning_rate),
    )


__all__ = ["zo_newton", "zovh"]
