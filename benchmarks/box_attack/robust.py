"""The second victim: a network trained on its own adversarial examples, within ±0.3.

Adversarial training as in Madry et al. (arXiv 1706.06083): each batch is replaced by what projected
gradient descent from a random start makes of it. The network is that of Wong et al. (arXiv
2001.03994), two convolutions of stride 2 and two dense layers; ε grows from zero over the first
epochs, without which the network does not begin to learn.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from tqdm import tqdm

from benchmarks.common import victim


@dataclasses.dataclass(frozen=True)
class Settings(victim.Settings):
    """Everything that the trained weights depend on; the fields of `victim.Settings`, and more.

    Attributes:
      epsilon: how far from the digits the network is trained.
      warmup: epochs over which ε grows.
      steps, step_size: of the descent that makes a batch adversarial.
    """

    channels: tuple[int, int] = (16, 32)
    hidden: int = 100
    epochs: int = 30
    batch_size: int = 50
    epsilon: float = 0.3
    warmup: int = 3
    steps: int = 5
    step_size: float = 0.1


class Strided(nn.Module):
    """Two layers of conv 4×4 with stride 2 and relu, dense, relu, dense 10."""

    channels: tuple[int, int]
    hidden: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        x = images[..., None]
        for channels in self.channels:
            # Products of patches: XLA's convolutions take many times as long to differentiate on a
            # CPU.
            padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            end = padded.shape[1] - 3
            patches = [
                padded[:, i : i + end : 2, j : j + end : 2] for i in range(4) for j in range(4)
            ]
            x = nn.relu(nn.Dense(channels)(jnp.concatenate(patches, -1)))
        x = nn.relu(nn.Dense(self.hidden)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x)


def network(settings: Settings) -> Strided:
    """The network, without its parameters."""
    return Strided(settings.channels, settings.hidden)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()


def adversarial(
    logits: Callable[[jax.Array], Any],
    images: jax.Array,
    labels: jax.Array,
    key: jax.Array,
    *,
    epsilon: Any,
    steps: int,
    step_size: Any,
) -> jax.Array:
    """Projected gradient descent from a random start: images near ``images`` with a large loss."""
    lower, upper = jnp.maximum(images - epsilon, 0), jnp.minimum(images + epsilon, 1)
    slopes = jax.grad(lambda x: cross_entropy(logits(x), labels))

    def step(_, x):
        return jnp.clip(x + step_size * jnp.sign(slopes(x)), lower, upper)

    noise = jax.random.uniform(key, images.shape, minval=-1, maxval=1)
    return jax.lax.fori_loop(0, steps, step, jnp.clip(images + epsilon * noise, lower, upper))


def train(settings: Settings, images: np.ndarray, labels: np.ndarray) -> Any:
    """Trains by Adam on adversarial examples of each batch; returns the network's parameters."""
    model = network(settings)
    params = model.init(jax.random.key(settings.seed), jnp.zeros((1, 28, 28)))
    an_epoch = len(images) // settings.batch_size
    total = settings.epochs * an_epoch
    optimizer = optax.adam(optax.cosine_decay_schedule(settings.learning_rate, total))
    noise_key = jax.random.key(settings.seed + 1)

    @jax.jit
    def step(params, state, count, batch, targets):
        share = jnp.minimum(1, (count + 1) / (settings.warmup * an_epoch))
        attacked = adversarial(
            lambda x: model.apply(params, x),
            batch,
            targets,
            jax.random.fold_in(noise_key, count),
            epsilon=share * settings.epsilon,
            steps=settings.steps,
            step_size=share * settings.step_size,
        )
        slopes = jax.grad(lambda p: cross_entropy(model.apply(p, attacked), targets))(params)
        updates, state = optimizer.update(slopes, state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    rng = np.random.default_rng(settings.seed + 1)
    with tqdm(total=total, desc="train robust victim", unit="step") as bar:
        for epoch in range(settings.epochs):
            order = rng.permutation(len(images))[: an_epoch * settings.batch_size]
            for i, rows in enumerate(order.reshape(an_epoch, -1)):
                count = jnp.asarray(epoch * an_epoch + i)
                params, state = step(params, state, count, images[rows], labels[rows])
                bar.update()
    return params


def load(folder: Path, settings: Settings = Settings()) -> tuple[victim.Victim, float]:
    """The victim, and its held-out accuracy under projected gradient descent of 100 steps.

    Args:
      folder: where its parameters are kept, as for `victim.load_params`.
      settings: architecture and training.
    """
    path = folder / f"robust-victim-{settings.digest()}.msgpack"
    params = victim.trained(path, settings, train)
    model = network(settings)
    found = victim.met(lambda batch: model.apply(params, batch), settings)
    return found, under_attack(lambda x: model.apply(params, x), found, settings.epsilon)


def under_attack(logits: Callable[[jax.Array], Any], found: victim.Victim, epsilon: float) -> float:
    """A network's accuracy on the held-out digits, changed by 100 steps of ε/30 within ±ε."""
    images, labels = jnp.asarray(found.images), jnp.asarray(found.labels)

    @jax.jit
    def right(images, labels):
        attacked = adversarial(
            logits, images, labels, jax.random.key(0),
            epsilon=epsilon, steps=100, step_size=epsilon / 30,
        )  # fmt: skip
        return jnp.mean(jnp.argmax(logits(attacked), -1) == labels)

    return float(right(images, labels))
