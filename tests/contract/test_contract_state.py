"""What is in the state: abstract init, optax's tree functions, size, donation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import (
    BY_ID,
    REUSE,
    STORED,
    D,
    assert_equal,
    base_key,
    every_case,
    jitted_step,
    make_params,
    plain,
    update_once,
)

import zovh_jax as zo


def abstract(tree):
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype) for x in leaves]


@every_case
def test_init_is_abstract(case):
    """init reads shapes alone: ShapeDtypeStruct leaves and eval_shape give the same state."""
    transformation, params = case.make(), make_params()
    state = transformation.init(params)
    structs = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
    assert_equal(transformation.init(structs), state)
    shapes = jax.eval_shape(transformation.init, params)
    assert abstract(shapes) == abstract(state)


@every_case
def test_map_params(case):
    """Stored directions and copies of the parameters follow them; the rest does not."""
    transformation, params = case.make(), make_params()
    state = transformation.init(params)
    assert_equal(optax.tree.map_params(transformation, lambda x: x, state), state)
    seen = []
    optax.tree.map_params(transformation, seen.append, state)
    stored = case.options.get("store_directions", False)
    assert bool(seen) == (stored or case.copies > 0)


@every_case
def test_field_names_leave_optax_tree_get_unambiguous(case):
    transformation, params = case.make(), make_params()
    other = optax.scale_by_backtracking_linesearch(3)
    state = optax.chain(transformation, other).init(params)
    for name in ("value", "grad", "params", "info"):
        found = optax.tree.get_all_with_path(transformation.init(params), name)
        assert not found, name
    assert optax.tree.get(state, "learning_rate").shape == ()


def test_optax_tree_get():
    transformation, params = BY_ID["zovh-chunked-reuse"].make(), make_params()
    _, state = jitted_step(transformation)(params, transformation.init(params))
    assert int(optax.tree.get(state, "num_queries")) == 4
    assert int(optax.tree.get(state, "num_nonfinite")) == 0
    assert int(optax.tree.get(state, "count")) == 1
    assert isinstance(optax.tree.get(state, "history"), zo.History)


def test_num_queries_sums_over_a_chain():
    first = zo.zo_gradient(5, 0.1, key=base_key())
    second = zo.scale_by_inverse_hessian(
        3, 0.1, damping=1.0, key=jax.random.key(1), stencil=zo.stencils.three_point()
    )
    optimizer, params = optax.chain(first, optax.trace(0.9), optax.chain(second)), make_params()
    state = optimizer.init(params)
    step = jitted_step(optimizer)
    for t in (1, 2):
        _, state = step(params, state)
        assert int(zo.num_queries(state)) == t * (5 + 7)
    assert int(zo.num_queries(optax.adam(0.1).init(params))) == 0


def size_in_bytes(tree):
    return sum(x.nbytes for x in jax.tree.leaves(plain(tree)))


@every_case
def test_state_does_not_grow_with_the_parameters(case):
    """Keys and scalars only, but for the copies that a case declares and stored directions."""
    if "explicit" in case.id or "masked" in case.id:
        pytest.skip("their state depends on their own trees")
    if case.factory in (zo.spsa2, zo.zo_spsa2):
        pytest.skip("it holds a d×d array")
    transformation = case.make()
    small, large = (transformation.init(jnp.zeros(d)) for d in (10, 10_000))
    rounds = case.options.get("history_size", 4 if case.factory is zo.zoar else 1)
    grown = size_in_bytes(large) - size_in_bytes(small)
    stored = case.options.get("store_directions", False)
    assert grown == (rounds * 4 * stored + case.copies) * 9990 * 4
    if not stored and not case.copies and "shaping" not in case.options:
        assert max(x.size for x in jax.tree.leaves(plain(large))) <= 20 * rounds


def test_history_of_explicit_directions_keeps_them():
    """N·K directions of the caller's, which no key could replay."""
    case = BY_ID["gradient-explicit-reuse"]
    without = BY_ID["zovh-chunked-reuse"]
    grown = size_in_bytes(case.make().init(make_params()).history)
    keys = size_in_bytes(jax.random.split(base_key(), 3))
    grown -= size_in_bytes(without.make().init(make_params())[0].history) - keys
    assert grown == 3 * 4 * D * 4


@pytest.mark.parametrize(
    ("options", "legacy"),
    [
        (REUSE, True),
        pytest.param({}, True, marks=pytest.mark.slow),
        pytest.param(REUSE, False, marks=pytest.mark.slow),
        (REUSE | STORED, False),
    ],
    ids=["legacy-reuse", "legacy", "reuse", "stored"],
)
def test_donating_state_and_params_is_safe(options, legacy):
    """The state shares no buffer with params or the caller's key, which stay usable."""
    key = jax.random.PRNGKey(7) if legacy else jax.random.key(7)

    def make():
        return zo.zovh(0.01, num_directions=4, radius=0.1, damping=1.0, key=key, **options)

    optimizer, params = make(), make_params()
    kept = jax.tree.map(np.asarray, params)
    state = optimizer.init(params)

    def step(params, state):
        updates, state = update_once(optimizer, params, state)
        return optax.apply_updates(params, updates), state

    donating = jax.jit(step, donate_argnums=(0, 1))
    mine = jax.tree.map(jnp.copy, params)
    for _ in range(2):
        mine, state = donating(mine, state)
    _, state = jax.jit(step, donate_argnums=1)(params, state)

    assert_equal(params, kept)
    assert np.array_equal(plain(key), jax.random.key_data(jax.random.key(7)))
    assert_equal(optimizer.init(params), make().init(params))


@every_case
def test_state_has_buffers_of_its_own(case):
    """No two leaves share a buffer: donating the same buffer twice is an error."""
    key, params = base_key(), make_params()
    state = case.make(key=key).init(params)

    def pointers(tree):
        return [x.unsafe_buffer_pointer() for x in jax.tree.leaves(plain(tree)) if x.size]

    own = pointers(state)
    assert len(set(own)) == len(own)
    assert not set(own) & set(pointers((key, params)))
