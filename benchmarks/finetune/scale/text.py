"""The text of the film reviews as bytes, in three parts, and windows of it."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.finetune import reviews
from benchmarks.finetune.scale.transformer import BYTES

HELD_OUT, VALIDATION = 10, 20
"""The last tenth of the text is held out, the twentieth before it is what rates are chosen by."""


class Text(NamedTuple):
    """Bytes to learn from, to choose rates by, and to be tested on: arrays of 8-bit integers."""

    training: np.ndarray
    validation: np.ndarray
    held_out: np.ndarray


def load() -> Text:
    """All sentences in the order of the file, one a line."""
    _, sentences = reviews.read()
    every = np.frombuffer("\n".join(sentences).encode(), np.uint8)
    end = len(every) - len(every) // HELD_OUT
    start = end - len(every) // VALIDATION
    return Text(every[:start], every[start:end], every[end:])


def unigram(text: Text) -> float:
    """The held-out text's loss, in nats a byte, where only each byte's frequency is known."""
    counts = np.bincount(text.training, minlength=BYTES) + 1
    return float(-np.mean(np.log(counts / counts.sum())[text.held_out]))


def drawn(text: jax.Array, key: jax.Array, count: int, length: int) -> jax.Array:
    """Windows that begin anywhere, [count, length]."""
    starts = jax.random.randint(key, (count, 1), 0, len(text) - length + 1)
    return text[starts + jnp.arange(length)].astype(jnp.int32)


def spread(text: np.ndarray, count: int, length: int) -> jax.Array:
    """So many windows all over the text, or as many as it has side by side, [count, length]."""
    most = len(text) // length
    starts = np.arange(most)[:: math.ceil(most / count)] * length
    return jnp.asarray(text[starts[:, None] + np.arange(length)], jnp.int32)
