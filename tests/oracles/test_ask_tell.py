"""Ask and tell: tickets, values that are missing, and points of all kinds of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")
PARAMS = {"a": jnp.zeros(3), "n": jnp.arange(2), "b": jnp.asarray(2.0)}


def objective(p):
    return jnp.sum((p["a"] - 1) ** 2) + p["b"] ** 2


def make(**options):
    directions = zo.directions.masked(zo.directions.gaussian(), {"a": True, "n": False, "b": True})
    return zo.zo_sgd(
        0.05, num_directions=4, radius=0.1, key=jax.random.key(0), directions=directions, **options
    )


@pytest.fixture(scope="module")
def asked():
    """An optimiser, its first state and what it asks."""
    optimizer = make()
    state = optimizer.init(PARAMS)
    return optimizer, state, zo.ask(optimizer, state, PARAMS)


def test_points_are_trees_like_params(asked):
    _, _, asked = asked
    assert asked.num_points == 5 and asked.ticket == 0
    shapes = jax.tree.map(jnp.shape, asked.points)
    assert shapes == {"a": (5, 3), "b": (5,), "n": (5, 2)}
    np.testing.assert_array_equal(asked.points["n"], [[0, 1]] * 5)
    np.testing.assert_array_equal(asked.points["a"][4], PARAMS["a"])  # f(θ)
    assert not np.any(asked.points["a"][:4] == 0)


def test_asking_again_gives_the_same_points(asked):
    optimizer, state, first = asked
    again = zo.ask(optimizer, state, PARAMS)
    for x, y in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
        np.testing.assert_array_equal(x, y)


def test_values_in_any_order_and_in_parts(asked):
    optimizer, state, asked = asked
    values = [float(x) for x in jax.vmap(objective)(asked.points)]
    want, _ = zo.tell(optimizer, state, PARAMS, asked, values)
    first = {3: values[3], 0: values[0]}
    second = {i: values[i] for i in (4, 2, 1, 0)}
    for told in (np.asarray(values), jnp.asarray(values), {**first, **second}):
        got, _ = zo.tell(optimizer, state, PARAMS, asked, told)
        np.testing.assert_array_equal(got["a"], want["a"])


@pytest.mark.parametrize("values", [{0: 1.0, 3: 2.0, 4: 4.0}, [1, np.nan, np.inf, 2, 4]])
def test_what_is_missing_is_dropped_and_counted(asked, values):
    optimizer, state, asked = asked
    updates, state = zo.tell(optimizer, state, PARAMS, asked, values)
    assert jnp.all(jnp.isfinite(updates["a"])) and jnp.any(updates["a"] != 0)
    assert zo.num_queries(state) == 5
    assert zo.diagnostics(state).num_nonfinite == 2


def test_whole_numbers_are_values_too(asked):
    optimizer, state, asked = asked
    want, _ = zo.tell(optimizer, state, PARAMS, asked, np.arange(5.0))
    for values in (range(5), jnp.arange(5)):
        got, _ = zo.tell(optimizer, state, PARAMS, asked, values)
        np.testing.assert_array_equal(got["a"], want["a"])


def test_a_ticket_is_good_once(asked):
    optimizer, state, asked = asked
    _, later = zo.tell(optimizer, state, PARAMS, asked, np.arange(5.0))
    with pytest.raises(ValueError, match=r"ticket 0, and the state is at 5.*Ask again"):
        zo.tell(optimizer, later, PARAMS, asked, np.arange(5.0))
    assert zo.ask(optimizer, later, PARAMS).ticket == 5


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, 2.0], ValueError, r"shape \(5,\).*got \(2,\)"),
        (np.ones((5, 1)), ValueError, r"got \(5, 1\)"),
        ({7: 1.0}, ValueError, "has the number 7; the points have 0 to 4"),
        (["a"] * 5, TypeError, "real numbers"),
        ([None] * 5, TypeError, "real numbers, got dtype object"),
        (np.ones(5, complex), TypeError, "real numbers, got dtype complex128"),
    ],
)
def test_wrong_values_raise(asked, values, error, message):
    optimizer, state, asked = asked
    with pytest.raises(error, match=message):
        zo.tell(optimizer, state, PARAMS, asked, values)


def test_an_optimiser_that_asks_nothing_raises():
    optimizer = optax.sgd(0.1)
    with pytest.raises(ValueError, match="asks for no values"):
        zo.ask(optimizer, optimizer.init(PARAMS), PARAMS, updates=PARAMS)


def test_what_asks_where_no_point_gets_out_raises():
    mesh = jax.make_mesh((1,), ("k",), axis_types=(jax.sharding.AxisType.Auto,))
    optimizer = make(evaluate=zo.evaluators.sharded(mesh, "k"))
    with pytest.raises(ValueError, match=r"asks inside shard_map.*vmapped\(\)"):
        zo.ask(optimizer, optimizer.init(PARAMS), PARAMS)


def test_independent_randomness_is_the_objectives_own_affair():
    """``common_key=False`` wants a key of the objective: outside JAX it has randomness anyway."""
    optimizer = zo.zo_gradient(5, 0.1, key=jax.random.key(0), common_key=False)
    x = jnp.ones(2)
    assert zo.ask(optimizer, optimizer.init(x), x).num_points == 5


def test_a_state_inside_a_step_can_be_saved():
    """2SPSA's like: values of the first kind decide where the second is asked."""

    def twice(updates, state, params, *, value_fn):
        first = value_fn(params)
        second = jax.lax.cond(first > 0, lambda: value_fn(first * params), lambda: first)
        return second * params, {"num_queries": state["num_queries"] + 2}

    optimizer = optax.GradientTransformationExtraArgs(
        lambda params: {"num_queries": jnp.zeros((), jnp.int32)}, twice
    )
    x = jnp.array([1.0, 2.0])
    start = optimizer.init(x)
    asked = zo.ask(optimizer, start, x)
    np.testing.assert_array_equal(asked.points, [x])
    updates, midway = zo.tell(optimizer, start, x, asked, [3.0])
    assert isinstance(midway, zo.Midway) and zo.num_queries(midway) == 1
    assert not jnp.any(updates)
    midway = zo.unpack(midway, zo.pack(midway))
    more = zo.ask(optimizer, midway, x)
    assert more.ticket == 1
    np.testing.assert_array_equal(more.points, [3 * x])
    updates, state = zo.tell(optimizer, midway, x, more, [5.0])
    np.testing.assert_array_equal(updates, 5 * x)
    assert not isinstance(state, zo.Midway) and state["num_queries"] == 2
    with pytest.raises(ValueError, match="ticket 0"):
        zo.tell(optimizer, midway, x, asked, [3.0])
    # Where the branch is not taken, the first values are all.
    updates, state = zo.tell(optimizer, start, x, asked, [-3.0])
    np.testing.assert_array_equal(updates, -3 * x)
    assert not isinstance(state, zo.Midway)


def test_steps_of_a_loop_that_wait_for_each_other_raise():
    def update(updates, state, params, *, value_fn):
        last, _ = jax.lax.scan(lambda x, _: (x - value_fn(x), None), params, length=3)
        return last, state

    def in_turn(updates, state, params, *, value_fn):
        def step(carry, _):
            first, second = carry
            return (value_fn(second * params), value_fn(first * params)), None

        (first, second), _ = jax.lax.scan(step, (jnp.ones(()), jnp.ones(())), length=3)
        return first * second * params, state

    for each in (update, in_turn):
        optimizer = optax.GradientTransformationExtraArgs(lambda params: (), each)
        with pytest.raises(ValueError, match="inside a loop whose steps depend on each other"):
            zo.ask(optimizer, (), jnp.ones(2))


def test_extras_reach_the_update():
    def update(updates, state, params, *, value_fn, length):
        return -length * value_fn(params) * params, state

    optimizer = optax.GradientTransformationExtraArgs(lambda params: (), update)
    x, extra = jnp.ones(2), {"length": jnp.asarray(0.5)}
    asked = zo.ask(optimizer, (), x, **extra)
    updates, _ = zo.tell(optimizer, (), x, asked, [4.0], **extra)
    np.testing.assert_array_equal(updates, [-2, -2])
