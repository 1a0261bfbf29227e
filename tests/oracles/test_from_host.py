"""Python functions as objectives of compiled steps."""

import concurrent.futures

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")
X = {"a": jnp.arange(3.0), "b": jnp.asarray(2.0)}


def numpy_objective(p):
    return np.sum((p["a"] - 1) ** 2) + p["b"] ** 2


def objective(p):
    return jnp.sum((p["a"] - 1) ** 2) + p["b"] ** 2


def make(**options):
    return zo.zo_sgd(0.05, num_directions=4, radius=0.1, key=jax.random.key(0), **options)


def run(value_fn, num_steps=5, **options):
    optimizer = make(**options)

    def step(carry, _):
        x, state = carry
        updates, state = optimizer.update(None, state, x, value_fn=value_fn)
        return (optax.apply_updates(x, updates), state), None

    return jax.jit(lambda: jax.lax.scan(step, (X, optimizer.init(X)), None, length=num_steps)[0])()


@pytest.mark.parametrize(
    "evaluate",
    [pytest.param(zo.evaluators.vmapped(), marks=pytest.mark.slow), zo.evaluators.chunked(3)],
)
def test_steps_are_those_of_the_same_function_in_jax(evaluate):
    want, _ = run(objective, evaluate=evaluate)
    seen = []

    def batched(p):
        seen.append(len(p["b"]))
        return np.sum((p["a"] - 1) ** 2, 1) + p["b"] ** 2

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for value_fn in (
            zo.from_host(numpy_objective),
            zo.from_host(numpy_objective, executor=pool),
            zo.from_host(batched, batched=True),
        ):
            got, state = run(value_fn, evaluate=evaluate)
            np.testing.assert_allclose(got["a"], want["a"], rtol=1e-5)
            assert zo.num_queries(state) == 25 and value_fn.calls.num_errors == 0
    one_round = [4] if evaluate == zo.evaluators.vmapped() else [3, 1]
    assert sorted(seen) == sorted([*one_round, 1] * 5)  # and f(θ)


def test_points_are_the_functions_own():
    def spoils(p):
        value = numpy_objective(p)
        p["a"] += 1
        p["a"][:] = 0
        return value

    got, _ = run(zo.from_host(spoils))
    np.testing.assert_allclose(got["a"], run(objective)[0]["a"], rtol=1e-5)


def test_a_failing_function_costs_no_state_even_if_it_is_donated():
    calls = []

    def fails(p):
        calls.append(0)
        if len(calls) % 3 == 0:
            raise RuntimeError("the simulator crashed")
        return numpy_objective(p)

    optimizer, x = make(), jax.tree.map(jnp.copy, X)
    value_fn = zo.from_host(fails)

    @jax.jit
    def step(x, state):
        updates, state = optimizer.update(None, state, x, value_fn=value_fn)
        return optax.apply_updates(x, updates), state

    donated = jax.jit(step, donate_argnums=(0, 1))
    state = optimizer.init(x)
    for _ in range(6):
        x, state = donated(x, state)
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(x))
    assert zo.diagnostics(state).num_nonfinite == value_fn.calls.num_errors == 10
    assert str(value_fn.calls.first_error) == "the simulator crashed"


def test_extras_and_seeds_reach_the_function():
    seen = []

    def noisy(p, scale, *, key):
        assert isinstance(scale, np.ndarray)
        seen.append(tuple(key))
        return scale * numpy_objective(p) + np.random.default_rng(key).normal()

    optimizer = make()
    value_fn = zo.from_host(noisy)
    state, rounds = optimizer.init(X), []
    step = jax.jit(lambda s, c: optimizer.update(None, s, X, value_fn=value_fn, scale=c))
    for _ in range(2):
        seen.clear()
        updates, state = step(state, jnp.asarray(2.0))
        jax.block_until_ready(updates)
        assert len(seen) == 5 and len(set(seen)) == 1
        rounds += seen[:1]
    assert rounds[0] != rounds[1]
    with pytest.raises(TypeError, match=r"got scales=.*did you mean scale="):
        optimizer.update(None, state, X, value_fn=value_fn, scales=1.0)


def test_each_query_has_its_own_seed_where_that_is_wanted():
    seen = []

    def noisy(p, key):
        seen.append(tuple(key))
        return float(np.sum(p))

    x = jnp.ones(3)
    zo.query(
        zo.from_host(noisy),
        x,
        jax.random.key(0),
        num_directions=4,
        radius=0.1,
        common_key=False,
    ).values.block_until_ready()
    assert len(set(seen)) == 4


def test_large_points_do_not_hang():
    """Callbacks that turn large arrays of JAX into numpy's have hung before."""
    value_fn = zo.from_host(lambda x: float(x @ x))
    optimizer = make()
    x = jnp.ones(2_000_000)
    state = optimizer.init(x)
    step = jax.jit(lambda x, state: optimizer.update(None, state, x, value_fn=value_fn))
    for _ in range(3):
        updates, state = step(x, state)
    assert jnp.all(jnp.isfinite(updates))
