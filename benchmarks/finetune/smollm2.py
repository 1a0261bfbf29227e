"""SmolLM2-135M in flax nnx: a language model of 135 million parameters, and its answers to prompts.

It is written as anyone would write it: nothing here knows that it is queried at perturbed
parameters. Its layers are stacked and run in a loop, so that the program is small.
"""

import contextlib
import dataclasses
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.finetune.minilm import Linear, fill


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are SmolLM2-135M's.

    Attributes:
      heads, groups: of queries, and of keys and values; queries' heads share those of a group.
      slowest: of the angles by which positions turn queries and keys, in positions a radian.
      epsilon: added to a mean of squares before its root is divided by.
    """

    vocabulary: int = 49_152
    width: int = 576
    hidden: int = 1_536
    layers: int = 30
    heads: int = 9
    groups: int = 3
    slowest: float = 1e5
    epsilon: float = 1e-5


CONFIG = Config()


class Layer(nnx.Module):
    """Attention, then a gated network of one hidden layer, each of normalised inputs, and added.

    Args:
      config: the sizes.
      adapted: makes the layers of queries and values, the ones that adapters are usually put on.
      rngs: of the initial weights.
    """

    def __init__(self, config: Config, adapted: Linear, rngs: nnx.Rngs):
        width, hidden = config.width, config.hidden
        narrow = width // config.heads * config.groups
        self.config = config
        self.attention_norm = nnx.RMSNorm(width, epsilon=config.epsilon, rngs=rngs)
        self.query = adapted(width, width, use_bias=False, rngs=rngs)
        self.key = nnx.Linear(width, narrow, use_bias=False, rngs=rngs)
        self.value = adapted(width, narrow, use_bias=False, rngs=rngs)
        self.output = nnx.Linear(width, width, use_bias=False, rngs=rngs)
        self.norm = nnx.RMSNorm(width, epsilon=config.epsilon, rngs=rngs)
        self.gate = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.up = nnx.Linear(width, hidden, use_bias=False, rngs=rngs)
        self.down = nnx.Linear(hidden, width, use_bias=False, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x))
        inner = self.norm(x)
        return x + self.down(nnx.silu(self.gate(inner)) * self.up(inner))

    def attention(self, x: jax.Array) -> jax.Array:
        """Every token looks at itself and those before it."""
        size = self.config.width // self.config.heads
        query, key, value = (
            layer(x).reshape(*x.shape[:2], -1, size) for layer in (self.query, self.key, self.value)
        )
        query, key = (rotated(y, self.config.slowest) for y in (query, key))
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.reshape(x.shape))


def rotated(x: jax.Array, slowest: float) -> jax.Array:
    """Heads [batch, length, heads, size], each pair of neighbours turned by the token's position.

    The file's queries and keys are in the order that makes neighbours a pair.
    """
    length, size = x.shape[1], x.shape[-1]
    speeds = slowest ** -(jnp.arange(0, size, 2) / size)
    angles = jnp.arange(length)[:, None, None] * speeds
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    first, second = x[..., ::2], x[..., 1::2]
    return jnp.stack([first * cos - second * sin, first * sin + second * cos], -1).reshape(x.shape)


class SmolLM2(nnx.Module):
    """What the model makes of tokens [batch, length]: vectors [batch, length, width].

    Args:
      config: the sizes.
      rngs: of the initial weights.
      adapted: see `Layer`.
    """

    def __init__(self, config: Config, rngs: nnx.Rngs, adapted: Linear = nnx.Linear):
        self.words = nnx.Embed(config.vocabulary, config.width, rngs=rngs)

        @nnx.split_rngs(splits=config.layers)
        @nnx.vmap
        def stacked(rngs: nnx.Rngs) -> Layer:
            return Layer(config, adapted, rngs)

        self.layers = stacked(rngs)
        self.norm = nnx.RMSNorm(config.width, epsilon=config.epsilon, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        graph, params = nnx.split(self.layers)
        x, _ = jax.lax.scan(
            lambda x, params: (nnx.merge(graph, params)(x), None), self.words(tokens), params
        )
        return self.norm(x)

    def answers(self, tokens: jax.Array, words: Sequence[int]) -> jax.Array:
        """Logits [batch, words] of some words, to follow tokens that are padded with zeros."""
        ends = jnp.sum(tokens > 0, 1) - 1
        last = jnp.take_along_axis(self(tokens), ends[:, None, None], 1)[:, 0]
        return last @ self.words(jnp.asarray(words)).T


NAMES = {
    "token_embd": "words",
    "output_norm": "norm",
    "attn_norm": "attention_norm",
    "attn_q": "query",
    "attn_k": "key",
    "attn_v": "value",
    "attn_output": "output",
    "ffn_norm": "norm",
    "ffn_gate": "gate",
    "ffn_up": "up",
    "ffn_down": "down",
}
"""Parts of the model, by their names in the file."""
KINDS = {"Embed": "embedding", "RMSNorm": "scale", "Linear": "kernel", "LoRALinear": "kernel"}
"""What nnx calls the weight of a part."""


def load(model: SmolLM2, weights: dict[str, np.ndarray]) -> None:
    """Fills a model with a file's arrays, by their names in it."""
    stacks: dict[tuple[bool, str], dict[int, np.ndarray]] = {}
    for name, array in weights.items():
        match = re.fullmatch(r"(?:blk\.(\d+)\.)?(\w+)\.weight", name)
        if match is None or match[2] not in NAMES:
            raise ValueError(f"The file holds {name}, for which the model has no place.")
        rows = stacks.setdefault((match[1] is not None, NAMES[match[2]]), {})
        rows[int(match[1] or 0)] = array
    for (stacked, name), rows in stacks.items():
        part = getattr(model.layers if stacked else model, name)
        value = np.stack([rows[i] for i in sorted(rows)]) if stacked else rows[0]
        if isinstance(part, nnx.Linear):
            value = value.swapaxes(-1, -2)
        fill(getattr(part, KINDS[type(part).__name__]), value, name)


@contextlib.contextmanager
def opened(content: bytes) -> Iterator[gguf.GGUFReader]:
    """A reader of a GGUF file, which wants it on a disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        path.write_bytes(content)
        yield gguf.GGUFReader(path)


def arrays(content: bytes) -> dict[str, np.ndarray]:
    """The arrays of a GGUF file in float32, by name."""
    with opened(content) as reader:
        return {
            x.name: gguf.quants.dequantize(x.data, x.tensor_type).astype(np.float32)
            for x in reader.tensors
        }


def facts(content: bytes, *names: str) -> list[Any]:
    """What else a GGUF file says, such as its tokens."""
    with opened(content) as reader:
        return [reader.fields[name].contents() for name in names]


def pretrained(content: bytes, adapted: Linear = nnx.Linear, seed: int = 0) -> SmolLM2:
    """The model with its published weights; those that adapters add are drawn by the seed."""
    model = SmolLM2(CONFIG, nnx.Rngs(seed), adapted)
    load(model, arrays(content))
    return model
