"""The objective of all contenders: a network's loss on a batch of digits.

Parameters are {layer: {"weight": [out, in], "bias": [out]}}, and a layer's product goes through
``dense(x, weight)``, so that libraries which want to see it can.
"""

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.common import victim

TRAIN = 4_000
Dense = Callable[[jax.Array, Any], jax.Array]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Of a network, a population and a batch.

    Attributes:
      hidden: widths of the hidden layers.
      batch: images of a step, the same ones for the whole population.
      pairs: antithetic pairs of directions; a step has twice as many queries.
      devices: how many share a step's queries.
    """

    hidden: tuple[int, ...]
    batch: int
    pairs: int
    devices: int = 1

    @property
    def queries(self) -> int:
        """Queries a step."""
        return 2 * self.pairs


class Batch(NamedTuple):
    """Images [n, 784] and labels [n]."""

    images: jax.Array
    labels: jax.Array


def digits() -> tuple[Batch, Batch]:
    """For training, and 1 000 held out."""
    images, labels = victim.load_digits(0)
    both = Batch(jnp.asarray(images.reshape(len(images), -1)), jnp.asarray(labels))
    return Batch(*(x[:TRAIN] for x in both)), Batch(*(x[TRAIN:] for x in both))


def batches(data: Batch, size: int, count: int, seed: int) -> Batch:
    """Batches of random images, [count, size, …]."""
    rows = np.random.default_rng(seed).integers(len(data.labels), size=(count, size))
    return Batch(data.images[rows], data.labels[rows])


def init(key: jax.Array, hidden: tuple[int, ...]) -> dict[str, dict[str, jax.Array]]:
    """Parameters: Gaussian weights of variance 2/in, biases of zero."""
    widths = (784, *hidden, 10)
    return {
        str(i): {
            "weight": jax.random.normal(jax.random.fold_in(key, i), (out, inside))
            * (2 / inside) ** 0.5,
            "bias": jnp.zeros(out),
        }
        for i, (inside, out) in enumerate(itertools.pairwise(widths))
    }


def product(x: jax.Array, weight: jax.Array) -> jax.Array:
    """A layer's product, of arrays."""
    return x @ weight.T


def logits(params: Any, images: jax.Array, dense: Dense = product) -> jax.Array:
    """The network's outputs, [n, 10]."""
    x = images
    for i in range(len(params)):
        x = dense(x if i == 0 else jax.nn.relu(x), params[str(i)]["weight"])
        x = x + params[str(i)]["bias"]
    return x


def cross_entropy(outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Mean over the batch."""
    return jnp.mean(optax.losses.softmax_cross_entropy_with_integer_labels(outputs, labels))


def loss(params: Any, batch: Batch, dense: Dense = product) -> jax.Array:
    """The objective."""
    return cross_entropy(logits(params, batch.images, dense), batch.labels)


def accuracy(params: Any, data: Batch) -> jax.Array:
    """The share of images that are named rightly."""
    return jnp.mean(jnp.argmax(logits(params, data.images), -1) == data.labels)
