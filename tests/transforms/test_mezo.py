"""MeZO: its step, its weight decay, and the memory that it takes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

K, RADIUS = 3, 0.2
RNG = np.random.default_rng(0)
PARAMS = {"bias": RNG.normal(size=2), "kernel": RNG.normal(size=(2, 3))}
U = jax.tree.map(lambda x: RNG.normal(size=(K, *x.shape)), PARAMS)


def f(params):
    return jnp.sum(jnp.sin(params["kernel"])) * jnp.sum(params["bias"] ** 3)


def update(**options):
    optimizer = zo.mezo(0.1, radius=RADIUS, **{"key": jax.random.key(0)} | options)
    params = jax.tree.map(jnp.asarray, PARAMS)
    return jax.jit(lambda s: optimizer.update(None, s, params, value_fn=f))(optimizer.init(params))


@pytest.mark.parametrize("num_directions", [1, K])
@pytest.mark.parametrize(
    ("mask", "decayed"),
    [(None, ("bias", "kernel")), ({"bias": False, "kernel": True}, ("kernel",))],
)
def test_step(num_directions, mask, decayed, x64):
    """θ − η [mean of (F⁺ − F⁻)/(2μ) u + w θ], the decay on what the mask leaves."""
    u = jax.tree.map(lambda x: jnp.asarray(x[:num_directions]), U)
    updates, state = update(
        num_directions=num_directions,
        directions=zo.directions.explicit(u),
        weight_decay=0.5,
        weight_decay_mask=mask,
    )
    expected = {name: 0.5 * x * (name in decayed) for name, x in PARAMS.items()}
    for k in range(num_directions):
        plus, minus = (
            float(f(jax.tree.map(lambda x, v, k=k, step=step: x + step * v[k], PARAMS, U)))
            for step in (RADIUS, -RADIUS)
        )
        slope = (plus - minus) / (2 * RADIUS) / num_directions
        expected = jax.tree.map(lambda e, v, k=k, s=slope: e + s * v[k], expected, U)
    for name in PARAMS:
        np.testing.assert_allclose(updates[name], -0.1 * expected[name], rtol=1e-9)
    assert int(zo.num_queries(state)) == 2 * num_directions


def test_it_is_zo_sgd_with_central_pairs():
    updates, _ = update()
    optimizer = zo.zo_sgd(
        0.1,
        num_directions=1,
        radius=RADIUS,
        key=jax.random.key(0),
        stencil=zo.stencils.central(),
    )
    params = jax.tree.map(jnp.asarray, PARAMS)
    step = jax.jit(lambda s: optimizer.update(None, s, params, value_fn=f))
    expected, _ = step(optimizer.init(params))
    for name in PARAMS:
        np.testing.assert_allclose(updates[name], expected[name], rtol=1e-5, atol=1e-6)


def test_weight_decay_schedule():
    """Where no query is finite, the decay is all that is left."""
    optimizer = zo.mezo(
        0.1, radius=RADIUS, key=jax.random.key(0), weight_decay=lambda t: 2.0 / (1 + t)
    )
    x = jnp.ones(2)
    step = jax.jit(lambda s: optimizer.update(None, s, x, value_fn=lambda x: jnp.nan * x[0]))
    first, state = step(optimizer.init(x))
    second, _ = step(state)
    np.testing.assert_allclose([first, second], [[-0.2] * 2, [-0.1] * 2], rtol=1e-6)


def test_frozen_leaves_do_not_decay():
    """Those that the directions mask; integers, which cannot, and floats."""
    x = {"q": jnp.full(3, 7, jnp.int8), "scale": jnp.ones(3), "frozen": jnp.ones(3)}
    mask = {"q": False, "scale": True, "frozen": False}
    directions = zo.directions.masked(zo.directions.gaussian(), mask)
    optimizer = zo.mezo(
        0.1, radius=RADIUS, key=jax.random.key(0), weight_decay=0.5, directions=directions
    )
    step = jax.jit(
        lambda s: optimizer.update(None, s, x, value_fn=lambda x: jnp.nan * x["scale"][0])
    )
    updates, _ = step(optimizer.init(x))
    moved = optax.apply_updates(x, updates)
    np.testing.assert_allclose(moved["scale"], 0.95 * np.ones(3), rtol=1e-6)
    for name in ("q", "frozen"):
        np.testing.assert_array_equal(moved[name], x[name])
        assert moved[name].dtype == x[name].dtype


LAYER = {
    "kernel": jax.ShapeDtypeStruct((1600, 1600), jnp.float32),
    "bias": jax.ShapeDtypeStruct((1600,), jnp.float32),
}
NETWORK = [LAYER] * 4
SIZE = sum(4 * leaf.size for leaf in jax.tree.leaves(NETWORK))


@pytest.mark.slow
@pytest.mark.parametrize(("num_directions", "copies"), [(1, 1.4), (8, 2.4)])
def test_memory(num_directions, copies):
    """Ten million parameters: what a step needs beyond them, from XLA's own analysis.

    One leaf and the updates; and with more than one direction, their sum.
    """

    def network(params):
        x = jnp.ones((8, 1600))
        for layer in params:
            x = jnp.tanh(x @ layer["kernel"] + layer["bias"])
        return jnp.mean(x**2)

    optimizer = zo.mezo(
        1e-3,
        radius=1e-3,
        key=jax.random.key(0),
        num_directions=num_directions,
        directions=zo.directions.gaussian(fast=True),
    )

    def step(params, state):
        updates, state = optimizer.update(None, state, params, value_fn=network)
        return optax.apply_updates(params, updates), state

    state = jax.eval_shape(optimizer.init, NETWORK)
    lowered = jax.jit(step, donate_argnums=(0, 1)).lower(NETWORK, state)
    memory = lowered.compile().memory_analysis()
    beyond = memory.temp_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    assert SIZE > 4e7
    assert beyond < copies * SIZE
