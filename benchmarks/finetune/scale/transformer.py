"""A causal transformer of bytes in flax nnx, of any size.

It is written as anyone would write it: nothing here knows that it is queried at perturbed
parameters. The layers' parameters are stacked and the layers run in a loop, so that a deep model
compiles as fast as a shallow one.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

BYTES = 256
"""How many tokens there are."""


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes.

    Attributes:
      width: of a token's vector.
      layers: how many there are.
      heads: of attention; they share the width.
      positions: the longest sequence.
    """

    width: int
    layers: int
    heads: int
    positions: int


class Layer(nnx.Module):
    """Attention, then a network of one hidden layer, each of its normalised input and added to it.

    Args:
      config: the sizes.
      rngs: of the initial weights.
    """

    def __init__(self, config: Config, rngs: nnx.Rngs):
        width = config.width
        self.heads = config.heads
        self.attention_norm = nnx.LayerNorm(width, rngs=rngs)
        self.query = nnx.Linear(width, width, rngs=rngs)
        self.key = nnx.Linear(width, width, rngs=rngs)
        self.value = nnx.Linear(width, width, rngs=rngs)
        self.output = nnx.Linear(width, width, rngs=rngs)
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.up = nnx.Linear(width, 4 * width, rngs=rngs)
        self.down = nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attention(self.attention_norm(x))
        return x + self.down(nnx.gelu(self.up(self.norm(x))))

    def attention(self, x: jax.Array) -> jax.Array:
        """Every token looks at itself and at those before it."""
        query, key, value = (
            layer(x).reshape(*x.shape[:-1], self.heads, -1)
            for layer in (self.query, self.key, self.value)
        )
        mixed = jax.nn.dot_product_attention(query, key, value, is_causal=True)
        return self.output(mixed.reshape(x.shape))


class Transformer(nnx.Module):
    """Logits [batch, length, 256] of the next byte, from bytes [batch, length].

    Args:
      config: the sizes.
      rngs: of the initial weights.
    """

    def __init__(self, config: Config, rngs: nnx.Rngs):
        self.tokens = nnx.Embed(BYTES, config.width, rngs=rngs)
        self.positions = nnx.Embed(config.positions, config.width, rngs=rngs)
        stacked = nnx.vmap(lambda rngs: Layer(config, rngs), in_axes=0, out_axes=0)
        self.layers = stacked(rngs.split(config.layers))
        self.norm = nnx.LayerNorm(config.width, rngs=rngs)
        self.head = nnx.Linear(config.width, BYTES, rngs=rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        x = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        graph, params = nnx.split(self.layers)
        x, _ = jax.lax.scan(lambda x, own: (nnx.merge(graph, own)(x), None), x, params)
        return self.head(self.norm(x))
