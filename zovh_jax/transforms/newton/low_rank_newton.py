"""Newton's method for a Hessian of few dominating eigenvalues: without a learning rate.

Queries per step: K + 1, and K + 1 more in the steps that learn. `spikes` has the model of
the Hessian, `trust` the rules for the length of a step.
"""

import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import Layout, scalar_dtype, scale
from zovh_jax._types import Leaves, PyTree
from zovh_jax.baselines import origin
from zovh_jax.directions import hadamard, masked
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators.trace import TraceAverage
from zovh_jax.estimators.weights import usable
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.evaluators.evaluator import perturbed
from zovh_jax.evaluators.query import query
from zovh_jax.plan import Plan
from zovh_jax.queries import Queries
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import (
    Rounds,
    ZerothOrderState,
    finite_or_zero,
    saturating_add,
    transformation,
)
from zovh_jax.transforms.newton.spikes import (
    Probe,
    Spikes,
    Whitened,
    learned,
    mixed_slopes,
    one_row,
)
from zovh_jax.transforms.newton.trust import Steps, Trust, check, start

EAGERNESS = 4
"""A probe that takes a share g of the trace away is followed by another after d/(4g) queries."""
PROBES = 2**31
"""Where the keys of the probes branch off: rounds count below it."""


class LowRankNewtonState(NamedTuple):
    """State of `low_rank_newton`.

    Attributes:
      rounds: the counts and the key.
      trust: what is known about the length of a step.
      coefficients: of the last step, along the directions of its round, [K].
      spikes: the model of the Hessian.
      probe: what it is learned from.
    """

    rounds: ZerothOrderState
    trust: Trust
    coefficients: jax.Array
    spikes: Spikes
    probe: Probe


def low_rank_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    rank: int = 10,
    mask: PyTree = True,
    stencil: Stencil = forward(),
    noise: float = 0.0,
    memory: float = 100.0,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """θ ← θ − a P⁻¹ĝ/c with P = I + V diag(w) Vᵀ, V of ``rank`` columns: nothing to tune.

    `scalar_newton` in the coordinates P^{1/2}θ, in which the Hessian's dominating eigenvalues are
    like the others: directions are u = P^{-1/2}z, z without replacement (`zo.directions.hadamard`).
    V and w are kept across steps, and learned from Hessian-vector products in values alone:

        u_kᵀHv = [f(θ + μu_k + μ'v) − f(θ + μ'v) − f(θ + μu_k) + f(θ)]/(μμ'),   μ' = μ √(d/K).

    The last two values are those of the step itself. The D ≥ d directions of an epoch give
    Hv, v random; then V changes by a matrix of rank one (SR1), and only the leading ``rank``
    eigenvectors of the model are kept. Half of the mean curvature of what is left scales P.

    Learning doubles the price of an epoch, so it has to pay: after a probe that took a share g of
    the trace away, the next starts once d/(4g) queries were spent. Where no eigenvalue dominates
    that is hardly ever, and this is `scalar_newton`.

    It wins where a few eigenvalues make up most of the trace: a probe finds one, or nearly, and an
    epoch with it costs 2D queries. It wins nothing, and loses a few per cent, where the spectrum is
    broad; with fewer than 2D queries in all it wastes half of them (see the benchmark ``newton``).
    Where curvature falls by orders of magnitude on the way, as on Rosenbrock's function from far
    away, what was learned at the start slows it down.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions, radius, key, stencil, noise, memory, evaluate: as for `scalar_newton`.
      rank: the number of dominating eigenvalues to learn.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill. Queries a step: K + 1
      (2K + 1 with pairs), one less where ``value=f(params)`` is passed; and in the steps that learn
      K + 1 (2K + 1) more. State: rank + 2 copies of the parameters, and K + rank + 21 scalars.
      Memory for a step: that of a round, and rank + 3 copies of the parameters more in the steps
      that change V. Time beyond the queries': O(rank·K·d) a step.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f = lambda x: jnp.sum((x - 3) ** 2) + 10 * jnp.sum(x - 3) ** 2
      >>> optimizer, x = zo.low_rank_newton(8, 0.1, rank=1, key=jax.random.key(0)), jnp.zeros(32)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda state, x: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(161):
      ...     updates, state = step(state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 0.1)  # from 92448
      True
    """
    _checks.positive_int("rank", rank)
    check(radius, noise, memory, stencil)
    k, directions = num_directions, masked(hadamard(), mask)
    rounds = Rounds(
        num_directions=k,
        radius=radius,
        key=key,
        directions=directions,
        stencil=stencil,
        baseline=origin(),
        evaluate=evaluate,
    )

    def init(params):
        layout, counts = rounds.layout(params), rounds.init(params)
        d, dtype = layout.size, scalar_dtype()
        probe = Probe(
            layout.tree(random_probe(jax.random.fold_in(counts.key, PROBES), layout)),
            layout.tree(layout.zeros()),
            jnp.zeros((), bool),
            jnp.array(jnp.inf, dtype),
            jnp.zeros((), jnp.int32),
        )
        spikes = Spikes.init(rank, layout)
        return LowRankNewtonState(counts, start(radius, d), jnp.zeros(k, dtype), spikes, probe)

    def step(updates, state, params, value_fn, value):
        del updates
        layout, old = rounds.layout(params), state.rounds
        steps = Steps.of(layout, directions, k, memory=memory, noise=noise)
        period = order_of(steps.dimension)
        place = old.count % -(-period // k)  # in an epoch of directions

        spikes, probe, trust = jax.lax.cond(
            (place == 0) & state.probe.active,
            lambda: learn(state, layout),
            lambda: (state.spikes, state.probe, state.trust),
        )
        since = (old.num_queries - probe.ended).astype(probe.gain.dtype)
        pays = EAGERNESS * probe.gain * jnp.maximum(since, steps.dimension) >= steps.dimension
        probe = probe._replace(active=jnp.where(place == 0, pays, probe.active))

        # The probe's queries are further calls, in a branch of their own: traced at the first only.
        traced_once = jax.jit(value_fn)
        asked = dataclasses.replace(
            rounds, radius=trust.radius, directions=Whitened(directions, spikes)
        )
        queries, _, counts = asked.step(old, params, traced_once, value)
        trust, failed = steps.judge(trust, queries.origin)
        norms = jnp.full((k,), steps.dimension, scalar_dtype())
        anchored = steps.anchored(queries)
        slopes, trust = steps.slopes(trust, anchored, norms)

        def go_on():
            along = queries.plan.combine(slopes, layout)
            length = jnp.sqrt(spikes.inner(along, along))
            multiple, decided = steps.decide(trust, anchored, slopes, length)
            return scale(-multiple, along), decided, -multiple * slopes

        def go_back():
            plan = Plan(
                directions.round_key(old.key, old.count - 1, layout, k),
                Whitened(directions, state.spikes),
                num_directions=k,
                block_size=queries.plan.block_size,
            )
            back = plan.combine(-state.coefficients, layout)
            return back, steps.taken_back(trust), jnp.zeros_like(state.coefficients)

        step, trust, coefficients = jax.lax.cond(failed, go_back, go_on)

        def measure():
            far = queries.radius * math.sqrt(steps.dimension / k)
            here = layout.leaves(params, "params")
            moved = perturbed(here, far, layout.leaves(probe.direction, "direction"))
            there = query(
                traced_once,
                layout.merge(moved, params, lambda frozen: frozen),
                directions.round_key(old.key, old.count, layout, k),
                num_directions=k,
                radius=queries.radius,
                directions=asked.directions,
                stencil=stencil,
                evaluate=evaluate,
                origin=True,
            )
            # The last round of an epoch may begin the next.
            wanted = (place * k + jnp.arange(k) < period) & usable(queries, needs_origin=True)
            errors = mixed_slopes(queries, there, far) - spikes.scale * _inner(
                queries, spikes, probe, layout
            )
            wanted &= usable(there, needs_origin=True) & jnp.isfinite(errors)
            errors = jnp.where(wanted, errors, 0) / period
            more = queries.plan.combine(errors, layout)
            residual = [r + x for r, x in zip(jax.tree.leaves(probe.residual), more, strict=True)]
            spent = jnp.asarray(there.values.size + 1, jnp.int32)
            return layout.tree(residual), spent, there.num_nonfinite

        nothing = (probe.residual, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))
        residual, spent, bad = jax.lax.cond(probe.active, measure, lambda: nothing)
        counts = counts._replace(
            num_queries=saturating_add(counts.num_queries, spent),
            num_nonfinite=saturating_add(counts.num_nonfinite, bad),
        )
        return finite_or_zero(layout.updates(step)), LowRankNewtonState(
            counts, trust, coefficients, spikes, probe._replace(residual=residual)
        )

    def learn(state: LowRankNewtonState, layout: Layout) -> tuple[Spikes, Probe, Trust]:
        """At the end of an epoch: the model, the next probe, and no trace in the new metric yet."""
        trust, probe, old = state.trust, state.probe, state.rounds
        spikes, gain = learned(
            state.spikes,
            jax.tree.leaves(probe.direction),
            jax.tree.leaves(probe.residual),
            trust.trace.estimate.trace,
            layout.size,
        )
        drawn = random_probe(
            jax.random.fold_in(jax.random.fold_in(old.key, PROBES), old.count), layout
        )
        direction = [x[0] for x in spikes.power(-0.5, one_row(drawn))]
        probe = probe._replace(
            direction=layout.tree(direction),
            residual=layout.tree(layout.zeros()),
            gain=gain,
            ended=old.num_queries,
        )
        return spikes, probe, trust._replace(trace=TraceAverage.init())

    def random_probe(key: jax.Array, layout: Layout) -> Leaves:
        if not layout.num_leaves:  # optax looks at init with an empty tree
            return []
        return [z[0] for z in directions.draw(key, layout, 1, jnp.arange(1))]

    return transformation("low_rank_newton", init, step)


def _inner(queries: Queries, spikes: Spikes, probe: Probe, layout: Layout) -> jax.Array:
    """u_kᵀPv, [K]."""
    image = spikes.power(1.0, one_row(jax.tree.leaves(probe.direction)))
    return jnp.sum(queries.plan.inner([x[0] for x in image], layout)[0], -1)


__all__ = ["LowRankNewtonState", "low_rank_newton"]
