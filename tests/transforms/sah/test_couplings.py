"""Which coordinates ZO-SAH pairs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planes import KEY

import zovh_jax as zo
from zovh_jax.transforms.sah.couplings import Couplings, couple, no_couplings, remember
from zovh_jax.transforms.sah.groups import random_groups

pytestmark = pytest.mark.usefixtures("fast_compilation")
jitted_couple = jax.jit(couple)


def memory(*pairs):
    """Couplings with these (a, b, strength), strongest first; five slots."""
    a = np.array([*pairs, *[(-1, -1, 0)] * (5 - len(pairs))])
    return Couplings(jnp.asarray(a[:, :2], jnp.int32), jnp.asarray(a[:, 2], jnp.float32))


@pytest.mark.parametrize(
    ("groups", "pairs", "expected"),
    [
        ([[0, 1], [2, 3]], [(0, 3, 1)], [{0, 3}, {1, 2}]),  # both drawn: they change places
        ([[0, 1], [2, 3]], [(0, 9, 1)], [{0, 9}, {2, 3}]),  # the partner replaces a filler
        ([[0, 1], [2, 3]], [(3, 9, 1), (0, 3, 1)], [{0, 1}, {3, 9}]),  # the strongest wins
        ([[0, 1], [2, 3]], [(0, 1, 1), (1, 2, 1)], [{0, 1}, {2, 3}]),
        ([[0, 1], [2, 3]], [(8, 9, 1)], [{0, 1}, {2, 3}]),  # neither was drawn
        ([[0, 1], [2, 3]], [(0, 3, 0)], [{0, 1}, {2, 3}]),  # strength 0 never pairs
        ([[0, 1, 2], [3, 4, 5]], [(0, 5, 1), (4, 5, 1)], [{0, 4, 5}, {1, 2, 3}]),  # a chain
    ],
)
def test_couple(groups, pairs, expected):
    got = np.asarray(jitted_couple(KEY, jnp.array(groups), memory(*pairs)))
    assert {frozenset(g.tolist()) for g in got} == {frozenset(g) for g in expected}


def test_coupled_groups_stay_disjoint_and_follow_the_strengths():
    couplings = memory((0, 5, 0.9), (1, 5, 0.8), (2, 11, 0.5), (3, 4, 0.2), (7, 8, 0.1))

    def draw(key):
        first, second = jax.random.split(key)
        drawn = random_groups(first, 12, 3, 2)
        return drawn, couple(second, drawn, couplings)

    drawn, groups = map(np.asarray, jax.jit(jax.vmap(draw))(jax.random.split(KEY, 400)))
    assert all(len(set(g.ravel())) == 6 for g in groups)
    together = [{0, 5} in [set(pair.tolist()) for pair in g] for g in groups]
    one_drawn = [bool({0, 5} & set(g.ravel().tolist())) for g in drawn]
    assert 0.83 < np.sum(together) / np.sum(one_drawn) < 0.97


def test_remember_keeps_the_strongest_and_renews(x64):
    groups = jnp.array([[4, 1], [2, 3]])
    hessians = jnp.array([[[4.0, 1.0], [1.0, 1.0]], [[1.0, -3.0], [-3.0, -9.0]]])
    old = Couplings(jnp.array([[1, 4], [0, 7], [-1, -1]], jnp.int32), jnp.array([0.9, 0.7, 0.0]))
    new = jax.jit(remember)(old, groups, hessians, 0.1)
    np.testing.assert_array_equal(new.pairs, [[2, 3], [0, 7], [1, 4]])
    np.testing.assert_allclose(new.strengths, [1.0, 0.7, 0.5])
    left_out = jnp.array([[-1, -1], [2, 3]])
    kept = jax.jit(remember)(old, left_out, hessians.at[0].set(0), 0.1)
    np.testing.assert_array_equal(kept.pairs, [[2, 3], [1, 4], [0, 7]])
    assert not no_couplings(2).strengths.any()


def test_pairing_finds_the_couplings(x64):
    """Pairs (i, i + 4) with correlation 0.98: found, kept, and worth their queries."""
    h = jnp.kron(jnp.array([[1.0, 0.98], [0.98, 1.0]]), jnp.eye(4))
    x = jnp.asarray(np.random.default_rng(2).normal(size=8))
    final = {}
    for pairing in ("random", "coupled"):
        newton = zo.zo_sah_direction(4, 1e-5, key=KEY, switch_every=2, clip=1e-3, pairing=pairing)

        def body(carry, _, newton=newton):
            x, state = carry
            v, state = newton.update(None, state, x, value_fn=lambda x: x @ h @ x / 2)
            return (x - 0.5 * v, state), state.coordinates

        scan = jax.jit(lambda c, body=body: jax.lax.scan(body, c, length=80))
        (y, state), groups = scan((x, newton.init(x)))
        mates = np.abs(np.diff(np.asarray(groups)[-20:], axis=-1)) == 4
        final[pairing] = float(y @ h @ y / 2), mates.mean(), int(zo.num_queries(state))
    assert final["random"][2] == final["coupled"][2]
    assert final["coupled"][1] > 0.8 > 0.4 > final["random"][1]
    assert final["coupled"][0] < 0.1 * final["random"][0]
