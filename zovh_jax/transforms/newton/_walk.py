"""One step of an optimiser without a learning rate: what is the same for all three of them.

A round of queries around θ first judges the last step. If that one failed, it is taken back:
its directions are replayed from their key, and its coefficients have been kept. Otherwise a new
step is made from the slopes along this round's directions.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax._mesh import varying_with
from zovh_jax._tree import Layout, scalar_dtype, scale
from zovh_jax._types import Leaves, PyTree, ValueFn
from zovh_jax.directions import Directions, Explicit
from zovh_jax.evaluators.query import query
from zovh_jax.plan import Plan
from zovh_jax.queries import Queries
from zovh_jax.stencils import Stencil, central
from zovh_jax.transforms._rounds import Rounds, ZerothOrderState, finite_or_zero
from zovh_jax.transforms.newton.noise import looked_for
from zovh_jax.transforms.newton.probe import charged
from zovh_jax.transforms.newton.trust import StepRules, Trust


class Move(NamedTuple):
    """A step, and what the next round must know of it.

    Attributes:
      change: what to add to the perturbed leaves.
      trust: the state with this step to be judged.
      coefficients: of the step along the directions of its round, [K]; zero after a step back.
    """

    change: Leaves
    trust: Trust
    coefficients: jax.Array


@dataclasses.dataclass(frozen=True)
class View:
    """A round of queries around θ, and what it says.

    Attributes:
      answered: the round, as it was answered, without outliers.
      queries: the same, with the mean of the finite values for an f(θ) that is not finite.
      counts: the counts after this round.
      trust: the state after the last step was judged, with this round in its trace.
      failed: whether the last step must be taken back, or the way of the last rounds.
      norms: ‖u_k‖², [K], in the metric.
      slopes: s_k, [K].
      back: the multiple of the trail by which the way is taken back; 0 for the last step alone.
    """

    answered: Queries
    queries: Queries
    counts: ZerothOrderState
    trust: Trust
    failed: jax.Array
    norms: jax.Array
    slopes: jax.Array
    back: Any = 0.0


@dataclasses.dataclass(frozen=True)
class Walk:
    """How to look around, go on and go back.

    Attributes:
      layout: of the parameters.
      rounds: the settings of a round.
      rules: for the length of a step.
    """

    layout: Layout
    rounds: Rounds
    rules: StepRules

    def look(
        self,
        directions: Directions,
        counts: ZerothOrderState,
        trust: Trust,
        params: PyTree,
        value_fn: ValueFn,
        value: Any,
        norms: Callable[[Plan], jax.Array],
    ) -> View:
        """A round along these directions.

        Args:
          directions: the family of this round.
          counts, trust: as they were before it.
          params, value_fn, value: θ, f and, where it is known, f(θ).
          norms: gives ‖u_k‖² of a plan, [K], in the metric.
        """
        asked = dataclasses.replace(self.rounds, radius=trust.radius, directions=directions)
        answered, _, counts = asked.step(counts, params, value_fn, value)
        answered, trust = self.rules.sift(trust, answered)
        assert answered.origin is not None
        trust, failed = self.rules.judge(trust, answered.origin, _lost(answered))
        queries, squares = _anchored(answered), norms(answered.plan)
        slopes, trust = self.rules.slopes(trust, queries, squares)
        return View(answered, queries, counts, trust, failed, squares, slopes)

    def listen(
        self,
        view: View,
        directions: Directions,
        counts: ZerothOrderState,
        coefficients: jax.Array,
        trail: PyTree,
        value_fn: ValueFn,
        params: PyTree,
    ) -> View:
        """The view, with two values more where the objective is noisy: see `noise`.

        Args:
          view: this round.
          directions: those of the last round.
          counts: as they were before this round.
          coefficients: of the last step, [K].
          trail: the sum of past steps over their multiples, None where noise isn't looked for.
          value_fn, params: f, traced before, and θ.
        """
        if not self.rules.auto:
            return view
        trust, noise, origin = view.trust, view.trust.noise, view.answered.origin
        assert origin is not None
        change = jnp.where(trust.squared_length > 0, origin - trust.origin, jnp.nan)
        alarm = noise.is_harm(change)
        zeros = [jnp.zeros((), jnp.int32) for _ in range(2)]
        nothing = trust, *zeros, jnp.zeros((), bool), jnp.zeros_like(trust.radius)

        def ask():
            far = view.queries.radius * math.sqrt(self.layout.size)
            asked = noise.ask(alarm, trust.squared_length, far)

            def last():
                return self._replayed(view, directions, counts, coefficients)

            def whole():
                return scale(noise.mean_multiple, jax.tree.leaves(trail))

            way = choose(asked.last, [whole, last], like=view.slopes)
            there = query(
                lambda leaves: value_fn(self.layout.merge(leaves, params, lambda frozen: frozen)),
                self.layout.leaves(params, "params"),
                counts.key,
                num_directions=1,
                radius=asked.reach,
                directions=Explicit([x[None] for x in way]),
                stencil=central(),
                evaluate=self.rounds.evaluate,
            )
            heard, harm = self.rules.heard(trust, origin, there.values[0], asked)
            back = jnp.where(harm & ~asked.last, noise.mean_multiple, 0)
            return heard, jnp.asarray(2, jnp.int32), there.num_nonfinite, harm, back

        asks = noise.asks | alarm
        heard, spent, bad, harm, back = choose(asks, [lambda: nothing, ask], like=view.slopes)
        return dataclasses.replace(
            view,
            trust=heard._replace(noise=heard.noise.passed(change)),
            counts=charged(view.counts, spent, bad),
            failed=view.failed | harm,
            back=back,
        )

    def remembered(
        self, move: Move, trail: PyTree, length: Callable[[Leaves], jax.Array]
    ) -> tuple[PyTree, Trust]:
        """The trail with a move in it, and the state that knows its length in the metric."""
        if not self.rules.auto:
            return trail, move.trust
        noise = move.trust.noise
        old = jax.tree.leaves(trail)

        def longer():
            m = jnp.where(noise.multiple > 0, noise.multiple, 1)
            # Otherwise no step was taken yet, or the way was taken back.
            begun = noise.mean_multiple > 0
            faded = scale(jnp.where(begun, noise.fading, 0), old)
            taken = scale(jnp.where(begun, 1 / m, 0), move.change)
            new = finite_or_zero([x + y for x, y in zip(faded, taken, strict=True)])
            return new, jnp.square(length(new))

        leaves, square = choose(noise.found, [lambda: (old, noise.trail), longer], like=noise.trail)
        trust = move.trust._replace(noise=noise._replace(trail=square))
        return self.layout.tree(leaves), trust

    def _replayed(self, view, directions, counts, coefficients) -> Leaves:
        """Σ_k c_k u_k along the last round's directions."""
        k = self.rounds.num_directions
        key = directions.round_key(counts.key, counts.round - 1, self.layout, k)
        block_size = view.queries.plan.block_size
        plan = Plan(key, directions, num_directions=k, block_size=block_size)
        return plan.combine(coefficients, self.layout)

    def ahead(self, view: View, slopes: jax.Array, length: Callable[[Leaves], jax.Array]) -> Move:
        """The step −m Σ_k s_k u_k; ``length`` is that of a sum of directions, in the metric."""
        along = view.queries.plan.combine(slopes, self.layout)
        origin = view.answered.origin
        assert origin is not None
        multiple, trust = self.rules.decide(view.trust, view.queries, slopes, length(along), origin)
        return Move(scale(-multiple, along), trust, -multiple * slopes)

    def back(
        self,
        view: View,
        directions: Directions,
        counts: ZerothOrderState,
        coefficients: jax.Array,
        trail: PyTree,
    ) -> Move:
        """The last step, taken back; or the way of the last rounds, where that did harm.

        Args:
          view: this round.
          directions: those of the last round.
          counts: as they were before this round.
          coefficients: of the last step, [K].
          trail: as for `listen`.
        """

        def step():
            return self._replayed(view, directions, counts, -coefficients)

        def way():
            return scale(-view.back, jax.tree.leaves(trail))

        whole = view.back > 0
        change = choose(whole, [step, way], like=view.slopes) if self.rules.auto else step()
        return Move(change, self.rules.taken_back(view.trust), jnp.zeros_like(coefficients))

    def stay(self, view: View) -> Move:
        """No step at all."""
        still = jnp.zeros_like(view.slopes)
        return Move(self.layout.zeros(), view.trust.without_step(), still)


def choose(choice: jax.Array, branches: Sequence[Callable[[], Any]], like: jax.Array) -> Any:
    """The result of the branch that an index or a bool says.

    Inside ``jax.shard_map`` all results must vary over the same axes: those that ``like`` varies
    over.
    """

    def tied(branch):
        return lambda: varying_with(branch(), like)

    return jax.lax.switch(choice.astype(jnp.int32), [tied(branch) for branch in branches])


def check(radius: float, noise: Any, memory: float, stencil: Stencil) -> None:
    """Refuses settings out of range, and a stencil without f(θ)."""
    _checks.positive("radius", radius)
    _checks.positive("memory", memory)
    if noise != "auto":
        _checks.nonnegative("noise", noise)
    if stencil.paired and not stencil.needs_origin:
        raise ValueError(
            f"stencil={stencil!r} does not ask for f(θ), by which steps are judged: use "
            "zo.stencils.forward() or three_point()."
        )


def beginning(
    rounds: Rounds, params: PyTree, noise: Any
) -> tuple[ZerothOrderState, Trust, jax.Array, PyTree]:
    """The counts, the trust, the coefficients and the trail before the first round."""
    level = 0.0 if isinstance(noise, str) else noise
    layout = rounds.layout(params)
    trust = Trust.init(rounds.radius, layout.size, level)  # type: ignore[arg-type]
    trail = layout.tree(layout.zeros()) if looked_for(noise) else None
    return rounds.init(params), trust, jnp.zeros(rounds.num_directions, scalar_dtype()), trail


def _lost(queries: Queries) -> jax.Array:
    """Whether f has no value at half of the points around θ, or more."""
    return 2 * jnp.sum(queries.valid) <= queries.plan.size


def _anchored(queries: Queries) -> Queries:
    """The queries with a finite f(θ): the mean of the finite values, where f(θ) is not finite.

    So a walk that starts where f is not finite can leave that place.
    """
    assert queries.origin is not None
    valid, n = queries.valid, jnp.sum(queries.valid)
    total = jnp.sum(jnp.where(valid, queries.even, 0))
    mean = total / jnp.maximum(n, 1).astype(total.dtype)
    known = jnp.isfinite(queries.origin) | (n == 0)
    return dataclasses.replace(queries, origin=jnp.where(known, queries.origin, mean))


__all__ = ["Move", "View", "Walk", "beginning", "check", "choose"]
