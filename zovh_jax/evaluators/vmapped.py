"""All of a round's queries in one batch."""

import dataclasses

import jax

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
        block = plan.materialise(layout)

        def at(u, step):
            return fn(perturbed(leaves, step, u))

        if steps.shape[0] == 1:
            return jax.vmap(lambda u: at(u, steps[0]))(block)[:, None]
        return jax.vmap(lambda u: jax.vmap(lambda step: at(u, step))(steps))(block)


vmapped = Vmapped

__all__ = ["Vmapped", "vmapped"]
