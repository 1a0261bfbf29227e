"""States as plain arrays: what is refused, other key types, small floats, orbax."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

X = {"a": jnp.ones(3), "b": jnp.ones((0, 2)), "c": jnp.ones(2, jnp.bfloat16)}


def make(impl="threefry2x32", **options):
    return zo.zoar(0.1, num_directions=4, radius=0.1, key=jax.random.key(0, impl=impl), **options)


def plain(x):
    return jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


def assert_same(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for x, y in zip(jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        assert x.dtype == y.dtype and x.shape == y.shape
        assert np.array_equal(plain(x), plain(y))


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_round_trips(impl):
    """Through npz, which forgets bfloat16's name; into a state, or into its shapes alone."""
    optimizer = make(impl, store_directions=True)
    state = optimizer.init(X), X
    file = io.BytesIO()
    np.savez(file, **zo.pack(state))
    file.seek(0)
    arrays = dict(np.load(file))
    assert all(x.size for x in arrays.values())
    for like in (state, jax.eval_shape(lambda: (optimizer.init(X), X))):
        again = zo.unpack(like, arrays)
        assert_same(again, state)
        assert jax.random.key_impl(again[0][0].key) == impl
    copy = jax.tree.leaves(zo.unpack(state, zo.pack(state)))
    for x, y in zip(copy, jax.tree.leaves(state), strict=True):
        assert not x.size or (plain(x).unsafe_buffer_pointer() != plain(y).unsafe_buffer_pointer())


def test_under_jit():
    state = make().init(X)
    assert_same(jax.jit(lambda s: zo.unpack(s, zo.pack(s)))(state), state)


def changed(name, value):
    def change(arrays):
        return {**arrays, name: value}

    return change


def without(name):
    return lambda arrays: {k: x for k, x in arrays.items() if k != name}


REFUSED = {
    "missing": (without("0/count"), r"'0/count' is missing \(1 missing, 0 too many\)"),
    "too many": (changed("spare", np.ones(2)), r"'spare' is not among"),
    "shape": (
        changed("0/count", np.ones(2, np.int32)),
        r"'0/count' should be int32\[\] and is int32\[2\]",
    ),
    "dtype": (changed("0/count", np.ones((), np.int64)), r"'0/count' should be int32.* is int64"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_other_arrays_are_refused(name):
    change, message = REFUSED[name]
    state = make().init(X)
    with pytest.raises(ValueError, match=message):
        zo.unpack(state, change(zo.pack(state)))


def test_other_keys_and_sizes_are_refused():
    state = make().init(X)
    with pytest.raises(ValueError, match=r"'0/.*:key:threefry2x32' is missing and '0/.*:key:rbg'"):
        zo.unpack(state, zo.pack(make("rbg").init(X)))
    with pytest.raises(ValueError, match=r"'0/history/rounds/.*' should be"):
        zo.unpack(state, zo.pack(make(history_size=2).init(X)))


def test_names_that_clash():
    with pytest.raises(ValueError, match="two leaves have the path 'a/b'"):
        zo.pack({"a": {"b": jnp.ones(1)}, "a/b": jnp.ones(1)})


def test_orbax(tmp_path):
    """As it is, and packed."""
    ocp = pytest.importorskip("orbax.checkpoint")
    params = jnp.ones(3)
    state = make().init(params)
    with ocp.StandardCheckpointer() as checkpointer:
        for name, tree in (("state", state), ("packed", zo.pack(state))):
            checkpointer.save(tmp_path / name, tree)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / name, tree)
            assert_same(restored if name == "state" else zo.unpack(state, restored), state)
