"""A transformer encoder of the size of MiniLM-L6, in plain JAX: 103 leaves, 22.7 million floats.

Only its shapes matter here: it is compiled, never run.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Config:
    """Sizes; the defaults are MiniLM-L6's."""

    vocabulary: int = 30_522
    positions: int = 512
    token_types: int = 2
    width: int = 384
    hidden: int = 1_536
    layers: int = 6
    heads: int = 12


def shapes(config: Config) -> dict[str, Any]:
    """The parameters as shapes: nothing is allocated."""

    def leaf(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, jnp.float32)

    def dense(inputs: int, outputs: int) -> dict[str, Any]:
        return {"kernel": leaf(inputs, outputs), "bias": leaf(outputs)}

    width = config.width
    norm = {"scale": leaf(width), "bias": leaf(width)}
    layer = {
        **{name: dense(width, width) for name in ("query", "key", "value", "output")},
        "attention_norm": norm,
        "up": dense(width, config.hidden),
        "down": dense(config.hidden, width),
        "norm": norm,
    }
    return {
        "words": leaf(config.vocabulary, width),
        "positions": leaf(config.positions, width),
        "token_types": leaf(config.token_types, width),
        "norm": norm,
        "layers": {f"layer{i}": layer for i in range(config.layers)},
        "pooler": dense(width, width),
    }


def loss(params: Any, tokens: jax.Array, targets: jax.Array, config: Config) -> jax.Array:
    """Mean squared distance of the pooled vectors from targets, such as a larger model's.

    Args:
      params: arrays of the shapes that `shapes` gives.
      tokens: [batch, length], integers.
      targets: [batch, width].
      config: the sizes.
    """
    length = tokens.shape[1]
    x = params["words"][tokens] + params["positions"][:length] + params["token_types"][0]
    x = normalised(params["norm"], x)
    for layer in params["layers"].values():
        x = normalised(layer["attention_norm"], x + attention(layer, x, config.heads))
        hidden = jax.nn.gelu(applied(layer["up"], x))
        x = normalised(layer["norm"], x + applied(layer["down"], hidden))
    pooled = jnp.tanh(applied(params["pooler"], x[:, 0]))
    return jnp.mean(jnp.square(pooled - targets))


def attention(layer: Any, x: jax.Array, heads: int) -> jax.Array:
    """Self-attention of every token to all others."""
    batch, length, width = x.shape
    query, key, value = (
        applied(layer[name], x).reshape(batch, length, heads, width // heads)
        for name in ("query", "key", "value")
    )
    scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / jnp.sqrt(width / heads)
    mixed = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), value)
    return applied(layer["output"], mixed.reshape(x.shape))


def applied(dense: Any, x: jax.Array) -> jax.Array:
    """A dense layer's output."""
    return x @ dense["kernel"] + dense["bias"]


def normalised(norm: Any, x: jax.Array) -> jax.Array:
    """A layer norm's output."""
    centred = x - jnp.mean(x, axis=-1, keepdims=True)
    spread = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + 1e-12)
    return norm["scale"] * centred * spread + norm["bias"]
