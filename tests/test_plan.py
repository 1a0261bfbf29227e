"""The reductions over directions, against dense algebra."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLOSE, PARAMS, Waves, given, ravel, rows

import zovh_jax as zo
from zovh_jax._rows import FEW_ROWS, gram_of, mixed, row_products, row_sum
from zovh_jax._tree import layout_of, vdot
from zovh_jax.directions import masked, orthogonal, rademacher
from zovh_jax.transforms.newton.spikes import dots, mix

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

PLANS = {
    "one block": (6, None, 6, Waves()),
    "one by one": (6, None, 1, Waves()),
    "blocks": (6, None, 2, Waves()),
    "blocks that do not divide": (7, None, 3, Waves()),
    "whole rounds": (2, 3, 2, Waves()),
    "rounds in blocks": (4, 3, 2, Waves()),
    "many rounds": (1, 20, 1, Waves()),
    "joint": (4, 2, 1, Waves(joint=True)),
    "masked": (6, None, 3, masked(Waves(), {"a": False, "b": (True, False)})),
    "masked rounds": (4, 2, 2, masked(Waves(), {"a": True, "b": (False, True)})),
    "masked orthogonal": (4, 2, 2, masked(orthogonal(), {"a": False, "b": (True, False)})),
    "explicit": (6, None, 1, given(6)),
    "explicit rounds": (6, 2, 1, given(12)),
}


# Blocks and rounds in another way than those beside them.
SECOND = (
    *("one block", "blocks", "whole rounds", "many rounds", "one by one", "masked rounds"),
    *("explicit", "masked"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SECOND else []) for n in PLANS]
)
def test_reductions_against_dense_algebra(name):
    k, rounds, block_size, directions = PLANS[name]
    key, n = jax.random.key(1), k * (rounds or 1)
    if rounds is not None:
        key = jax.random.split(key, rounds)
    if "explicit" in name:
        key = None
    plan = zo.Plan(key, directions, num_directions=k, num_rounds=rounds, block_size=block_size)
    layout = plan.layout(PARAMS)
    active, sizes = [i for i in range(3) if layout.active[i]], [1, 6, 2]
    rng = np.random.default_rng(0)
    c, per_leaf, v = (rng.standard_normal(shape) for shape in [n, (n, len(active)), 9])
    by_leaf = [v[0], v[1:7].reshape(2, 3), v[7:]]
    vector = [jnp.asarray(by_leaf[i]) for i in active]
    vectors = [jnp.asarray(rng.standard_normal((rounds or 1, *x.shape))) for x in vector]

    def along(dots, norms, x):
        return dots - 2 * norms + x[:, None]

    @jax.jit
    def reduce(plan):
        return (
            plan.draw(PARAMS),
            plan.materialise(layout),
            plan.combine(c, layout),
            plan.combine(per_leaf, layout),
            plan.combine_squares(c, layout),
            plan.inner(vector, layout),
            plan.inner_by_round(vectors, layout),
            plan.squared_norms(layout),
            plan.gram(layout),
            plan.combine_along(vector, along, c, layout),
            plan.combine_along(vector, lambda d, n, x: d.sum(1) * x, c, layout),
            plan.fold(layout, lambda s, u, x: (s + jnp.sum(x), x * x), jnp.ones(()), c),
        )

    drawn, rows_drawn, combined, apart, squares, (dots, norms), *rest = reduce(plan)
    by_round, total, gram, product, whole_product, folded = rest
    u, leaf = rows(drawn), np.repeat([0, 1, 2], sizes)
    assert u.shape == (n, 9) and plan.size == n
    on = np.isin(leaf, active)
    assert np.all(u[:, ~on] == 0) and np.all(np.any(u[:, on] != 0, 0))
    # From here on, of the leaves that are perturbed.
    u, v, leaf = u[:, on], v[on], np.repeat(np.arange(len(active)), [sizes[i] for i in active])
    assert np.linalg.matrix_rank(u) == min(n, u.shape[1])
    assert len(np.unique(u.round(9), axis=0)) == n
    parts = [u * (leaf == i) for i in range(len(active))]
    want_dots = np.stack([x @ v for x in parts], 1)
    want_norms = np.stack([(x**2).sum(1) for x in parts], 1)
    want_along = (want_dots - 2 * want_norms + c[:, None])[:, leaf]
    of_round = rows(vectors)[np.arange(n) // k]
    np.testing.assert_allclose(rows(rows_drawn), u, **CLOSE)
    np.testing.assert_allclose(ravel(combined), c @ u, **CLOSE)
    np.testing.assert_allclose(ravel(apart), np.sum(per_leaf[:, leaf] * u, 0), **CLOSE)
    np.testing.assert_allclose(ravel(squares), c @ u**2, **CLOSE)
    np.testing.assert_allclose(dots, want_dots, **CLOSE)
    np.testing.assert_allclose(norms, want_norms, **CLOSE)
    np.testing.assert_allclose(by_round, np.sum(u * of_round, 1), **CLOSE)
    np.testing.assert_allclose(total, np.sum(u**2, 1), **CLOSE)
    np.testing.assert_allclose(gram, np.stack([x @ x.T for x in parts], -1), **CLOSE)
    np.testing.assert_allclose(ravel(product), np.sum(want_along * u, 0), **CLOSE)
    np.testing.assert_allclose(ravel(whole_product), (want_dots.sum(1) * c) @ u, **CLOSE)
    np.testing.assert_allclose(folded[0], 1 + np.sum(c), **CLOSE)
    np.testing.assert_allclose(folded[1], c**2, **CLOSE)


@pytest.mark.parametrize("rounds", [pytest.param(None, marks=pytest.mark.slow), 3])
def test_shifted_rounds(rounds):
    """Each round's directions plus that round's shift: in blocks, stored, of constant norm."""
    n = 4 * (rounds or 1)
    keys = jax.random.split(jax.random.key(1), rounds) if rounds else jax.random.key(1)
    shift = [jnp.asarray(np.random.default_rng(0).standard_normal((rounds or 1, 2, 3)))]
    layout, x = layout_of(jnp.zeros((2, 3))), jnp.zeros((2, 3))
    plain = zo.Plan(keys, rademacher(), None, 4, rounds, 2)
    expected = rows([plain.draw(x)]) + rows(shift)[np.arange(n) // 4]
    stored = plain.materialise(layout)
    for options in ({}, {"stored": stored}):
        plan = dataclasses.replace(plain, shift=shift, **options)
        np.testing.assert_allclose(rows([plan.draw(x)]), expected, **CLOSE)
        np.testing.assert_allclose(plan.squared_norms(layout), np.sum(expected**2, 1), **CLOSE)
        combined = plan.combine(jnp.arange(1.0 * n), layout)
        np.testing.assert_allclose(ravel(combined), np.arange(n) @ expected, **CLOSE)


@pytest.mark.parametrize("briefly", [False, True])
def test_large_blocks_sum_as_small_ones(briefly):
    """Above ``FEW_ROWS`` a sum over rows is a matrix product."""
    rng, options = np.random.default_rng(0), {"briefly": briefly}
    for n in (1, FEW_ROWS, FEW_ROWS + 1, 40):
        c, u, w = (rng.standard_normal(shape) for shape in [n, (n, 3, 2), (2, 3, 2)])
        summed = row_sum(jnp.asarray(c), jnp.asarray(u), **options)
        np.testing.assert_allclose(summed, np.tensordot(c, u, 1), **CLOSE)
        inner = np.einsum("bij,mij->bm", u, w)
        products = row_products(jnp.asarray(u), w[:1], **options)
        np.testing.assert_allclose(products, inner[:, 0], **CLOSE)
        for m in (1, 2):
            np.testing.assert_allclose(gram_of(u, w[:m], **options), inner[:, :m], **CLOSE)
            np.testing.assert_allclose(gram_of(w[:m], u, **options), inner[:, :m].T, **CLOSE)
            both = mixed(jnp.asarray(inner.T[:m]), u, **options)
            np.testing.assert_allclose(both, np.tensordot(inner.T[:m], u, 1), **CLOSE)


def test_many_leaves_are_as_one():
    """Sums over more than ``FEW`` leaves are stacked, and a single row is filled up to two."""
    rng = np.random.default_rng(0)
    rows, others = ([rng.standard_normal((n, i % 3 + 1)) for i in range(12)] for n in (1, 3))
    one, other = (np.concatenate(x, 1) for x in (rows, others))
    np.testing.assert_allclose(vdot(rows, rows), np.sum(one**2), **CLOSE)
    np.testing.assert_allclose(dots(rows, others), one @ other.T, **CLOSE)
    product = mix(jnp.asarray(one[:, :3]), [jnp.asarray(x) for x in others])
    np.testing.assert_allclose(np.concatenate(product, 1), one[:, :3] @ other, **CLOSE)


def test_stacked_rounds_draw_what_single_rounds_draw():
    keys = jax.random.split(jax.random.key(1), 3)
    x = jnp.zeros(5)

    def draw(key, rounds):
        return jax.jit(zo.Plan(key, rademacher(), None, 2, rounds).draw)(x)

    singles = np.concatenate([draw(key, None) for key in keys])
    assert len(np.unique(singles, axis=0)) > 2
    np.testing.assert_array_equal(draw(keys, 3), singles)
