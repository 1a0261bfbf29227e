"""What holds for all three optimisers without a learning rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import walks

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")


def bowl(tree):
    return sum(jnp.sum(jnp.square(x - 3)) for x in jax.tree.leaves(tree))


OPTIMIZERS = {
    "scalar": zo.scalar_newton(8, 0.1, key=jax.random.key(0)),
    "diagonal": zo.diagonal_newton(8, 0.1, key=jax.random.key(0)),
    "low_rank": zo.low_rank_newton(8, 0.1, rank=2, key=jax.random.key(0)),
}


def some(*names):
    """All of them; those not named are slow."""
    each = [
        pytest.param(optimizer, id=name, marks=[] if name in names else [pytest.mark.slow])
        for name, optimizer in OPTIMIZERS.items()
    ]
    return pytest.mark.parametrize("optimizer", each)


@pytest.mark.parametrize("optimizer", [OPTIMIZERS["scalar"]], ids=["scalar"])
def test_leaves_of_no_size_change_nothing(optimizer):
    """The walk is that of the tree without them, through sweeps and probes."""
    full, empty = {"v": jnp.ones(16)}, {"w": jnp.zeros((0, 3)), "z": jnp.zeros((2, 0))}
    xs, states = walks.run(optimizer, bowl, full | empty, 40)
    assert xs["w"].shape == (40, 0, 3) and xs["z"].shape == (40, 2, 0)
    alone, states_alone = walks.run(optimizer, bowl, full, 40)
    np.testing.assert_allclose(xs["v"], alone["v"], rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(states.counts.num_queries, states_alone.counts.num_queries)
    assert bowl(walks.last(xs)) < 1e-2


@functools.cache
def forty_steps(optimizer):
    """From ones(24), by the squared radius beyond which the bowl has no values."""

    def of_wall(square):
        def walled(x):
            return jnp.where(jnp.sum(jnp.square(x)) > square, jnp.nan, bowl(x))

        return walks.run(optimizer, walled, jnp.ones(24), 40)

    return jax.jit(of_wall)


@some("low_rank")  # the others' own modules have tests of steps taken back
def test_steps_taken_back_are_counted(optimizer):
    """Each visit to the outside is followed by a step back, which the state counts once."""
    xs, states = forty_steps(optimizer)(24.5)
    x, xs = np.ones(24), np.asarray(xs)
    undone = np.asarray(states.trust.num_undone)
    outside = np.sum(np.square(xs), 1) > 24.5
    assert undone[0] == 0 and undone[-1] > 1
    backs = np.diff(undone)
    assert set(backs) <= {0, 1} and np.all(backs[outside[:-1]] == 1)
    points = np.concatenate([x[None], xs])
    for i in np.flatnonzero(backs):  # the step i + 1 undoes the step i
        np.testing.assert_allclose(points[i + 2], points[i], atol=1e-5)
    ((_, found),) = optax.tree.get_all_with_path(walks.last(states), "num_undone")
    assert int(found) == undone[-1]


@some("low_rank")
def test_nothing_is_undone_where_the_model_holds(optimizer):
    _, states = forty_steps(optimizer)(np.inf)
    assert int(states.trust.num_undone[19]) == 0


def test_a_state_that_knows_nothing_right_recovers():
    """A curvature of almost nothing, steps below the rounding of parameters, and a far look."""
    optimizer = zo.scalar_newton(8, 0.1, key=jax.random.key(0))
    x = jnp.full(24, 3.01)
    state = optimizer.init(x)
    small = state.trust._replace(
        radius=jnp.float32(0.1),
        limit=jnp.float32(1e-7),
        curvature=jnp.float32(1e-9),
        weight=jnp.float32(1),
    )

    def step(carry, _):
        updates, state = optimizer.update(None, carry[1], carry[0], value_fn=bowl)
        return (optax.apply_updates(carry[0], updates), state), None

    start = x, state._replace(trust=small)
    (last, _), _ = jax.jit(lambda carry: jax.lax.scan(step, carry, length=80))(start)
    assert bowl(last) < 1e-3 * bowl(x)


@some("diagonal", "low_rank")  # of which the scalar is a part
def test_a_walk_on_each_device_of_a_mesh(optimizer):
    """Inside shard_map with its default checks: every branch varies as the parameters do."""
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    per_device = jax.sharding.PartitionSpec("i")

    def step(xs):
        x = xs[0]
        updates, _ = optimizer.update(None, optimizer.init(x), x, value_fn=bowl)
        return updates[None]

    x = jnp.ones((1, 24))
    sharded = jax.shard_map(step, mesh=mesh, in_specs=per_device, out_specs=per_device)
    np.testing.assert_allclose(jax.jit(sharded)(x), jax.jit(step)(x), rtol=1e-6, atol=1e-6)
