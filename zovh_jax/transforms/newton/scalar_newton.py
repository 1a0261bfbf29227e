"""Newton's method with a scalar for the Hessian: an optimiser without a learning rate.

Queries per step: K + 1 with the forward stencil, f(θ) included; 2K + 1 with pairs. The module
`trust` has the rules for the length of a step.
"""

from typing import Any, NamedTuple

import jax
import optax

from zovh_jax._tree import norm
from zovh_jax._types import PyTree
from zovh_jax.baselines import origin
from zovh_jax.directions import Directions, hadamard
from zovh_jax.directions.families import as_family
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero, transformation
from zovh_jax.transforms.newton._walk import Walk, beginning, check, choose
from zovh_jax.transforms.newton.trust import StepRules, Trust


class ScalarNewtonState(NamedTuple):
    """State of `scalar_newton`.

    Attributes:
      counts: the counts and the key.
      trust: what is known about the length of a step.
      coefficients: of the last step, along the directions of its round, [K].
      trail: the sum of past steps over their multiples, a tree like params in float32 or wider,
        None where frozen; None altogether with noise=0.
    """

    counts: ZerothOrderState
    trust: Trust
    coefficients: jax.Array
    trail: PyTree

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def scalar_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    directions: Directions = hadamard(),
    stencil: Stencil = forward(),
    noise: Any = "auto",
    memory: float = 100.0,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """θ ← θ − a ĝ/c: a gradient, its best shrinkage, and a curvature; nothing to tune.

    - ĝ comes from slopes along directions without replacement (`zo.directions.hadamard`); their
      baseline is the trace of past rounds (under noise, this round's own where that is far away).
      On c/2·‖x‖² no direction has to be looked along twice.
    - a is the shrinkage of least expected value: n/(n + d + 1) for Gaussian directions, n/d for
      orthogonal ones. The estimate is mostly noise, so that less than all of it is right.
    - c is the average of the curvature along past steps. Before any step it is |tr(H)|/d, or twice
      the standard error of that, if that is more. Negative curvature counts by its size.
    - Where values are noisy, as on minibatches, a and c are measured along the way of the last
      rounds, by two queries of a new one, whose noise did not choose that way. A way along which f
      rose by far more than noise is taken back.
    - A trust region follows from the decrease that was had, against the one that was expected. A
      step after which f is not finite, or rose by more than it was to fall, is taken back in the
      next round.
    - μ is the length of a step in each parameter, ‖p‖/√d, but large enough that curvature is seen
      above rounding: ½μ²·c·d ≥ 50 ε|f|. Under noise it is the length of the way of the last rounds,
      but large enough that differences are seen above the noise within a round; and in the first
      72 noisy rounds no less than ``radius``, if slopes are most of what is seen from there. It
      changes by a factor of 2 at most.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions: K. f(θ) is one query of each step's K + 1, and a step is averaged over no
        more than K: from 8 up to some hundredths of d is a good choice. Below 3 the baseline is
        poor; the first step is zero for K = 1.
      radius: μ of the first round: how far, in each parameter, a first look should go. A value that
        is a thousand times too small or too large costs some rounds; one that is far smaller still
        takes slope for curvature. Where f is noisy and has small hollows, as returns of games have,
        take one as large as the weights that matter.
      key: ``jax.random.key(seed)``.
      directions: the family of directions.
      stencil: ``forward()``, or pairs (``three_point()``), whose slopes need no baseline, at twice
        the queries.
      noise: "auto" finds out whether the objective is the same function in every round, and how
        noisy its values are within one (see the module `noise`). A number is the standard deviation
        of a value's own noise, to begin with; it is measured too, and may be wrong. 0 says that
        values are exact: nothing is looked for, and the program is smaller. (Under ``jax.vmap``
        over runs JAX evaluates both branches of a choice: without noise=0 the objective's program
        runs two points more a round, which are used and counted only where noise was found.)
      memory: slopes that the averages of curvature remember; they decay by e^(−K/memory) a round.
      evaluate: as for `zo.zo_gradient`.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill. Queries a step: K + 1
      (2K + 1 with pairs), one less where ``value=f(params)`` is passed; two more in about every
      second round once noise was found, after the first few. State: K and some 50 scalars, and a
      copy of the parameters unless noise=0.
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
            f"{directions!r} do not tell: use zo.directions.hadamard(), or "
            "hadamard(factored=True) for products that all queries share."
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
        return ScalarNewtonState(*beginning(rounds, params, noise))

    def step(updates, state, params, value_fn, value):
        del updates
        layout = rounds.layout(params)
        rules = StepRules.of(layout, directions, rounds, memory=memory, noise=noise)
        walk = Walk(layout, rounds, rules)
        if rules.auto:  # asked from a branch too: a jitted function is traced once
            value_fn = jax.jit(value_fn)
        view = walk.look(
            directions,
            state.counts,
            state.trust,
            params,
            value_fn,
            value,
            norms=lambda plan: plan.squared_norms(layout),
        )

        view = walk.listen(
            view, directions, state.counts, state.coefficients, state.trail, value_fn, params
        )

        def go_on():
            return walk.ahead(view, view.slopes, norm)

        def go_back():
            return walk.back(view, directions, state.counts, state.coefficients, state.trail)

        move = choose(view.failed, [go_on, go_back], like=view.slopes)
        updates = finite_or_zero(layout.updates(move.change))
        trail, trust = walk.remembered(move, state.trail, norm)
        return updates, ScalarNewtonState(view.counts, trust, move.coefficients, trail)

    return transformation("scalar_newton", init, step)


__all__ = ["ScalarNewtonState", "scalar_newton"]
