"""Quasi-Newton steps without a learning rate: whole gradients, in a metric that they learn.

Queries per step: K + 1 at most, f(θ) included. A walk begins as `diagonal_newton` does, until a
sweep teaches little. From then on θ rests for an epoch, D ≥ d directions that make a whole
gradient, and then takes one step of the model of `secants`, in units in which the diagonal is 1.

The slopes of an epoch are forward differences, less the curvature that the model promises. So a
model that is wrong makes a gradient that is wrong. Where a whole step hardly helped, or had to
be given up, the epoch that follows is a careful one, which looks along −u_k too; what its two sides
disagree by tells whether the one after it must be careful as well.
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
SHORTENED = 3
"""How often a step is shortened before it is given up."""
POOR = 0.1
"""The least share of the promised fall that speaks for the gradient; a good step has a half."""
AGREED = 0.01
"""The mean square of what the two sides of an epoch disagree by, over ‖∇f‖², that is ignored."""
SWEEPS = 4
"""The most sweeps of the start."""


class Epoch(NamedTuple):
    """What the present epoch has seen, and the step before it; trees in the metric's units.

    Attributes:
      num_epochs: whole epochs so far, and those that were broken off.
      place: rounds of this epoch so far.
      careful: whether epochs look to both sides.
      squares: Σ s_k² of this epoch so far.
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

    num_epochs: jax.Array
    place: jax.Array
    careful: jax.Array
    squares: jax.Array
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
    """L-BFGS from values, in units in which a learnt diagonal is 1; nothing to tune.

    It begins as `diagonal_newton`: 2d plain directions, and then sweeps of 4d queries, one after
    the other as long as they teach much, four at most. From then on it gathers a whole gradient
    while θ rests, ⌈D/K⌉ rounds of differences (D ≥ d, at most 1.07 d above d = 1000), and takes one
    step: −(γP)⁻¹∇f, where P follows from the last ``num_pairs`` steps and the changes of the
    gradient along them (the module `secants` has the formula). Directions are isotropic in the metric of P,
    and look about a thousandth as far as the last step was long: near, but above rounding. A step
    without a fall (Armijo's rule) is shortened at once; the round that showed it is lost.

    For smooth objectives with exact values, from some tens of parameters to some ten thousand, and
    budgets of 20 d queries or more. It wins in valleys that bend, such as Rosenbrock's, where the
    others without a learning rate crawl, and is no dearer than L-BFGS on finite differences, which
    it outlives where curvature is uneven: gradients are as exact as the metric makes them. It loses
    where d queries for a step are too many, on functions with many minima, and to `model_newton` up
    to some tens of parameters. Where f(θ), which each round of a gradient asks again, is not the
    same, values are noisy, and this is `diagonal_newton`.

    The updates must be applied as they are: the method compares what they did with what it expects.

    Args:
      num_directions: K, a multiple of 4, the most points beside f(θ) that a round asks.
      radius: μ of the first round; see `scalar_newton`.
      key: ``jax.random.key(seed)``.
      num_pairs: m, pairs that the model remembers. More of them help a little where curvature has
        many scales, and much from d on, where nothing need be forgotten.
      mask: a tree of bools like params, or a prefix of it: False leaves are frozen.
      noise: "auto", a number to begin with, or 0 for exact values; see `scalar_newton`.
      evaluate: as for `zo.zo_gradient`.

    Returns:
      An optimiser: no learning rate, and the updates are steps downhill, zero while a gradient is
      gathered. Queries a step: K + 1; ⌈D/⌈D/K⌉⌉ + 1 in epochs, which are no more; one less where
      ``value=f(params)`` is passed; two more in some steps once noise was found. State:
      2 num_pairs + 5 copies of the parameters, one more unless noise=0, and (2 num_pairs)² numbers.
      Memory for a step: that of a round, and as much as the state in the steps that end an epoch.
      Time beyond the queries': O(num_pairs·K·d) a step. The objective's program is there twice, for
      the start and for epochs; under ``jax.vmap`` over runs both are evaluated.

    Raises:
      ValueError, TypeError: for arguments out of range, naming them, and as `zo.zo_gradient`.

    Example:
      >>> import jax, jax.numpy as jnp, optax, zovh_jax as zo
      >>> f = lambda x: jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
      >>> optimizer, x = zo.quasi_newton(16, 0.1, key=jax.random.key(0)), jnp.zeros(16)
      >>> state = optimizer.init(x)
      >>> step = jax.jit(lambda state, x: optimizer.update(None, state, x, value_fn=f))
      >>> for _ in range(120):
      ...     updates, state = step(state, x)
      ...     x = optax.apply_updates(x, updates)
      >>> bool(f(x) < 1e-3)  # from 15
      True
    """
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
        layout, first = rounds.layout(params), start.init(params)
        return QuasiNewtonState(
            first, Secants.init(num_pairs, layout), EpochRules(layout, rounds).init()
        )

    def step(updates, state, params, value_fn, value):
        del updates
        layout = rounds.layout(params)
        sweeps = DiagonalSweeps(layout, num_directions)
        first = state.start
        traced_once = jax.jit(value_fn)
        ready, first = _ready(first, sweeps)

        def begin():
            updates, after = start.update(None, first, params, value_fn=traced_once, value=value)
            return updates, state._replace(start=after)

        def go_on():
            rules = EpochRules(layout, rounds)
            return rules.round(state, params, traced_once, value, looked_for(noise))

        return choose(ready, [begin, go_on], like=first.trust.radius)

    return transformation("quasi_newton", init, step)


def _ready(
    start: DiagonalNewtonState, sweeps: DiagonalSweeps
) -> tuple[jax.Array, DiagonalNewtonState]:
    """Whether the start is over; and its state, in which sweeps that teach follow each other."""
    sweep, trust = start.sweep, start.trust
    num_sweeps = sweep.num_rounds // sweeps.length
    some = (num_sweeps > 0) & ~trust.noise.found
    enough = (sweep.num_quiet > 0) | (num_sweeps >= SWEEPS)
    rest = jnp.where(some & ~enough, 0, sweep.rest)
    start = start._replace(sweep=sweep._replace(rest=rest))
    return some & enough & ~sweeps.inside(sweep) & (trust.weight > 0), start


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
        squares, *numbers = [jnp.zeros((), scalar_dtype()) for _ in range(5)]
        careful, *flags = [jnp.zeros((), bool) for _ in range(3)]
        *counts, shortened = [jnp.zeros((), jnp.int32) for _ in range(3)]
        fields: list[Any] = [*counts, careful, squares, *trees, *flags, shortened, *numbers]
        return Epoch(*fields)

    def round(
        self, state: QuasiNewtonState, params: PyTree, value_fn: ValueFn, value: Any, auto: bool
    ) -> tuple[PyTree, QuasiNewtonState]:
        """The updates and the state after a round."""
        state = self._begun(state)
        first, secants, epoch = state.start, state.secants, state.epoch
        units = [jnp.sqrt(h) for h in jax.tree.leaves(first.curvature)]
        side, place = jnp.divmod(epoch.place, self.length)
        number = epoch.num_epochs * self.length + place
        family = scaled(
            Turned(self.rounds.directions, secants, number, 1 - 2 * side),
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
        # Within an epoch, and where a step was given up, f(θ) is asked again.
        same = ~epoch.pending & (epoch.place + epoch.num_epochs > 0)
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
        trust = first.trust.without_step()._replace(noise=noise._replace(found=noise.found | noisy))
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
        place = epoch.place % self.length
        bends, valid = curvatures(queries)
        # The last round of an epoch may end with the epoch's first directions once more.
        valid &= place * k + jnp.arange(k) < self.order
        slopes = queries.radii / 2 * (bends - secants.scale * self.layout.size)
        slopes = jnp.where(valid, slopes, 0)
        weight = jnp.where(epoch.careful, 2, 1) * self.order
        more = queries.plan.combine(slopes / weight, self.layout)
        gathered = [
            x + unit * y
            for x, unit, y in zip(jax.tree.leaves(epoch.gathered), units, more, strict=True)
        ]
        # A whole step that hardly helped: the gradient was not what it seemed to be.
        poor = epoch.pending & (here - epoch.value > POOR * epoch.slope)
        careful = epoch.careful | (poor & (epoch.num_shortened == 0))
        epoch = epoch._replace(
            careful=careful,
            place=epoch.place + 1,
            squares=epoch.squares + jnp.sum(jnp.square(slopes)) / weight,
            gathered=self.layout.tree(gathered),
            pending=jnp.zeros_like(epoch.pending),
            num_shortened=jnp.zeros_like(epoch.num_shortened),
            value=here,
        )

        def rest():
            return self.layout.zeros(), secants, epoch

        return choose(
            epoch.place == jnp.where(epoch.careful, 2, 1) * self.length,
            [rest, lambda: self._stepped(secants, epoch)],
            like=here,
        )

    def _stepped(self, secants: Secants, epoch: Epoch) -> tuple[Leaves, Secants, Epoch]:
        """After an epoch: with one pair more, and a step."""
        gathered = jax.tree.leaves(epoch.gathered)
        gradient = secants.times(1.0, gathered)
        square = vdot(gradient, gathered)
        careful = epoch.careful & (epoch.squares - square > AGREED * square)
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
                num_epochs=epoch.num_epochs + 1,
                place=jnp.zeros_like(epoch.place),
                careful=careful,
                squares=jnp.zeros_like(epoch.squares),
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
        """Back to where the step began, to look to both sides; without pairs if that was done."""
        back = [-x for x in jax.tree.leaves(epoch.step)]
        none = jnp.zeros_like(epoch.pending)
        forgotten, careful = secants.forgotten(), epoch.careful
        return (
            back,
            jax.tree.map(lambda x, y: jnp.where(careful, x, y), forgotten, secants),
            epoch._replace(
                num_epochs=epoch.num_epochs + 1,
                careful=jnp.ones_like(careful),
                known=none,
                pending=none,
                num_shortened=jnp.zeros_like(epoch.num_shortened),
                limit=jnp.sqrt(vdot(back, back)),
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
