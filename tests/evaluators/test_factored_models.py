"""Factored evaluation of models as people write them: values, and no weight is formed."""

import functools

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.evaluators import query
from zovh_jax.evaluators.factored import Perturbed, interpreted

KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("fast_compilation")


class Encoder(nnx.Module):
    """Embeddings, attention, a norm, and two layers."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.words = nnx.Embed(50, 32, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, 32, decode=False, rngs=rngs)
        self.norm = nnx.LayerNorm(32, rngs=rngs)
        self.up, self.down = nnx.Linear(32, 64, rngs=rngs), nnx.Linear(64, 10, rngs=rngs)

    def __call__(self, tokens):
        x = self.words(tokens)
        x = self.norm(x + self.attention(x))
        return self.down(nnx.gelu(self.up(x)))


class Residual(nn.Module):
    """Convolutions, a frozen batch norm, pooling."""

    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(16, (3, 3))(x))
        x = x + nn.BatchNorm(use_running_average=True)(nn.Conv(16, (3, 3))(x))
        x = nn.avg_pool(x, (2, 2), (2, 2))
        return nn.Dense(10)(x.reshape(len(x), -1))


class Recurrent(nn.Module):
    """A scan over time."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.RNN(nn.LSTMCell(16))(x))


class Transformer(nn.Module):
    """DenseGeneral attention."""

    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(x + nn.MultiHeadDotProductAttention(4)(x))
        return x + nn.Dense(32)(nn.gelu(nn.Dense(64)(x)))


def normal(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def of_nnx():
    graph, params, rest = nnx.split(Encoder(), nnx.Param, ...)
    tokens = np.arange(24).reshape(4, 6)
    return lambda p: jnp.mean(nnx.merge(graph, p, rest)(tokens) ** 2), params


def of_linen(model, x):
    params = jax.jit(model.init)(KEY, x)
    rest = {name: params[name] for name in params if name != "params"}
    return lambda p: jnp.mean(model.apply({"params": p, **rest}, x) ** 2), params["params"]


def of_adapters():
    """LoRA beside frozen weights, int8 weights with scales, and experts that are looked up."""
    x, frozen, small = normal(2, 5, 32), normal(32, 32), np.int8(9 * np.tanh(normal(32, 32)))
    which = np.array([[0, 1, 2, 3, 4], [5, 4, 3, 2, 1]])

    def f(p):
        y = x @ frozen + x @ p["down"] @ p["up"]
        y = y + (y @ small.astype(np.float32)) * p["scales"]
        return jnp.mean(jnp.einsum("bti,btio->bto", y, p["experts"][which]) ** 2)

    params = {"down": normal(32, 4), "up": normal(4, 32), "scales": normal(32)}
    return f, params | {"experts": normal(6, 32, 16)}


MODELS = {
    "nnx": of_nnx,
    "residual": lambda: of_linen(Residual(), normal(2, 8, 8, 3)),
    "recurrent": lambda: of_linen(Recurrent(), normal(2, 5, 8)),
    "transformer": lambda: of_linen(Transformer(), normal(2, 5, 32)),
    "adapters": of_adapters,
}


@pytest.mark.parametrize("model", MODELS)
def test_values_and_what_is_formed(model, monkeypatch):
    f, params = MODELS[model]()
    formed = []

    def report(eqn, values, why):
        if why:
            formed.extend(x.shape for x in values if isinstance(x, Perturbed))

    monkeypatch.setattr(query, "interpreted", functools.partial(interpreted, report=report))

    @jax.jit
    def both(params, key):
        directions = zo.directions.low_rank()
        q = zo.query(f, params, key, num_directions=3, radius=0.05, directions=directions)
        points = jax.tree.map(lambda x, u: x + 0.05 * u, params, q.plan.draw(params))
        return q.values, jax.vmap(f)(points)

    np.testing.assert_allclose(*both(params, KEY), rtol=2e-5)
    matrices = {x.shape for x in jax.tree.leaves(params) if x.ndim > 1}
    assert not matrices & set(formed)
