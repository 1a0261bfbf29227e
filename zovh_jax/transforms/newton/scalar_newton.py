"""Newton's method with a scalar for the Hessian: an optimiser without a learning rate.

Queries per step: K + 1 with the forward stencil, f(θ) included; 2K + 1 with pairs. `trust` has the
rules for the length of a step.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax._tree import norm, scale
from zovh_jax.baselines import origin
from zovh_jax.directions import Directions, hadamard
from zovh_jax.directions.families import as_family
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.plan import Plan
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero, transformation
from zovh_jax.transforms.newton.trust import Steps, Trust, check, start


class ScalarNewtonState(NamedTuple):
    """State of `scalar_newton`.

    Attributes:
      rounds: the counts and the key.
      trust: what is known about the length of a step.
      coefficients: of the last step, along the directions of its round, [K].
    """

    rounds: ZerothOrderState
    trust: Trust
    coefficients: jax.Array


def scalar_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    directions: Directions = hadamard(),
    stencil: Stencil = forward(),
    noise: float = 0.0,
    memory: float = 100.0,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """θ ← θ − a ĝ/c: a gradient, its best shrinkage, and a curvature; nothing to tune.

    - ĝ: from slopes with the trace of past rounds for a baseline, along directions without
      replacement (`zo.directions.hadamard`): on c/2·‖x‖² each direction is done with for good.
    - a: the shrinkage of least expected value, n/(n + d + 1) for Gaussian directions, n/d for
      orthogonal ones: the estimate is mostly noise, and less than it is right.
    - c: curvature as the steps themselves met it, averaged; before any step, |tr(H)|/d, or twice
      its standard error where it is not above that. Negative curvature counts by its size.
    - a trust region from the decrease that was had against that expected. A step after which f is
      not finite, or went up by more than it was to go down, is taken back in the next one.
    - μ: the length of a step in each parameter, ‖p‖/√d, but large enough that curvature is seen
      above rounding and ``noise``: ½μ²·c·d ≥ 5·(3 noise + 10 ε|f|). It moves by a factor of 2.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions: K. f(θ) is one query of each step's K + 1, and a step is averaged over no
        more than K: from 8 up to some hundredths of d is a good choice. Below 3 the baseline is
        poor; the first step is zero for K = 1.
      radius: μ of the first round: how far, in each parameter, a first look should go. Up to a
        thousand times too little or too much costs some rounds; far less takes slope for curvature.
      key: ``jax.random.key(seed)``.
      directions: the family of directions.
      stencil: ``forward()``, or pairs (``three_point()``), whose slopes need no baseline, at twice
        the queries.
      noise: standard deviation of the objective's values, where it is not deterministic: without
        it noise is taken for curvature, and steps become too short for their own good.
      memory: slopes that the averages of curvature remember; their rounds' decay is e^(−K/memory).
      evaluate: as for `zo.zo_gradient`.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill. Queries a step: K + 1
      (2K + 1 with pairs), one less where ``value=f(params)`` is passed. State: K + 17 scalars.
      Memory for a step: that of a round, and one copy of the parameters.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f, x = lambda x: jnp.sum((x - 3) ** 2), jnp.zeros(32)
      >>> optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(0))
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda state, x: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(40):
      ...     updates, state = step(state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1e-2), int(zo.num_queries(state))  # from 288
      (True, 360)
    """
    check(radius, noise, memory, stencil)
    as_family(directions)
    if not (directions.isotropic and (directions.gaussian_moments or directions.constant_norm)):
        raise ValueError(
            f"scalar_newton must know the moments of its directions, which directions="
            f"{directions!r} do not tell: use zo.directions.hadamard()."
        )
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        stencil=stencil,
        baseline=origin(),
        evaluate=evaluate,
    )

    def init(params):
        trust = start(radius, rounds.layout(params).size)
        coefficients = jnp.zeros(num_directions, trust.radius.dtype)
        return ScalarNewtonState(rounds.init(params), trust, coefficients)

    def step(updates, state, params, value_fn, value):
        del updates
        old = state.rounds
        asked = dataclasses.replace(rounds, radius=state.trust.radius)
        queries, _, counts = asked.step(old, params, value_fn, value)
        layout = rounds.layout(params)
        steps = Steps.of(layout, directions, num_directions, memory=memory, noise=noise)
        trust, failed = steps.judge(state.trust, queries.origin)
        queries = steps.anchored(queries)
        norms = queries.plan.squared_norms(layout)
        slopes, trust = steps.slopes(trust, queries, norms)

        def go_on():
            along = queries.plan.combine(slopes, layout)
            multiple, decided = steps.decide(trust, queries, slopes, norm(along))
            return scale(-multiple, along), decided, -multiple * slopes

        def go_back():
            last = directions.round_key(old.key, old.count - 1, layout, num_directions)
            plan = Plan(
                last,
                directions,
                num_directions=num_directions,
                block_size=queries.plan.block_size,
            )
            back = plan.combine(-state.coefficients, layout)
            return back, steps.taken_back(trust), jnp.zeros_like(state.coefficients)

        step, trust, coefficients = jax.lax.cond(failed, go_back, go_on)
        return finite_or_zero(layout.updates(step)), ScalarNewtonState(counts, trust, coefficients)

    return transformation("scalar_newton", init, step)


__all__ = ["ScalarNewtonState", "scalar_newton"]
