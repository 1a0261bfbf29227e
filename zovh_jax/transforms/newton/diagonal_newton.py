"""Newton's method with a diagonal for the Hessian, learnt in sweeps: no learning rate.

Queries per step: K + 1, f(θ) included. The module `trust` has the rules for the length of a step.

Directions are u = z/√h, where h is the diagonal. In that metric all curvatures are alike once h is
right, and steps are those of `scalar_newton`. Most rounds are plain ones: forward differences along
``hadamard`` z. h is learnt in sweeps, which are rounds along halves of the parameters; the module
`sweep` has their rules. One sweep, 4 to 4.3 d queries, is exact for a diagonal Hessian.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax._rows import row_products
from zovh_jax._tree import Layout, norm, total
from zovh_jax._types import Leaves, PyTree
from zovh_jax.baselines import origin
from zovh_jax.directions import Directions, Explicit, Masked, Scaled, hadamard, scaled
from zovh_jax.directions.families import as_family
from zovh_jax.estimators.weights import usable
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.plan import Plan
from zovh_jax.stencils import forward
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero, transformation
from zovh_jax.transforms.newton._walk import View, Walk, beginning, check, choose
from zovh_jax.transforms.newton.halves import Either, Halves
from zovh_jax.transforms.newton.sweep import DiagonalSweeps, Sweep
from zovh_jax.transforms.newton.trust import StepRules, Trust

NOISY_REST = 8
"""How many times as long as others the rests between sweeps are where values are noisy."""


class DiagonalNewtonState(NamedTuple):
    """State of `diagonal_newton`.

    Attributes:
      counts: the counts and the key.
      trust: what is known about the length of a step.
      coefficients: of the last step, along the directions of its round, [K].
      trail: the sum of past steps over their multiples, a tree like params in float32 or wider,
        None where frozen; None altogether with noise=0.
      sweep: what the present sweep has seen.
      curvature: h, a tree like params in float32 or wider, None where frozen.
    """

    counts: ZerothOrderState
    trust: Trust
    coefficients: jax.Array
    trail: PyTree
    sweep: Sweep
    curvature: PyTree

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def diagonal_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    directions: Directions = hadamard(),
    noise: Any = "auto",
    memory: float = 100.0,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """`scalar_newton` in units in which a learnt diagonal is 1; nothing to tune.

    It begins with 2d plain directions, which are all that an isotropic problem needs. Then sweeps
    of 4d queries alternate with rests of as many queries, or of 4 or 16 times as many where sweeps
    changed little. During a sweep steps go on, along pairs, which give half as many slopes a query.

    It wins where the axes of the parameters are those of the curvature, more or less: on quadratics
    of condition number 10² to 10⁴ at d = 1000 it reaches 1e-3 of the first gap in 8 d queries and
    then goes on as if the condition number were 1; `scalar_newton` takes 18 d, 47 d and 66 d. It
    loses where the Hessian's diagonal says little (on rotated quadratics the sweeps are wasted: up
    to half of the first 10 d queries and a tenth later) or soon changes (Rosenbrock), and below 6 d
    queries it is at best `scalar_newton`. Negative curvature counts by its size.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions: K, a multiple of 4; 8 to some hundredths of d is a good choice.
      radius: μ of the first round; see `scalar_newton`.
      key: ``jax.random.key(seed)``.
      directions: the family of z in plain rounds, perhaps ``masked``.
      noise: "auto", a number to begin with, or 0 for exact values; see `scalar_newton`.
      memory: slopes that the averages of curvature remember; they decay by e^(−K/memory) a round.
      evaluate: as for `zo.zo_gradient`.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill. Queries a step: K + 1, one
      less where ``value=f(params)`` is passed; two more in some steps once noise was found. State:
      two copies of the parameters, three unless noise=0. The round that ends a sweep takes no step.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f = lambda x: jnp.sum(jnp.geomspace(1., 1e3, 32) * (x - 3) ** 2)
      >>> optimizer, x = zo.diagonal_newton(8, 0.1, key=jax.random.key(0)), jnp.zeros(32)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda state, x: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(50):
      ...     updates, state = step(state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1e-3 * f(jnp.zeros(32))), int(zo.num_queries(state))
      (True, 450)
    """
    check(radius, noise, memory, forward())
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        baseline=origin(),
        evaluate=evaluate,
    )
    if num_directions % 4:
        raise ValueError(
            f"num_directions must be a multiple of 4, as curvature is learnt from pairs of pairs; "
            f"got {num_directions}."
        )
    if isinstance(as_family(directions), (Explicit, Scaled)):
        raise ValueError(
            f"diagonal_newton scales directions itself and draws them anew: directions="
            f"{type(directions).__name__.lower()}(…) cannot be used. Take zo.directions.hadamard()."
        )
    halves: Directions = Halves()
    if isinstance(directions, Masked):
        halves = Masked(halves, directions.mask_tree)

    def init(params):
        counts, trust, coefficients, trail = beginning(rounds, params, noise)
        layout = rounds.layout(params)
        sweep = DiagonalSweeps(layout, num_directions).init()
        return DiagonalNewtonState(
            counts, trust, coefficients, trail, sweep, layout.tree(layout.filled(1.0))
        )

    def step(updates, state, params, value_fn, value):
        del updates
        layout, sweep, h = rounds.layout(params), state.sweep, state.curvature
        sweeps, learning = DiagonalSweeps(layout, num_directions), sweep.rest == 0
        metric = _Metric(layout, jax.tree.leaves(h))

        def chosen(flag, num_others) -> tuple[Scaled, Either]:
            """The family of u = z/√h, and that of z: halves where the flag says so."""
            family = Either(directions, halves, flag, num_others)
            return scaled(family, jax.tree.map(jax.lax.rsqrt, h)), family

        drawn, family = chosen(learning, sweep.num_rounds)
        rules = StepRules.of(layout, family, rounds, memory=memory, noise=noise)
        walk = Walk(layout, rounds, rules)
        if rules.auto:  # asked from a branch too: a jitted function is traced once
            value_fn = jax.jit(value_fn)
        view = walk.look(
            drawn, state.counts, state.trust, params, value_fn, value, norms=metric.squared_norms
        )

        # The round that ends a sweep takes no step: inside a sweep, the last step was of it.
        inside = sweeps.inside(sweep)
        last, _ = chosen(inside, sweep.num_rounds - inside.astype(jnp.int32))
        view = walk.listen(
            view, last, state.counts, state.coefficients, state.trail, value_fn, params
        )

        def go_on():
            slopes = jnp.where(learning, _slopes_of_pairs(view), view.slopes)
            return walk.ahead(view, slopes, metric.norm)

        def go_back():
            return walk.back(view, last, state.counts, state.coefficients, state.trail)

        # h changes at the end of a sweep, and a step in the old units could not be taken back.
        ends = learning & sweeps.ends(sweep)
        move = choose(
            jnp.where(view.failed, 1, jnp.where(ends, 2, 0)),
            [go_on, go_back, lambda: walk.stay(view)],
            like=view.slopes,
        )

        def wait():
            # Under noise steps are short, and half of a sweep's queries are lost to them.
            noise = view.trust.noise
            counted = ~noise.found | (noise.num_rounds % NOISY_REST == 0)
            return sweeps.wait(sweep, ~(learning | view.failed) & counted), h

        def learn():
            return sweeps.learn(sweep, h, view.queries, view.norms)

        learnt = choose(learning & ~view.failed, [wait, learn], like=view.slopes)
        updates = finite_or_zero(layout.updates(move.change))
        trail, trust = walk.remembered(move, state.trail, metric.norm)
        return updates, DiagonalNewtonState(view.counts, trust, move.coefficients, trail, *learnt)

    return transformation("diagonal_newton", init, step)


def _slopes_of_pairs(view: View) -> jax.Array:
    """The slopes of a sweep's round, [K]: of each pair, half the difference of its two slopes.

    It is free of curvature. Where a query of the pair was dropped, the other one has its own slope.
    """
    whole = jnp.all(usable(view.queries, needs_origin=True).reshape(-1, 2), -1)
    opposite = view.slopes.reshape(-1, 2)[:, ::-1].reshape(-1)
    return jnp.where(jnp.repeat(whole, 2), (view.slopes - opposite) / 2, view.slopes)


@dataclasses.dataclass(frozen=True)
class _Metric:
    """The metric Σ_i h_i x_i², in which directions have the length of z."""

    layout: Layout
    h: Leaves

    def norm(self, x: Leaves) -> jax.Array:
        """The length of a list of arrays."""
        return norm([leaf * jnp.sqrt(h) for leaf, h in zip(x, self.h, strict=True)])

    def squared_norms(self, plan: Plan) -> jax.Array:
        """The squared length of each direction of a plan, [K]."""

        def of_block(carry, block, _):
            pairs = zip(block, self.h, strict=True)
            return carry, total([row_products(u, u * h.astype(u.dtype)[None]) for u, h in pairs])

        return plan.fold(self.layout, of_block, (), ())[1]


__all__ = ["DiagonalNewtonState", "diagonal_newton"]
