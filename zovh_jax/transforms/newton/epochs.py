"""Epochs: whole gradients, gathered while θ rests, and one step after each.

The D directions of an epoch are complete, so that their slopes give the gradient itself. They are
forward differences, less the curvature that the model promises. So a model that is wrong makes a
gradient that is wrong. Where a whole step hardly helped, or had to be given up, the epoch that
follows is a careful one, which looks along −u_k too; what its two sides disagree by tells whether
the one after it must be careful as well.

A step is judged by the first round after it. Without a fall it is shortened on the spot, by the
parabola through the values that are known. f(θ) is asked in every round of an epoch: two values
of it that differ by more than rounding are of a noisy objective, and epochs forget all they knew.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax._tree import Layout, scalar_dtype, scale, vdot
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.directions import scaled
from zovh_jax.directions.hadamard import order_of
from zovh_jax.estimators.weights import curvatures
from zovh_jax.queries import Queries
from zovh_jax.transforms._rounds import Rounds, all_finite, finite_or_zero
from zovh_jax.transforms.newton._walk import choose
from zovh_jax.transforms.newton.diagonal_newton import DiagonalNewtonState
from zovh_jax.transforms.newton.radius import TINY, RadiusRules
from zovh_jax.transforms.newton.secants import Secants, Turned, learned
from zovh_jax.transforms.newton.trust import Trust

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
      origin: f where the epoch or, if a step is pending, the step began.
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
    origin: jax.Array
    slope: jax.Array
    limit: jax.Array
    radius: jax.Array


Walked = tuple[DiagonalNewtonState, Secants, Epoch]


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
        self,
        walked: Walked,
        params: PyTree,
        value_fn: ValueFn,
        value: Any,
        auto: bool,
    ) -> tuple[PyTree, Walked]:
        """The updates and the states after a round.

        Args:
          walked: the states before it.
          params, value_fn, value: θ, f and, where it is known, f(θ).
          auto: whether noise is looked for.
        """
        first, secants, epoch = walked
        secants, epoch = self._begun(first.trust, secants, epoch)
        units = [jnp.sqrt(h) for h in jax.tree.leaves(first.curvature)]
        queries, counts = self._asked(first, secants, epoch, units, params, value_fn, value)
        here = queries.origin
        assert here is not None
        error = 3 * self._looking.rounding(jnp.maximum(jnp.abs(epoch.origin), jnp.abs(here)))
        failed = epoch.pending & ~(here <= epoch.origin + FALL * epoch.slope + error)
        # Within an epoch θ rests. Where a step was taken back it is the same but for rounding.
        noisy = auto & (epoch.place > 0) & ~(jnp.abs(here - epoch.origin) <= error)

        def gather():
            return self._gathered(secants, epoch, queries, units, here)

        def shorten():
            return self._shortened(secants, epoch, here)

        def give_up():
            return self._given_up(secants, epoch)

        def forget():
            # Until noise is gone, `diagonal_newton` moves θ and the units.
            none = secants.forgotten()._replace(scale=jnp.zeros_like(secants.scale))
            return self.layout.zeros(), none, self.init()

        tired = epoch.num_shortened >= SHORTENED
        which = jnp.where(failed, jnp.where(tired, 2, 1), jnp.where(noisy, 3, 0))
        change, secants, epoch = choose(which, [gather, shorten, give_up, forget], like=here)
        trust = first.trust.without_step()
        noise = trust.noise._replace(found=trust.noise.found | noisy)
        first = first._replace(counts=counts, trust=trust._replace(noise=noise))
        updates = [x / unit for x, unit in zip(change, units, strict=True)]
        return finite_or_zero(self.layout.updates(updates)), (first, secants, epoch)

    def _asked(
        self,
        first: DiagonalNewtonState,
        secants: Secants,
        epoch: Epoch,
        units: Leaves,
        params: PyTree,
        value_fn: ValueFn,
        value: Any,
    ) -> tuple[Queries, Any]:
        """This round's queries, and the counts after them."""
        side, place = jnp.divmod(epoch.place, self.length)
        number = epoch.num_epochs * self.length + place
        turned = Turned(self.rounds.directions, secants, number, 1 - 2 * side)
        rounds = dataclasses.replace(
            self.rounds,
            num_directions=self.width,
            radius=epoch.radius,
            directions=scaled(turned, self.layout.tree([1 / x for x in units])),
        )
        queries, _, counts = rounds.step(first.counts, params, value_fn, value)
        return queries, counts

    def _begun(self, trust: Trust, secants: Secants, epoch: Epoch) -> tuple[Secants, Epoch]:
        """The states before a round: the first one takes over what the start has learnt."""
        new = secants.scale == 0
        known = jnp.where(new, jnp.maximum(trust.model, TINY), secants.scale)
        epoch = epoch._replace(
            limit=jnp.where(new, trust.limit, epoch.limit),
            radius=jnp.where(new, NEAR * trust.radius, epoch.radius),
        )
        return secants._replace(scale=known), epoch

    def _gathered(
        self, secants: Secants, epoch: Epoch, queries: Queries, units: Leaves, here: jax.Array
    ) -> tuple[Leaves, Secants, Epoch]:
        """With a round of slopes, and a step where it is the last one of the epoch."""
        k = self.width
        place = epoch.place % self.length
        bends, valid = curvatures(queries)
        # The last round of an epoch may end with the epoch's first directions once more.
        valid &= place * k + jnp.arange(k) < self.order
        slopes = queries.radii / 2 * (bends - secants.scale * self.layout.size)
        slopes = jnp.where(valid, slopes, 0)
        # A whole step that hardly helped: the gradient was not what it seemed to be.
        poor = epoch.pending & (here - epoch.origin > POOR * epoch.slope)
        careful = epoch.careful | (poor & (epoch.num_shortened == 0))
        sides = jnp.where(careful, 2, 1)
        weight = sides * self.order
        more = queries.plan.combine(slopes / weight, self.layout)
        gathered = [
            x + unit * y
            for x, unit, y in zip(jax.tree.leaves(epoch.gathered), units, more, strict=True)
        ]
        epoch = epoch._replace(
            careful=careful,
            place=epoch.place + 1,
            squares=epoch.squares + jnp.sum(jnp.square(slopes)) / weight,
            gathered=self.layout.tree(gathered),
            pending=jnp.zeros_like(epoch.pending),
            num_shortened=jnp.zeros_like(epoch.num_shortened),
            origin=here,
        )

        def rest():
            return self.layout.zeros(), secants, epoch

        return choose(
            epoch.place == sides * self.length,
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
            like=epoch.origin,
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
        rise = here - epoch.origin - epoch.slope
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
        return self._looking.shown(secants.scale, self._looking.rounding(epoch.origin))

    @property
    def _looking(self) -> RadiusRules:
        return RadiusRules.of(self.layout, self.rounds)


__all__ = ["Epoch", "EpochRules"]
