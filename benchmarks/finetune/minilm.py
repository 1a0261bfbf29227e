"""all-MiniLM-L6-v2 in flax nnx: a sentence encoder of 22.6 million parameters, and a classifier.

It is written as anyone would write it: nothing here knows that it is queried at perturbed
parameters.
"""

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

Linear = Callable[..., Any]
"""Makes a linear layer from its inputs, its outputs and ``rngs``."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are MiniLM-L6's."""

    vocabulary: int = 30_522
    positions: int = 512
    width: int = 384
    hidden: int = 1_536
    layers: int = 6
    heads: int = 12


CONFIG = Config()


class Layer(nnx.Module):
    """Attention, then a network of one hidden layer, each added to its input and normalised.

    Args:
      config: the sizes.
      adapted: makes the layers of queries and values, the ones that adapters are usually put on.
      rngs: of the initial weights.
    """

    def __init__(self, config: Config, adapted: Linear, rngs: nnx.Rngs):
        width, hidden = config.width, config.hidden
        self.heads = config.heads
        self.query = adapted(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = adapted(width, width, rngs=rngs)
        self.output = nnx.Linear(width, width, rngs=rngs)
        self.attention_norm = nnx.LayerNorm(width, epsilon=1e-12, rngs=rngs)
        self.up = nnx.Linear(width, hidden, rngs=rngs)
        self.down = nnx.Linear(hidden, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, epsilon=1e-12, rngs=rngs)

    def __call__(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        x = self.attention_norm(x + self.attention(x, bias))
        return self.norm(x + self.down(nnx.gelu(self.up(x), approximate=False)))

    def attention(self, x: jax.Array, bias: jax.Array) -> jax.Array:
        """Every token looks at all others; the bias [batch, 1, 1, length] hides padding."""
        *rows, width = x.shape
        query, key, value = (
            layer(x).reshape(*rows, self.heads, width // self.heads)
            for layer in (self.query, self.key, self.value)
        )
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(width / self.heads)
        mixed = jnp.einsum("bhqk,bkhd->bqhd", nnx.softmax(scores + bias), value)
        return self.output(mixed.reshape(x.shape))


class MiniLM(nnx.Module):
    """Sentences as unit vectors [batch, width], from tokens [batch, length] padded with zeros.

    Args:
      config: the sizes.
      rngs: of the initial weights.
      adapted: see `Layer`.
    """

    def __init__(self, config: Config, rngs: nnx.Rngs, adapted: Linear = nnx.Linear):
        self.words = nnx.Embed(config.vocabulary, config.width, rngs=rngs)
        self.positions = nnx.Embed(config.positions, config.width, rngs=rngs)
        self.types = nnx.Embed(2, config.width, rngs=rngs)
        self.norm = nnx.LayerNorm(config.width, epsilon=1e-12, rngs=rngs)
        self.layers = nnx.List([Layer(config, adapted, rngs) for _ in range(config.layers)])

    def __call__(self, tokens: jax.Array) -> jax.Array:
        known = tokens > 0
        places = jnp.arange(tokens.shape[1])
        x = self.words(tokens) + self.positions(places) + self.types(jnp.zeros_like(places))
        x = self.norm(x)
        bias = jnp.where(known, 0.0, -1e9)[:, None, None]
        for layer in self.layers:
            x = layer(x, bias)
        mean = jnp.sum(x * known[..., None], 1) / jnp.sum(known, 1, keepdims=True)
        return mean / jnp.linalg.norm(mean, axis=1, keepdims=True)


class Classifier(nnx.Module):
    """Logits [batch, classes] of sentences, from a linear layer on their vectors."""

    def __init__(self, encoder: MiniLM, width: int, classes: int, rngs: nnx.Rngs):
        self.encoder = encoder
        self.head = nnx.Linear(width, classes, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        return self.head(self.encoder(tokens))


NAMES = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "types",
    "embeddings.LayerNorm": "norm",
    "attention.self.query": "query",
    "attention.self.key": "key",
    "attention.self.value": "value",
    "attention.output.dense": "output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "norm",
}
"""Parts of the model, by their names in the file."""
KINDS = {"Embed": "embedding", "LayerNorm": "scale", "Linear": "kernel", "LoRALinear": "kernel"}
"""What the file calls the weight of a part."""


def load(model: MiniLM, weights: bytes) -> None:
    """Fills a model with the weights of a safetensors file.

    The file's pooler has no part in sentence vectors and is left out.
    """
    for name, array in safetensors.numpy.load(weights).items():
        match = re.fullmatch(r"(?:encoder\.layer\.(\d+)\.)?(.+)\.(weight|bias)", name)
        if match is None or match[2] not in NAMES:
            continue
        part = getattr(model if match[1] is None else model.layers[int(match[1])], NAMES[match[2]])
        kind = "bias" if match[3] == "bias" else KINDS[type(part).__name__]
        fill(getattr(part, kind), array.T if kind == "kernel" else array, name)


def fill(variable: nnx.Variable, value: np.ndarray, name: str) -> None:
    """Puts an array of a file, of this name, into a variable of a model."""
    if variable.shape != value.shape:
        raise ValueError(f"{name} has the shape {value.shape}, the model's {variable.shape}.")
    variable[...] = jnp.asarray(value)


def pretrained(weights: bytes, adapted: Linear = nnx.Linear, seed: int = 0) -> MiniLM:
    """The model with its published weights; those that adapters add are drawn by the seed."""
    model = MiniLM(CONFIG, nnx.Rngs(seed), adapted)
    load(model, weights)
    return model
