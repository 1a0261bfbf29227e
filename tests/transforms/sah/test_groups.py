"""The coordinates of ZO-SAH's subspaces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planes import KEY, points

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.transforms.sah.groups import (
    points_around,
    random_groups,
    read,
    write,
)

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.mark.parametrize(("size", "num_groups", "q"), [(6, 3, 2), (1000, 5, 3)])
def test_groups_are_disjoint(size, num_groups, q):
    draw = jax.vmap(lambda key: random_groups(key, size, num_groups, q))
    groups = np.asarray(draw(jax.random.split(KEY, 50)))
    assert groups.shape == (50, num_groups, q)
    assert groups.min() >= 0 and groups.max() < size
    assert all(len(set(one.ravel())) == num_groups * q for one in groups)


def test_groups_are_uniform():
    """Every ordered pair of 5 coordinates equally often, within 5 standard errors."""
    n = 4000
    draw = jax.jit(jax.vmap(lambda key: random_groups(key, 5, 1, 2)[0]))
    pairs = np.asarray(draw(jax.random.split(KEY, n)))
    counts = np.zeros((5, 5))
    np.add.at(counts, tuple(pairs.T), 1)
    counts = counts[~np.eye(5, dtype=bool)]
    assert np.abs(counts - n / 20).max() < 5 * np.sqrt(n / 20)


def test_points_reads_and_writes_agree_with_a_flat_vector():
    tree = {
        "a": jnp.arange(3.0),
        "b": jnp.zeros((0, 2)),
        "c": jnp.asarray(7.0),
        "d": jnp.ones((2, 2)),
    }
    structure, leaves = layout_of(tree), jax.tree.leaves(tree)
    flat = np.concatenate([np.ravel(x) for x in leaves])
    groups = jnp.array([[7, 0], [3, 2]])
    np.testing.assert_array_equal(read(leaves, structure, groups), flat[np.asarray(groups)])
    written = write(jnp.array([[1.0, 2.0], [3.0, 4.0]]), structure, groups)
    np.testing.assert_array_equal(
        np.concatenate([np.ravel(x) for x in written]), [2, 0, 4, 3, 0, 0, 0, 1]
    )
    plan = zo.Plan(KEY, points_around(groups, points(2)), num_directions=10, block_size=10)
    rows = np.concatenate([np.reshape(x, (10, -1)) for x in jax.tree.leaves(plan.draw(tree))], -1)
    expected = np.zeros((10, 8))
    for j, group in enumerate(np.asarray(groups)):
        expected[5 * j : 5 * j + 5, group] = points(2)
    np.testing.assert_array_equal(rows, expected)
