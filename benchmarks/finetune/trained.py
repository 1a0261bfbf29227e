"""What of the classifier is trained: its head, all of it, adapters, biases and norms, or scales."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from tqdm import tqdm

from benchmarks.common import cache
from benchmarks.finetune import downloads, minilm
from benchmarks.finetune.minilm import Classifier, MiniLM, pretrained
from benchmarks.finetune.reviews import Data

SCALE = 20.0
"""Logits before training are so many times the cosines of a sentence and the two prompts."""
LORA_RANK = 4
CHUNK = 250
"""So many sentences at a time when all are encoded."""


class Inputs(NamedTuple):
    """Of the training, validation and held-out sentences: tokens [count, length], or vectors."""

    training: jax.Array
    validation: jax.Array
    held_out: jax.Array


@dataclasses.dataclass(frozen=True)
class Trained:
    """A model of which some parameters are trained.

    Attributes:
      params: these, as they are before training: a tree of arrays.
      logits: [count, 2], of params and inputs.
      inputs: of all sentences.
      split: words for factored directions, as of `zo.explain`; their own where None.
      chunk: so many inputs at a time, where there are many; all at once where None.
    """

    params: Any
    logits: Callable[[Any, jax.Array], jax.Array]
    inputs: Inputs
    split: Any = None
    chunk: int | None = None

    def logits_of_many(self, params: Any, inputs: jax.Array) -> jax.Array:
        """The same, some inputs at a time."""
        if self.chunk is None:
            return self.logits(params, inputs)
        one = lambda x: self.logits(params, x[None])[0]  # noqa: E731
        return jax.lax.map(one, inputs, batch_size=self.chunk)


class Int8Linear(nnx.Module):
    """A linear layer whose kernel is 8-bit integers, which stay, times a scale for each output.

    The scales are parameters, in units of what they were: they are thousandths themselves, and one
    radius is to do for them and for biases.
    """

    def __init__(self, linear: nnx.Linear):
        kernel = jnp.asarray(linear.kernel)
        unit = jnp.max(jnp.abs(kernel), 0) / 127
        self.integers = nnx.Variable(jnp.round(kernel / unit).astype(jnp.int8))
        self.unit = nnx.Variable(unit)
        self.scale = nnx.Param(jnp.ones_like(unit))
        self.bias = nnx.Param(jnp.asarray(linear.bias))

    def __call__(self, x: jax.Array) -> jax.Array:
        scale = self.unit[...] * self.scale[...]
        return x @ self.integers[...].astype(x.dtype) * scale + self.bias[...]


def head(data: Data) -> Trained:
    """The last layer, on sentences' vectors that are worked out once, and standardised."""
    model = classifier(data)
    every = inputs_of(data, lambda tokens: vectors(model.encoder, tokens))
    mean = jnp.mean(every.training, 0)
    spread = jnp.maximum(jnp.std(every.training, 0), 1e-6)  # one entry is always the same
    kernel = jnp.asarray(model.head.kernel)
    # The same logits as of the vectors themselves; the bias is zero.
    nnx.update(model.head, {"kernel": kernel * spread[:, None], "bias": mean @ kernel})
    graph, params = nnx.split(model.head)
    inputs = Inputs(*((x - mean) / spread for x in every))
    return Trained(params, lambda params, x: nnx.merge(graph, params)(x), inputs)


def everything(data: Data) -> Trained:
    """All 22.6 million parameters."""
    return split(classifier(data), data, nnx.Param)


def adapters(data: Data) -> Trained:
    """LoRA of rank 4 on queries and values, and the head."""
    adapted = functools.partial(nnx.LoRALinear, lora_rank=LORA_RANK)
    return split(classifier(data, adapted), data, nnx.Any(nnx.LoRAParam, nnx.PathContains("head")))


def biases(data: Data) -> Trained:
    """Biases, layer norms and the head."""
    return split(classifier(data), data, nnx.Any(*map(nnx.PathContains, ("bias", "scale", "head"))))


def scales(data: Data) -> Trained:
    """Kernels as 8-bit integers that stay; their scales, biases, layer norms and the head."""
    model = classifier(data)
    for layer in model.encoder.layers:
        for name in ("query", "key", "value", "output", "up", "down"):
            setattr(layer, name, Int8Linear(getattr(layer, name)))
    return split(model, data, nnx.Any(*map(nnx.PathContains, ("bias", "scale", "head"))))


def classifier(data: Data, adapted: Callable[..., Any] = nnx.Linear) -> Classifier:
    """The published encoder under a head that compares with the prompts: it needs no training."""
    encoder = pretrained(downloads.weights(), adapted)
    model = Classifier(encoder, minilm.CONFIG.width, 2, nnx.Rngs(0))
    nnx.update(model.head, {"kernel": SCALE * encoder(jnp.asarray(data.prompts)).T})
    return model


def inputs_of(data: Data, of_tokens: Callable[[np.ndarray], jax.Array]) -> Inputs:
    """What a function makes of the tokens of all sentences."""
    return Inputs(**{name: of_tokens(x.tokens) for name, x in data.sets().items()})


def vectors(encoder: MiniLM, tokens: np.ndarray) -> jax.Array:
    """Sentences' vectors, some sentences at a time; kept, as this takes minutes on a CPU."""
    graph, state = nnx.split(encoder)
    encode = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens))

    def make() -> bytes:
        starts = tqdm(range(0, len(tokens), CHUNK), desc="sentences' vectors")
        parts = [np.asarray(encode(state, tokens[i : i + CHUNK])) for i in starts]
        return safetensors.numpy.save({"vectors": np.concatenate(parts)})

    path = downloads.FOLDER / f"vectors-{hashlib.sha256(tokens.tobytes()).hexdigest()[:12]}"
    return jnp.asarray(safetensors.numpy.load(cache.kept(path, make))["vectors"])


def split(model: Classifier, data: Data, what: Any) -> Trained:
    """The parameters that a filter of nnx picks; the rest stays."""
    graph, params, rest = nnx.split(model, what, ...)  # type: ignore[misc]

    def logits(params: Any, tokens: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, rest)(tokens)

    return Trained(params, logits, inputs_of(data, jnp.asarray))


TRAINED: dict[str, Callable[[Data], Trained]] = {
    "head": head,
    "everything": everything,
    "adapters": adapters,
    "biases": biases,
    "scales": scales,
}
