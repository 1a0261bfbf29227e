"""A few of a round's queries at a time."""

import dataclasses

import jax
import jax.numpy as jnp

from zovh_jax import _checks
from zovh_jax.evaluators.evaluator import Evaluator, perturbed


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Chunked(Evaluator):
    """``size`` directions at a time, plus and minus one after the other.

    Memory for ``size`` directions and as many perturbed copies, whatever K is. With ``size=1`` the
    objective is called as it is, without ``jax.vmap``: ordered callbacks and functions without a
    batching rule work.

    Args:
      size: directions in memory at once; need not divide num_directions.
      redraw: for pairs, draw a direction again for its minus point instead of keeping it: one
        block of directions less in memory, for one more draw.
    """

    size: int
    redraw: bool = False

    def __post_init__(self):
        _checks.positive_int("size", self.size)

    def block_size(self, num_directions):
        return min(self.size, num_directions)

    def traces(self, num_directions):
        return 1 + (num_directions % self.block_size(num_directions) > 0)

    def evaluate(self, fn, leaves, plan, layout, steps):
        k, b = plan.num_directions, self.block_size(plan.num_directions)
        in_memory = plan.stored is not None or plan.directions.given or plan.directions.joint
        stored = plan.rows(layout) if in_memory else None

        def rows(indices, key):
            if stored is None:
                return plan.directions.draw(key, layout, k, indices)
            return [u[indices] for u in stored]

        def values_at(step, drawn, numbers):
            if self.size == 1:
                return fn(perturbed(leaves, step, [u[0] for u in drawn]), numbers[0])[None]
            return jax.vmap(lambda u, i: fn(perturbed(leaves, step, u), i))(drawn, numbers)

        def block(indices):
            redraw = self.redraw and stored is None
            kept = None if redraw else rows(indices, plan.key)

            def at(place):
                j, step = place
                drawn = kept
                if redraw:
                    # The barrier keeps XLA from moving the draw out of the loop over steps.
                    data, step = jax.lax.optimization_barrier((jax.random.key_data(plan.key), step))
                    key = jax.random.wrap_key_data(data, impl=jax.random.key_impl(plan.key))
                    drawn = rows(indices, key)
                return values_at(step, drawn, indices * len(steps) + j)

            return jnp.moveaxis(jax.lax.map(at, (jnp.arange(len(steps)), steps)), 0, 1)

        whole = k - k % b
        starts = jnp.arange(whole).reshape(-1, b)
        values = jax.lax.map(block, starts)
        values = values.reshape(whole, *values.shape[2:])
        if whole < k:
            values = jnp.concatenate([values, block(jnp.arange(whole, k))])
        return values


chunked = Chunked

__all__ = ["Chunked", "chunked"]
