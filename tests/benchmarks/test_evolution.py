"""evosax's algorithms as optimisers: evosax's own steps, charged, and tuned like ours."""

import evosax.algorithms
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from benchmarks.common import tuning
from benchmarks.common.evolution import RIVALS
from benchmarks.common.methods import Setting

pytestmark = pytest.mark.usefixtures("fast_compilation")
K, RADIUS, RATE = 4, 0.1, 0.05
START = {"a": jnp.array([1.0, -2.0]), "b": jnp.array(0.5)}


def bowl(params):
    return sum(jnp.sum(jnp.square(x - 0.3)) for x in jax.tree.leaves(params))


def test_steps_are_evosaxs():
    """Three steps of OpenAI-ES along a batch that changes, by hand and through the optimiser."""
    setting, key = Setting(num_directions=K, radius=RADIUS), jax.random.key(0)
    optimizer = RIVALS["openai_es"].make(RATE, key, setting)

    @jax.jit
    def run(params):
        def step(carry, shift):
            params, state = carry
            updates, state = optimizer.update(
                None, state, params, value_fn=lambda p: bowl(p) + shift * p["b"]
            )
            return (optax.apply_updates(params, updates), state), params

        return jax.lax.scan(step, (params, optimizer.init(params)), jnp.array([0.0, 3.0, -1.0]))

    (params, state), _ = run(START)
    assert int(zo.num_queries(state)) == 3 * 2 * K == 3 * RIVALS["openai_es"].queries(setting)

    algorithm = evosax.algorithms.Open_ES(
        2 * K, START, optimizer=optax.adam(RATE), std_schedule=optax.constant_schedule(RADIUS)
    )
    settings = algorithm.default_params

    @jax.jit
    def by_hand(inner, keys):
        for shift in (0.0, 3.0, -1.0):
            keys, ask, tell = jax.random.split(keys, 3)
            points, inner = algorithm.ask(ask, inner, settings)
            values = jax.vmap(bowl)(points) + shift * points["b"]
            inner, _ = algorithm.tell(tell, points, values, inner, settings)
        return algorithm.get_mean(inner)

    mean = by_hand(algorithm.init(key, START, settings), jax.random.fold_in(key, 0))
    for name, x in mean.items():
        np.testing.assert_allclose(params[name], x, rtol=1e-5)


def test_a_run_is_charged_and_descends():
    """In the runner of all methods, for two first deviations at once."""
    task = tuning.of_problem(zo.problems.quadratic(), 5, budget=400, checkpoints=2)
    run = tuning.runner(RIVALS["sep_cma"], Setting(num_directions=K), task)
    outcome = run([0, 0], [0.1, 0.3])
    assert outcome.spent.tolist() == [400, 400]
    assert not outcome.diverged.any() and (outcome.values[:, -1] < outcome.values[:, 0]).all()
    assert outcome.values[0, -1] != outcome.values[1, -1]
