"""Hessian errors of layers while SGD trains the network, with the amounts of Fig. 3 of ZoVH.

SGD trains the network from its initial weights, rate 10⁻⁴, momentum 0.9, batches of 32 normalised
digits, 1 875 steps: an epoch of MNIST, 15 epochs of ours. Three queries a round, μ = 0.5, and
N = 4 rounds with reuse. As in the paper's reference code, errors are of the present batch's
Hessian after the step; the rounds of older weights are evaluated on that batch, too, with the
other weights as they are now. That code frees 256, 1 024 and 512 weights of the kernels, chosen
once; here they are measured so and whole. It measures after each step, here after every 15th.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

import zovh_jax as zo
from benchmarks.common import victim
from benchmarks.hessian_error.layers import LAYERS, Factored, LayerLoss
from benchmarks.hessian_error.measure import errors

RADIUS, ROUNDS = 0.5, 4
RATE, MOMENTUM, BATCH = 1e-4, 0.9, 32
FREE = {"conv1": 256, "conv2": 1024, "fc2": 512}
"""How many weights of each kernel the paper's reference code frees."""
MEAN, DEVIATION = 0.1307, 0.3081
"""Of MNIST's pixels, as that code has them."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PartLoss:
    """A layer's loss as a function of the ``free`` ones of its weights, indices [d]."""

    loss: LayerLoss
    free: jax.Array

    def __call__(self, weights: jax.Array) -> jax.Array:
        return self.loss(self.loss.weights.at[self.free].set(weights))

    def restricted(self, exact: Factored) -> Factored:
        """The Hessian, from the whole layer's at its weights."""
        return Factored(exact.factor[:, self.free])


def on_layers(
    steps: int, every: int, counts: Any, settings: victim.Settings
) -> list[tuple[str, int, list[dict]]]:
    """Errors along one training: (layer, d, for each point the errors of ``counts``)."""

    @jax.jit
    def at(loss, free, path, key):
        exact, part = loss.hessian(path[-1]), PartLoss(loss, free)
        # One direction at a time: a batch of kernels makes slow convolutions on a CPU.
        options: Any = {"counts": counts, "evaluate": zo.evaluators.chunked(1)}
        return (
            errors(loss, path, exact, key, RADIUS, **options),
            errors(part, path[:, free], part.restricted(exact), key, RADIUS, **options),
        )

    found: dict[tuple[str, int], list[dict]] = {}
    points = training(steps, every, settings)
    for index, (losses, paths) in enumerate(tqdm(points, "training", -(-steps // every))):
        for name, loss in losses.items():
            d = loss.weights.size
            free = np.sort(np.random.default_rng(0).permutation(d)[: FREE[name]])
            key = jax.random.fold_in(jax.random.key(0), index)
            both = at(loss, free, paths[name], key)
            # One entry where a kernel is so small that all of it is free.
            for size, outcome in dict(zip((d, len(free)), both, strict=True)).items():
                found.setdefault((name, size), []).append(outcome)
    return [(name, d, each) for (name, d), each in found.items()]


def training(
    steps: int, every: int, settings: victim.Settings
) -> Iterator[tuple[dict[str, LayerLoss], dict[str, jax.Array]]]:
    """Trains by SGD; after ``every`` steps yields losses of the last batch and the last kernels.

    Returns:
      By layer: the loss at the weights after the step, and `ROUNDS` kernels [N, d], the last one
      those weights.
    """
    images, labels = (part[: settings.train_size] for part in victim.load_digits(settings.seed))
    images = (images - np.float32(MEAN)) / np.float32(DEVIATION)
    model = victim.CNN(settings.channels, settings.hidden)
    params = model.init(jax.random.key(settings.seed), jnp.zeros((1, 28, 28), jnp.float32))
    params = jax.tree.map(lambda x: x.astype(jnp.float32), params)
    sgd = optax.sgd(RATE, momentum=MOMENTUM)
    state = sgd.init(params)
    random, per_epoch = np.random.default_rng(settings.seed), len(images) // BATCH
    order = np.concatenate(
        [
            random.permutation(len(images))[: per_epoch * BATCH]
            for _ in range(-(-steps // per_epoch))
        ]
    ).reshape(-1, BATCH)[:steps]

    def loss_of(params, batch, targets):
        logits = model.apply(params, batch)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def step(params, state, batch, targets):
        updates, state = sgd.update(jax.grad(loss_of)(params, batch, targets), state)
        params = optax.apply_updates(params, updates)
        kernels = {
            name: jnp.ravel(params["params"][layer]["kernel"]) for name, layer in LAYERS.items()
        }
        return params, state, kernels

    recent: list[dict[str, jax.Array]] = []
    for index, rows in enumerate(order, start=1):
        params, state, kernels = step(params, state, images[rows], labels[rows])
        recent = [*recent[1 - ROUNDS :], kernels]
        if index % every == 0:
            last = jnp.asarray(images[rows]), jnp.asarray(labels[rows])
            losses = {
                name: LayerLoss(params, *last, layer, model) for name, layer in LAYERS.items()
            }
            yield losses, {name: jnp.stack([each[name] for each in recent]) for name in LAYERS}
