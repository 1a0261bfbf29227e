"""What a step keeps in memory, from XLA's own analysis; nothing is run."""

import jax
import jax.numpy as jnp
import optax
import pytest

import zovh_jax as zo

LAYER = {
    "kernel": jax.ShapeDtypeStruct((1000, 1000), jnp.float32),
    "bias": jax.ShapeDtypeStruct((1000,), jnp.float32),
}
PARAMS = {f"layer{i}": LAYER for i in range(10)}
SIZE = sum(4 * leaf.size for leaf in jax.tree.leaves(PARAMS))


def temporaries(optimizer):
    """Temporary bytes of a step, in copies of the parameters."""

    def objective(params):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params))

    def step(params, state):
        updates, state = optimizer.update(None, state, params, value_fn=objective)
        return optax.apply_updates(params, updates), state

    compiled = jax.jit(step).lower(PARAMS, jax.eval_shape(optimizer.init, PARAMS)).compile()
    return compiled.memory_analysis().temp_size_in_bytes / SIZE


@pytest.mark.slow
@pytest.mark.parametrize("method", ["zo_sgd", "zoar", "zovh"])
def test_ten_million_parameters_in_chunks_of_one(method):
    assert SIZE > 4e7
    options = {"zoar": {"history_size": 4}, "zovh": {"damping": 0.1, "history_size": 4}}
    optimizer = getattr(zo, method)(
        1e-3,
        num_directions=8,
        radius=1e-3,
        key=jax.random.key(0),
        evaluate=zo.evaluators.chunked(1),
        **options.get(method, {}),
    )
    assert temporaries(optimizer) < 3


@pytest.mark.slow
def test_chunks_are_what_saves_the_memory():
    optimizer = zo.zo_sgd(1e-3, num_directions=8, radius=1e-3, key=jax.random.key(0))
    assert temporaries(optimizer) > 8


def test_histories_are_not_unrolled():
    """Past rounds are replayed one at a time, whatever their number: 9 copies, for K = 8."""
    params = jax.ShapeDtypeStruct((1_000_000,), jnp.float32)
    optimizer = zo.zovh(
        1e-3, num_directions=8, radius=1e-2, damping=1.0, key=jax.random.key(0), history_size=4
    )
    state = jax.eval_shape(optimizer.init, params)
    step = jax.jit(lambda x, s: optimizer.update(None, s, x, value_fn=lambda x: jnp.sum(x**2)))
    compiled = step.lower(params, state).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 10 * 4 * params.size
