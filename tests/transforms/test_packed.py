"""Packed states: the same steps to the bit, whatever a state holds, and wherever it is used."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from zovh_jax.oracles.run import Run

pytestmark = pytest.mark.usefixtures("fast_compilation")

X = {"a": jnp.ones(3), "b": jnp.full((2, 2), -1.0), "c": jnp.ones(2, jnp.bfloat16)}
OPTIONS = {"num_directions": 4, "radius": 0.1, "key": jax.random.key(0)}


def objective(params):
    return sum(jnp.sum((x.astype(jnp.float32) - 0.5) ** 2) for x in jax.tree.leaves(params))


def run(optimizer, params=X, num_steps=3, value_fn=objective):
    """Parameters and state after some steps in one loop."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(None, state, params, value_fn=value_fn)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimizer.init(params)
    return jax.jit(lambda c: jax.lax.scan(step, c, length=num_steps)[0])(start)


def bits(tree):
    keys = jax.dtypes.prng_key
    plain = lambda x: jax.random.key_data(x) if jnp.issubdtype(x.dtype, keys) else x  # noqa: E731
    return [np.asarray(plain(x)) for x in jax.tree.leaves(tree)]


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for x, y in zip(bits(one), bits(other), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape and x.tobytes() == y.tobytes()


OPTIMIZERS = {
    "scalars, a history and its keys": lambda **o: zo.zoar(0.1, **o),
    "booleans and leaves like params": lambda **o: zo.scalar_newton(**o),
    "a chain, another kind of key": lambda **o: optax.chain(
        zo.zo_gradient(**o | {"key": jax.random.key(1, impl="rbg")}), optax.adam(0.1)
    ),
    "hyperparameters": lambda **o: optax.inject_hyperparams(
        zo.zo_sgd, static_args=zo.static_args(zo.zo_sgd)
    )(0.1, **o),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("max_size", [128, pytest.param(8, marks=pytest.mark.slow)])
def test_the_same_to_the_bit(name, max_size):
    optimizer = OPTIMIZERS[name](**OPTIONS)
    params, state = run(optimizer)
    packed_params, packed = run(zo.packed(optimizer, max_size=max_size))
    assert_same(packed_params, params)
    assert_same(packed.unpacked, state)
    assert all(x.dtype == jnp.uint32 and x.size <= max_size for x in packed.words)
    assert packed.contents is run(zo.packed(optimizer, max_size=max_size))[1].contents
    big = [x.nbytes > 4 * max_size for x in bits(packed.others)]
    assert all(b or x.dtype == jnp.bfloat16 for b, x in zip(big, packed.others, strict=True))
    assert len(jax.tree.leaves(packed)) < len(jax.tree.leaves(state)) / 2
    assert_same(zo.diagnostics(packed), zo.diagnostics(state))
    assert zo.num_queries(packed) == zo.num_queries(state) > 0


def test_every_width():
    """Of numbers, with NaNs of their own bits, a negative zero, and no number at all."""
    with jax.enable_x64(True):
        nan = np.array([0x7FC12345], np.uint32).view(np.float32)
        state = {
            "f32": jnp.asarray(nan),
            "f64": jnp.array([[1.0, -0.0, np.pi]]).T,
            "f16": jnp.array([1e-7, -2.0], jnp.float16),
            "i64": jnp.array(-(2**60) + 1),
            "i16": jnp.array([-3, 5], jnp.int16),
            "i8": jnp.array(-7, jnp.int8),
            "u8": jnp.array(250, jnp.uint8),
            "bool": jnp.array([True, False]),
            "none": jnp.zeros((0, 2)),
            "c64": jnp.array(1 + 2j),
            "key": jax.random.split(jax.random.key(3)),
        }
        optimizer = zo.packed(optax.GradientTransformation(lambda _: state, lambda u, s, _: (u, s)))
        packed = optimizer.init(X)
        assert [x.dtype for x in packed.others] == [jnp.complex128]
        assert_same(packed.unpacked, state)
        assert_same(optimizer.update(X, packed)[1], packed)


@pytest.mark.slow
def test_many_problems_at_once():
    optimizer = zo.scalar_newton(**OPTIONS)
    starts = jnp.arange(6.0).reshape(2, 3)
    one = jax.vmap(lambda x: run(optimizer, x))(starts)
    other = jax.vmap(lambda x: run(zo.packed(optimizer), x))(starts)
    assert other[1].words[0].ndim == 2
    np.testing.assert_allclose(other[0], one[0], rtol=1e-6)
    np.testing.assert_array_equal(
        zo.diagnostics(other[1]).num_queries, zo.diagnostics(one[1]).num_queries
    )


def test_saved_asked_and_minimised(tmp_path):
    inner = zo.zoar(0.1, **OPTIONS)
    optimizer, x = zo.packed(inner), jnp.ones(3)
    _, state = run(optimizer, x)
    assert_same(zo.unpack(optimizer.init(x), jax.tree.map(np.asarray, zo.pack(state))), state)
    asked, plain = zo.ask(optimizer, state, x), zo.ask(inner, state.unpacked, x)
    np.testing.assert_array_equal(asked.points, plain.points)
    updates, _ = zo.tell(optimizer, state, x, asked, np.arange(4.0))
    np.testing.assert_array_equal(updates, zo.tell(inner, state.unpacked, x, plain, range(4))[0])
    for _ in range(2):  # the second time from the journal alone
        result = zo.minimize(
            lambda x: float(np.sum(np.square(x))), x, optimizer, max_queries=40,
            journal=tmp_path / "journal",
        )  # fmt: skip
        assert result.num_queries == 40


def test_each_state_knows_its_own_parameters():
    """One of an empty tree, as ``optax.tree.map_params`` makes it, equals those of all others."""
    optimizer, empty = zo.packed(zo.zo_sgd(0.1, **OPTIONS)), {}
    trees = [empty, {"a": jnp.ones(3)}, {"b": jnp.ones(2)}]
    for tree in trees + trees[::-1]:
        state = optimizer.init(tree)
        names = [name for name, _ in state.unpacked[0].shapes.leaves]
        assert names == [f"['{name}']" for name in tree]
        assert optimizer.init(tree).contents is state.contents


def test_several_rounds_at_a_time():
    """Each has directions of its own, as without words; and what must not be late is refused."""

    def asked(optimizer):
        run = Run(optimizer, jnp.ones(3), max_pending=3)
        rounds = [run.ask(100) for _ in range(3)]
        run.told(1, np.arange(5.0))
        return [np.asarray(each.asked.points) for each in (*rounds, run.ask(100))]

    plain, packed = (asked(wrap(zo.zo_sgd(0.1, **OPTIONS))) for wrap in (lambda x: x, zo.packed))
    np.testing.assert_array_equal(packed, plain)
    assert len(np.unique(np.concatenate(plain)[:, 0])) > 12
    with pytest.raises(ValueError, match="compares each round"):
        asked(zo.packed(zo.scalar_newton(**OPTIONS)))


def test_packed_twice():
    inner = zo.rspg(0.1, **OPTIONS)
    _, plain = run(inner)
    _, twice = run(zo.packed(optax.chain(zo.packed(inner), optax.scale(1.0))))
    assert zo.num_queries(twice) == zo.num_queries(plain) > 0
    assert_same(zo.diagnostics(twice), zo.diagnostics(plain))
    assert_same(zo.random_iterate(twice), zo.random_iterate(plain))


def test_errors():
    optimizer = zo.packed(zo.zo_sgd(0.1, **OPTIONS))
    with pytest.raises(ValueError, match="packed: this is not its state, but tuple"):
        optimizer.update(None, (), jnp.ones(3), value_fn=objective)
    with pytest.raises(ValueError, match="max_size"):
        zo.packed(optax.adam(0.1), max_size=0)
    with pytest.raises(ValueError, match="state of other parameters"):
        optimizer.update(None, optimizer.init(jnp.ones(3)), jnp.ones(4), value_fn=objective)
