"""Quasi-Newton steps without a learning rate: whole gradients, in a metric that they learn.

Queries per step: K + 1, f(θ) included. A walk begins as `diagonal_newton` does, up to the end of
its first sweep. From then on θ rests for an epoch, the D ≥ d directions that are a whole gradient,
and then takes one step, of the model of `secants` in units in which the diagonal is 1.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from zovh_jax import _checks
from zovh_jax._tree import Layout, scalar_dtype, scale, vdot
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.baselines import origin
from zovh_jax.directions import hadamard, masked, scaled
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators.weights import curvatures
from zovh_jax.evaluators import Evaluator, vmapped
from zovh_jax.queries import Queries
from zovh_jax.transforms._rounds import (
    Rounds,
    ZerothOrderState,
    all_finite,
    finite_or_zero,
    transformation,
)
from zovh_jax.transforms.newton._walk import choose
from zovh_jax.transforms.newton.diagonal_newton import DiagonalNewtonState, diagonal_newton
from zovh_jax.transforms.newton.noise import looked_for
from zovh_jax.transforms.newton.secants import Secants, Turned, learned
from zovh_jax.transforms.newton.sweep import DiagonalSweeps
from zovh_jax.transforms.newton.trust import ROUNDING, TINY

NEAR = 1e-3
"""How far an epoch looks, over the length of the step before it."""
FALL = 1e-4
"""The least share of the promised fall with which a step is kept (Armijo's rule)."""
SHORTENED = 5
"""How often a step is shortened before it is given up."""


class Epoch(NamedTuple):
    """What the present epoch has seen, and the step before it; trees in the metric's units.

    Attributes:
      num_rounds: rounds that made gradients so far.
      gathered: Σ s_k u_k/D over the epoch's slopes so far, which ends as P⁻¹∇f.
      gradient: ∇f where the last step began.
      step: the last step, p.
      known: whether there is a last step, which the next gradient makes a pair of.
      pending: whether f(θ + p) is still to be judged.
      num_shortened: how often p was shortened.
      value: f where the epoch or, if a step is pending, the step began.
      slope: ∇f·p, 0 or below.
      limit: the longest step as long as there is no pair.
      radius: μ.
    """

    num_rounds: jax.Array
    gathered: PyTree
    gradient: PyTree
    step: PyTree
    known: jax.Array
    pending: jax.Array
    num_shortened: jax.Array
    value: jax.Array
    slope: jax.Array
    limit: jax.Array
    radius: jax.Array


class QuasiNewtonState(NamedTuple):
    """State of `quasi_newton`.

    Attributes:
      start: the state of the `diagonal_newton` that it begins as, with the counts.
      secants: the model of the Hessian.
      epoch: what the present epoch has seen.
    """

    start: DiagonalNewtonState
    secants: Secants
    epoch: Epoch

    @property
    def counts(self) -> ZerothOrderState:
        """The counts and the key."""
        return self.start.counts

    @property
    def compares_rounds(self) -> bool:
        """Values of one round are compared with those of another one."""
        return True


def quasi_newton(
    num_directions: int,
    radius: float,
    *,
    key: jax.Array,
    num_pairs: int = 10,
    mask: PyTree = True,
    noise: Any = "auto",
    evaluate: Evaluator = vmapped(),
) -> optax.GradientTransformationExtraArgs:
    """L-BFGS."""
    _checks.positive_int("num_pairs", num_pairs)
    directions = masked(hadamard(), mask)
    start = diagonal_newton(
        num_directions, radius, key=key, directions=directions, noise=noise, evaluate=evaluate
    )
    rounds = Rounds(
        num_directions=num_directions,
        radius=radius,
        key=key,
        directions=directions,
        baseline=origin(),
        evaluate=evaluate,
    )

    def init(params):
        layout = rounds.layout(params)
        first = start.init(params)
        return QuasiNewtonState(
            first, Secants.init(num_pairs, layout), EpochRules(layout, rounds).init()
        )

    def step(updates, state, params, value_fn, value):
        del updates
        layout = rounds.layout(params)
        sweeps = DiagonalSweeps(layout, num_directions)
        first = state.start
        traced_once = jax.jit(value_fn)
        ready = (first.sweep.num_rounds >= sweeps.length) & (first.trust.weight > 0)
        ready &= ~first.trust.noise.found

        def begin():
            updates, after = start.update(None, first, params, value_fn=traced_once, value=value)
            return updates, state._replace(start=after)

        def go_on():
            rules = EpochRules(layout, rounds)
            return rules.round(state, params, traced_once, value, looked_for(noise))

        return choose(ready, [begin, go_on], like=first.trust.radius)

    return transformation("quasi_newton", init, step)


@dataclasses.dataclass(frozen=True)
class EpochRules:
    """How a gradient is gathered, and what is done with it.

    Attributes:
      layout: of the parameters.
      rounds: the settings of a round; its directions are those of z.
    """

    layout: Layout
    rounds: Rounds

    @property
    def order(self) -> int:
        """D."""
        return order_of(self.layout.size)

    @property
    def length(self) -> int:
        """The number of rounds of an epoch."""
        return -(-self.order // self.rounds.num_directions)

    @property
    def width(self) -> int:
        """The directions of a round: K, or fewer that fill the epoch as well."""
        return -(-self.order // self.length)

    def init(self) -> Epoch:
        """Before the first epoch."""
        trees = [self.layout.tree(self.layout.zeros()) for _ in range(3)]
        numbers = [jnp.zeros((), scalar_dtype()) for _ in range(4)]
        flags = [jnp.zeros((), bool) for _ in range(2)]
        counts = [jnp.zeros((), jnp.int32) for _ in range(2)]
        fields: list[Any] = [counts[0], *trees, *flags, counts[1], *numbers]
        return Epoch(*fields)

    def round(
        self, state: QuasiNewtonState, params: PyTree, value_fn: ValueFn, value: Any, auto: bool
    ) -> tuple[PyTree, QuasiNewtonState]:
        """The updates and the state after a round."""
        state = self._begun(state)
        first, secants, epoch = state.start, state.secants, state.epoch
        units = [jnp.sqrt(h) for h in jax.tree.leaves(first.curvature)]
        family = scaled(
            Turned(self.rounds.directions, secants, epoch.num_rounds),
            self.layout.tree([1 / x for x in units]),
        )
        asked = dataclasses.replace(
            self.rounds, num_directions=self.width, radius=epoch.radius, directions=family
        )
        queries, _, counts = asked.step(first.counts, params, value_fn, value)
        here = queries.origin
        assert here is not None
        noise = 3 * self._rounding(jnp.maximum(jnp.abs(epoch.value), jnp.abs(here)))
        wanted = epoch.value + FALL * epoch.slope + noise
        failed = epoch.pending & ~(here <= wanted)
        same = ~epoch.pending & (epoch.num_rounds % self.length > 0)
        noisy = auto & same & (jnp.abs(here - epoch.value) > noise)

        def gather():
            return self._gathered(secants, epoch, queries, units)

        def shorten():
            return self._shortened(secants, epoch, here)

        def give_up():
            return self._given_up(secants, epoch)

        tired = epoch.num_shortened >= SHORTENED
        which = jnp.where(failed, jnp.where(tired, 2, 1), 0)
        change, secants, epoch = choose(which, [gather, shorten, give_up], like=here)
        noise = first.trust.noise
        trust = first.trust.without_step()._replace(
            noise=noise._replace(found=noise.found | noisy)
        )
        updates = [x / unit for x, unit in zip(change, units, strict=True)]
        return finite_or_zero(self.layout.updates(updates)), QuasiNewtonState(
            first._replace(counts=counts, trust=trust), secants, epoch
        )

    def _begun(self, state: QuasiNewtonState) -> QuasiNewtonState:
        """The state before a round; the first one takes over what the start has learnt."""
        trust, new = state.start.trust, state.secants.scale == 0
        scale = jnp.where(new, jnp.maximum(trust.model, TINY), state.secants.scale)
        epoch = state.epoch._replace(
            limit=jnp.where(new, trust.limit, state.epoch.limit),
            radius=jnp.where(new, NEAR * trust.radius, state.epoch.radius),
        )
        return state._replace(secants=state.secants._replace(scale=scale), epoch=epoch)

    def _gathered(
        self, secants: Secants, epoch: Epoch, queries: Queries, units: Leaves
    ) -> tuple[Leaves, Secants, Epoch]:
        """With a round of slopes, and a step where it is the last one of the epoch."""
        k, here = self.width, queries.origin
        place = epoch.num_rounds % self.length
        bends, valid = curvatures(queries)
        # The last round of an epoch may end with the epoch's first directions once more.
        valid &= place * k + jnp.arange(k) < self.order
        slopes = queries.radii / 2 * (bends - secants.scale * self.layout.size)
        slopes = jnp.where(valid, slopes, 0) / self.order
        more = queries.plan.combine(slopes, self.layout)
        gathered = [
            x + unit * y
            for x, unit, y in zip(jax.tree.leaves(epoch.gathered), units, more, strict=True)
        ]
        epoch = epoch._replace(
            num_rounds=epoch.num_rounds + 1,
            gathered=self.layout.tree(gathered),
            pending=jnp.zeros_like(epoch.pending),
            num_shortened=jnp.zeros_like(epoch.num_shortened),
            value=here,
        )

        def rest():
            return self.layout.zeros(), secants, epoch

        return choose(
            place == self.length - 1, [rest, lambda: self._stepped(secants, epoch)], like=here
        )

    def _stepped(self, secants: Secants, epoch: Epoch) -> tuple[Leaves, Secants, Epoch]:
        """After an epoch: with one pair more, and a step."""
        gradient = secants.times(1.0, jax.tree.leaves(epoch.gathered))
        change = [x - y for x, y in zip(gradient, jax.tree.leaves(epoch.gradient), strict=True)]
        same = secants
        secants = choose(
            epoch.known,
            [lambda: same, lambda: learned(same, jax.tree.leaves(epoch.step), change)],
            like=epoch.value,
        )
        step = scale(-1 / secants.scale, secants.times(-1.0, gradient))
        slope = vdot(step, gradient)
        length = jnp.sqrt(-slope / secants.scale)
        first = secants.num_pairs == 0
        share = jnp.where(first & (length > epoch.limit), epoch.limit / length, 1)
        good = (slope < 0) & jnp.isfinite(slope) & all_finite(step)
        share = jnp.where(good, share, 0)
        step = [jnp.where(good, x, 0) for x in scale(share, step)]
        look = NEAR * share * length / math.sqrt(self.layout.size)
        radius = jnp.where(good, look, epoch.radius)
        return (
            step,
            secants,
            epoch._replace(
                gathered=self.layout.tree(self.layout.zeros()),
                gradient=self.layout.tree(gradient),
                step=self.layout.tree(step),
                known=good,
                pending=good,
                slope=jnp.where(good, share * slope, 0),
                radius=jnp.maximum(radius, self._least_radius(secants, epoch)),
            ),
        )

    def _shortened(
        self, secants: Secants, epoch: Epoch, here: jax.Array
    ) -> tuple[Leaves, Secants, Epoch]:
        """Where f has not fallen: to the least value of the parabola that the values show."""
        rise = here - epoch.value - epoch.slope
        share = -epoch.slope / (2 * jnp.where(rise > 0, rise, 1))
        share = jnp.where(jnp.isfinite(rise), jnp.clip(share, 0.1, 0.5), 0.1)
        step = jax.tree.leaves(epoch.step)
        return (
            scale(share - 1, step),
            secants,
            epoch._replace(
                step=self.layout.tree(scale(share, step)),
                slope=share * epoch.slope,
                num_shortened=epoch.num_shortened + 1,
            ),
        )

    def _given_up(self, secants: Secants, epoch: Epoch) -> tuple[Leaves, Secants, Epoch]:
        """Back to where the step began, without pairs, for a new look from nearer."""
        back = [-x for x in jax.tree.leaves(epoch.step)]
        none = jnp.zeros_like(epoch.pending)
        least = self._least_radius(secants, epoch)
        return (
            back,
            secants.forgotten(),
            epoch._replace(
                # A new epoch, with directions of its own.
                num_rounds=(epoch.num_rounds // self.length + 1) * self.length,
                known=none,
                pending=none,
                num_shortened=jnp.zeros_like(epoch.num_shortened),
                limit=jnp.sqrt(vdot(back, back)),
                radius=jnp.maximum(epoch.radius / 10, least),
            ),
        )

    def _least_radius(self, secants: Secants, epoch: Epoch) -> jax.Array:
        """The μ at which ½μ²γd is five times the rounding error of a value."""
        curvature = jnp.maximum(secants.scale, TINY) * self.layout.size
        return jnp.sqrt(10 * self._rounding(epoch.value) / curvature)

    def _rounding(self, value: jax.Array) -> jax.Array:
        """The rounding error of a value."""
        epsilons = [float(jnp.finfo(dtype).eps) for _, dtype, _ in self.layout.wide()]
        return ROUNDING * max(epsilons, default=0.0) * jnp.abs(value)


__all__ = ["Epoch", "QuasiNewtonState", "quasi_newton"]
