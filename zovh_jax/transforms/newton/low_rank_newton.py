"""Newton's method for a Hessian of few dominant eigenvalues: without a learning rate.

Queries per step: K + 1, and K + 1 more in the steps that learn. The module `spikes` has the model
of the Hessian, `probe` has how it is measured, and `trust` the rules for the length of a step.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import scalar_dtype
from zovh_jax._types import PyTree
from zovh_jax.baselines import origin
from zovh_jax.directions import hadamard, masked
from zovh_jax.estimators.trace import TraceAverage
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.stencils import Stencil, forward
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero, transformation
from zovh_jax.transforms.newton._walk import Walk, beginning, check, choose
from zovh_jax.transforms.newton.probe import Probe, ProbeRules, charged
from zovh_jax.transforms.newton.spikes import Spikes, Whitened
from zovh_jax.transforms.newton.trust import StepRules, Trust


class LowRankNewtonState(NamedTuple):
    """State of `low_rank_newton`.

    Attributes:
      counts: the counts and the key.
      trust: what is known about the length of a step.
      coefficients: of the last step, along the directions of its round, [K].
      trail: the sum of past steps over their multiples, a tree like params in float32 or wider,
        None where frozen; None altogether with noise=0.
      spikes: the model of the Hessian.
      probe: what the model is learnt from.
    """

    counts: ZerothOrderState
    trust: Trust
    coefficients: jax.Array
    trail: PyTree
    spikes: Spikes
    probe: Probe

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def low_rank_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    rank: int = 10,
    mask: PyTree = True,
    stencil: Stencil = forward(),
    noise: Any = "auto",
    memory: float = 100.0,
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """θ ← θ − a P⁻¹ĝ/c with P = I + V diag(w) Vᵀ, V of ``rank`` columns: nothing to tune.

    It is `scalar_newton` in the coordinates P^{1/2}θ, in which the Hessian's dominant eigenvalues
    are like the others: directions are u = P^{-1/2}z, with z without replacement
    (`zo.directions.hadamard`). V and w are kept from step to step. They are learnt from
    Hessian-vector products, which take values alone:

        u_kᵀHv = [f(θ + μu_k + μ'v) − f(θ + μ'v) − f(θ + μu_k) + f(θ)]/(μμ'),   μ' = μ √(d/K).

    The last two values are those of the step itself. The D ≥ d directions of an epoch give Hv for a
    random v, the probe. Then V changes by a matrix of rank one (SR1), and only the leading ``rank``
    eigenvectors of the model are kept. P is scaled by half of the mean curvature that is left.

    Nothing is learnt while values are noisy: products with a batch's Hessian are products with its
    noise. Learning doubles the price of an epoch, so it has to pay: after a probe that took a share
    g of the trace away, the next one starts once d/(4g) queries were spent. Where no eigenvalue
    dominates that is hardly ever, and this is `scalar_newton`.

    It wins where a few eigenvalues make up most of the trace: a probe finds one, or nearly, and an
    epoch with it costs 2D queries. It wins nothing, and loses a few per cent, where the spectrum is
    broad; with fewer than 2D queries in all it wastes half of them (see the benchmark ``newton``).
    Where curvature falls by orders of magnitude on the way, as on Rosenbrock's function from far
    away, what was learnt at the start slows it down.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions, radius, key, stencil, noise, memory, evaluate: as for `scalar_newton`.
      rank: the number of dominant eigenvalues to learn.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill. Queries a step: K + 1
      (2K + 1 with pairs), one less where ``value=f(params)`` is passed; in the steps that learn
      K + 1 (2K + 1) more; in some steps two more, once noise was found. State: rank + 2 copies of
      the parameters, one more unless noise=0, and K + rank and some 50 scalars.
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
    directions = masked(hadamard(), mask)
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
        counts, trust, coefficients, trail = beginning(rounds, params, noise)
        layout = rounds.layout(params)
        probe = ProbeRules(layout, rounds).init(counts.key)
        spikes = Spikes.init(rank, layout)
        return LowRankNewtonState(counts, trust, coefficients, trail, spikes, probe)

    def step(updates, state, params, value_fn, value):
        del updates
        layout, counts = rounds.layout(params), state.counts
        probes = ProbeRules(layout, rounds)

        def learn():
            trace = state.trust.trace.estimate.trace
            spikes, probe = probes.finish(state.probe, state.spikes, trace, counts)
            # The old trace is that of another metric.
            return spikes, probe, state.trust._replace(trace=TraceAverage.init())

        ended = (probes.place(counts.round) == 0) & state.probe.active
        same = state.spikes, state.probe, state.trust
        spikes, probe, trust = choose(ended, [lambda: same, learn], like=state.trust.radius)
        probe = probes.scheduled(probe, counts, trust.noise.found)

        # A probe asks from inside a branch; a jitted function is traced at its first call only.
        traced_once = jax.jit(value_fn)
        rules = StepRules.of(layout, directions, rounds, memory=memory, noise=noise)
        walk = Walk(layout, rounds, rules)
        view = walk.look(
            Whitened(directions, spikes),
            counts,
            trust,
            params,
            traced_once,
            value,
            norms=lambda plan: jnp.full((plan.size,), layout.size, scalar_dtype()),
        )

        last = Whitened(directions, state.spikes)
        view = walk.listen(view, last, counts, state.coefficients, state.trail, traced_once, params)

        def length(x):
            return jnp.sqrt(spikes.inner(x, x))

        def go_on():
            return walk.ahead(view, view.slopes, length)

        def go_back():
            return walk.back(view, last, counts, state.coefficients, state.trail)

        move = choose(view.failed, [go_on, go_back], like=view.slopes)
        trail, trust = walk.remembered(move, state.trail, length)

        def measure():
            here, usual = view.answered, view.trust.usual
            return probes.measured(probe, spikes, here, usual, counts, traced_once, params)

        nothing = probe, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        probe, spent, bad = choose(probe.active, [lambda: nothing, measure], like=view.slopes)
        return finite_or_zero(layout.updates(move.change)), LowRankNewtonState(
            charged(view.counts, spent, bad), trust, move.coefficients, trail, spikes, probe
        )

    return transformation("low_rank_newton", init, step)


__all__ = ["LowRankNewtonState", "low_rank_newton"]
