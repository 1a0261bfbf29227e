"""All of a round's queries in one batch."""

import dataclasses

import jax
import jax.numpy as jnp

from zovh_jax.evaluators.evaluator import Evaluator, perturbed


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Vmapped(Evaluator):
    """All of a round's queries in one batch: fastest; K (or 2K) copies of the parameters."""

    def block_size(self, num_directions):
        return num_directions

    def traces(self, num_directions):
        return 1

    def evaluate(self, fn, leaves, plan, layout, steps):
        block, n = plan.rows(layout), steps.shape[0]
        rows, columns = jnp.arange(plan.num_directions), jnp.arange(n)

        def at(u, k, step, j):
            return fn(perturbed(leaves, step, u), k * n + j)

        if n == 1:
            return jax.vmap(lambda u, k: at(u, k, steps[0], 0))(block, rows)[:, None]
        return jax.vmap(lambda u, k: jax.vmap(lambda step, j: at(u, k, step, j))(steps, columns))(
            block, rows
        )


vmapped = Vmapped

__all__ = ["Vmapped", "vmapped"]
