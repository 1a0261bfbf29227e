"""What states count: bad radii, flat rounds, the best value, rounds beyond 2³¹; and no NaN."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.experimental import checkify

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

X = jnp.ones(5)
LAST = 2**31 - 1


def f(x):
    return jnp.sum(jnp.square(x - 2))


def make(radius=0.1, **options):
    return zo.zo_gradient(4, radius, key=jax.random.key(0), **options)


def stepper(optimizer, value_fn=f, **extra):
    return jax.jit(lambda s: optimizer.update(X, s, X, value_fn=value_fn, **extra))


def run(optimizer, num_steps, value_fn=f, **extra):
    step, state = stepper(optimizer, value_fn, **extra), optimizer.init(X)
    for _ in range(num_steps):
        updates, state = step(state)
    return updates, state


@functools.cache
def after_one_step():
    return zo.diagnostics(run(make(), 1)[1])


def test_radii_that_are_none():
    """NaN, zero and negative ones are told from an array while it runs: nothing is used."""
    radii = jnp.array([0.1, jnp.nan, 0.0, -0.1])
    updates, state = run(make(lambda count: radii[count]), 4)
    d = zo.diagnostics(state)
    assert int(d.num_dropped) == 3 * 4 and int(d.num_queries) == 4 * 4
    assert not updates.any()


def test_a_radius_below_rounding():
    updates, state = run(make(1e-12), 3)
    assert int(zo.diagnostics(state).num_flat) == 3 and not updates.any()
    assert int(zo.diagnostics(state).num_dropped) == 0


@pytest.mark.parametrize("stencil", [zo.stencils.central(), zo.stencils.three_point()])
def test_flat_pairs(stencil):
    _, state = run(make(stencil=stencil), 2, lambda x: 0.0 * x[0] + 3.0)
    d = zo.diagnostics(state)
    assert int(d.num_flat) == 2 and float(d.spread) == 0 and float(d.best_value) == 3


def test_one_value_is_not_flat():
    one = zo.zo_gradient(1, 0.1, key=jax.random.key(0), baseline=zo.baselines.none())
    assert int(zo.diagnostics(run(one, 2)[1]).num_flat) == 0


def test_values():
    """Against the round itself."""
    optimizer = make(baseline=zo.baselines.origin())
    state = optimizer.init(X)
    key = jax.random.fold_in(state.key, 0)
    queries = zo.query(f, X, key, num_directions=4, radius=0.1, origin=True)
    _, state = run(optimizer, 1)
    d = zo.diagnostics(state)
    np.testing.assert_allclose(d.value, jnp.mean(queries.values), rtol=1e-6)
    np.testing.assert_allclose(d.spread, jnp.std(queries.values, ddof=1), rtol=1e-4)
    assert d.origin == f(X) and d.best_value == min(f(X), jnp.min(queries.values))


def test_values_that_are_large():
    """Their squares would not be finite."""
    _, state = run(make(), 1, lambda x: 1e25 * f(x))
    spread = zo.diagnostics(state).spread / 1e25
    np.testing.assert_allclose(spread, after_one_step().spread, rtol=1e-3)


def test_an_origin_that_is_known_but_not_used():
    _, state = run(make(), 1, value=f(X))
    assert zo.diagnostics(state).origin == f(X)
    assert jnp.isinf(after_one_step().origin)


def test_values_that_are_not_finite():
    def broken(x):
        return jnp.where(x[0] > 1, jnp.nan, f(x))

    _, state = run(make(baseline=zo.baselines.origin()), 5, broken)
    d = zo.diagnostics(state)
    assert 0 < int(d.num_nonfinite) == int(d.num_dropped) < 20
    assert all(np.isfinite(x) for x in d)
    _, state = run(make(), 1, lambda x: x[0] * jnp.nan)
    assert jnp.isinf(zo.diagnostics(state).value) and int(zo.diagnostics(state).num_flat) == 0


def test_chains_and_stacks():
    other = zo.scale_by_inverse_hessian(3, 0.1, damping=1.0, key=jax.random.key(1))
    _, state = run(optax.chain(make(), optax.trace(0.9), other), 1)
    d = zo.diagnostics(state)
    assert int(d.num_queries) == 7 and d.best_value <= state[2].summary.best_value
    assert d.value == state[0].summary.last_mean
    none = zo.diagnostics(optax.adam(0.1).init(X))
    assert int(none.num_queries) == 0 and jnp.isinf(none.value)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), state, state)
    assert zo.diagnostics(stacked).num_queries.tolist() == [7, 7]


@pytest.mark.parametrize("directions", [zo.directions.gaussian(), zo.directions.hadamard()])
def test_rounds_beyond_the_largest_count(directions):
    """Neither repeated for ever nor counted from below zero; schedules stay where they ended."""
    optimizer = make(optax.linear_schedule(1.0, 0.5, 100), directions=directions)
    x = jnp.ones(40)  # few parameters have few rows of signs, which may come again by chance
    step = jax.jit(lambda s: optimizer.update(x, s, x, value_fn=f))
    state = optimizer.init(x)
    state = state._replace(
        count=jnp.int32(LAST - 1), round=jnp.int32(LAST - 1), num_queries=jnp.int32(LAST - 5)
    )
    seen, rounds, keys = [], [], set()
    for _ in range(5):
        rounds.append(int(state.round))
        keys.add(tuple(jax.random.key_data(state.key).tolist()))
        updates, state = step(state)
        seen.append(tuple(np.asarray(updates).tolist()))
    assert rounds == [LAST - 1, LAST, 0, 1, 2] and len(keys) == 2
    assert len(set(seen)) == 5
    assert int(state.count) == LAST and int(zo.num_queries(state)) == LAST
    _, first = step(optimizer.init(x))
    assert first.summary.last_mean != state.summary.last_mean


def test_a_history_beyond_the_largest_count():
    optimizer = make(history_size=3)
    step, state = stepper(optimizer), optimizer.init(X)
    for _ in range(3):
        _, state = step(state)
    pushed = 2**30 - 1  # a multiple of 3, as the 3 that were pushed
    history = state.history
    old = state._replace(history=type(history)(history.rounds, jnp.int32(pushed), history.centers))
    for _ in range(4):
        (a, state), (b, old) = step(state), step(old)
        np.testing.assert_array_equal(a, b)
        assert 3 < int(old.history.num_pushed) <= 2**30
    assert int(old.history.num_pushed) < 10


def test_proximal_draws_beyond_the_largest_count():
    optimizer = zo.rspg(0.1, num_directions=4, radius=0.1, key=jax.random.key(0))
    step, state = stepper(optimizer), optimizer.init(X)
    state = optax.tree.set(state, draw=jnp.int32(LAST))
    scores = []
    for _ in range(3):
        _, state = step(optax.tree.set(state, score=-jnp.inf))
        scores.append(float(optax.tree.get(state, "score")))
    assert len(set(scores)) == 3 and int(optax.tree.get(state, "draw")) == 2


SOUND = {
    "zoar": lambda **o: zo.zoar(0.1, history_size=2, **o),
    "pairs": lambda **o: zo.zoar(0.1, history_size=2, stencil=zo.stencils.central(), **o),
}


@pytest.mark.parametrize("name", ["zoar", pytest.param("pairs", marks=pytest.mark.slow)])
def test_nothing_sets_off_float_checks(name):
    """No NaN and no division by zero on a healthy objective, even where they would be dropped."""
    optimizer = SOUND[name](num_directions=4, radius=0.1, key=jax.random.key(0))
    checked = checkify.checkify(
        lambda s: optimizer.update(None, s, X, value_fn=f), errors=checkify.float_checks
    )
    step, state = jax.jit(checked), optimizer.init(X)
    for _ in range(2):
        error, (_, state) = step(state)
        error.throw()


@pytest.mark.slow  # compiled steps are under debug_nans in the contract
def test_nothing_sets_off_debug_nans_outside_jit():
    with jax.debug_nans(True):
        optimizer = zo.zovh(
            0.1, num_directions=4, radius=0.1, damping=1.0, key=jax.random.key(0), history_size=2
        )
        optimizer.update(None, optimizer.init(X), X, value_fn=f)
