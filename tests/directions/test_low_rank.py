"""Low-rank directions and factored Hadamard ones: laws, splits, replay, reductions on factors."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions.hadamard import SCATTER
from zovh_jax.directions.splits import default_split
from zovh_jax.problems.noise import hash_of

pytestmark = pytest.mark.usefixtures("fast_compilation")
KEY = jax.random.key(1)
TREE = {"a": jnp.zeros((6, 5)), "b": jnp.zeros(7), "c": jnp.zeros((2, 3, 4)), "s": jnp.zeros(())}
FAMILIES = [zo.directions.low_rank(), zo.directions.low_rank(3)]
STACKED = zo.directions.low_rank(2, split={"a": "oi", "b": "full", "c": "sio", "s": "full"})
SIGNS = zo.directions.hadamard(factored=True)


def matrix(plan):
    """All directions, [n, d]."""
    rows = plan.draw(TREE)
    return jnp.concatenate([u.reshape(plan.size, -1) for u in jax.tree.leaves(rows)], 1)


def plan(directions, n, key=KEY, **settings):
    return zo.Plan(key, directions, num_directions=n, **{"block_size": n} | settings)


@pytest.mark.parametrize("directions", [*FAMILIES, STACKED], ids=["one", "three", "stacked"])
def test_moments(directions):
    """E[u uᵀ] = I, within five standard errors; products of four numbers have a standard one."""
    n = 20_000
    u = np.asarray(matrix(plan(directions, n)), np.float64)
    second = u.T @ u / n
    error = np.sqrt(np.maximum((u**2).T @ (u**2) / n - second**2, 0) / n)
    assert error.max() < 0.06
    assert np.all(np.abs(second - np.eye(len(second))) < 5.5 * error)
    assert np.all(np.abs(u) < directions.largest)


@pytest.mark.parametrize("rank", [1, 2])
def test_shrinkage_is_that_of_the_law(rank):
    """E[(g·u)² ‖u‖²] of a matrix, against the closed form in the shrinkage; g is even."""
    n, x = 100_000, jnp.zeros((4, 3))
    family = zo.directions.low_rank(rank)
    u = zo.Plan(KEY, family, num_directions=n, block_size=n).draw(x).reshape(n, -1)
    g = jnp.ones(12) / 12**0.5
    samples = np.asarray(jnp.square(u @ g) * jnp.sum(jnp.square(u), 1))
    # With one direction the shrinkage is ‖g‖²/E‖ĝ‖².
    want = 1 / float(family.shrinkage(1, layout_of(x)))
    error = samples.std() / math.sqrt(n)
    assert error < 0.06 * want
    assert abs(samples.mean() - want) < 5 * error


def test_replay_is_the_same_in_any_blocks():
    """To rounding: XLA may draw and multiply factors in one kernel, or not."""
    u = matrix(plan(STACKED, 6))
    other = matrix(zo.Plan(KEY, STACKED, num_directions=6, block_size=2))
    np.testing.assert_allclose(other, u, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "directions",
    [pytest.param(FAMILIES[0], marks=pytest.mark.slow), STACKED, SIGNS],
    ids=["io", "stacked", "signs"],
)
def test_reductions_on_factors_are_those_on_arrays(directions):
    n, layout = 12, layout_of(TREE)
    c = jnp.linspace(-1.0, 2.0, n)
    v = [jax.random.normal(jax.random.fold_in(KEY, i), s) for i, s in enumerate(layout.shapes)]

    @jax.jit
    def of_factors(key):
        p, few = plan(directions, n, key), plan(directions, n, key, block_size=3)
        sums = [p.combine(c, layout), few.combine(c, layout), p.combine_squares(c, layout)]
        return sums, p.inner(v, layout), p.squared_norms(layout), p.gram(layout)

    sums, (dots, norms), squares, gram = of_factors(KEY)
    rows = plan(directions, n).materialise(layout)
    for i, u in enumerate(rows):
        u = u.reshape(n, -1)
        for got, want in zip(sums, (c @ u, c @ u, c @ u**2), strict=True):
            np.testing.assert_allclose(got[i].reshape(-1), want, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(dots[:, i], u @ v[i].reshape(-1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(norms[:, i], jnp.sum(u**2, 1), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(gram[..., i], u @ u.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(squares, norms.sum(1), rtol=1e-4)


def test_signs_are_complete_over_an_epoch():
    """Orthogonal columns, whatever the rounds; a matrix has rank one in each."""
    layout = layout_of(TREE)
    size = SIGNS.period(layout)
    assert size == 128  # 62 parameters; blocks of 64, 32, 8 and 1

    @jax.jit
    def epoch():
        def round_of(t):
            return matrix(zo.Plan(SIGNS.round_key(KEY, t, layout, 4), SIGNS, num_directions=4))

        return jax.lax.map(round_of, jnp.arange(size // 4)).reshape(size, -1)

    u = epoch()
    np.testing.assert_array_equal(jnp.abs(u), 1)
    np.testing.assert_array_equal(u.T @ u, size * np.eye(layout.size))
    first = u[:, :30].reshape(-1, 6, 5)
    np.testing.assert_array_equal(first * first[:, :1, :1], first[:, :, :1] * first[:, :1])
    assert len(np.unique(np.asarray(u), axis=0)) == size
    again = zo.Plan(SIGNS.round_key(KEY, size // 4, layout, 4), SIGNS, num_directions=4)
    assert jnp.any(matrix(again) != u[:4])  # signs of their own in the next epoch


def test_an_epoch_of_slopes_is_the_gradient():
    g = jnp.arange(62.0)
    layout = layout_of(TREE)
    u = matrix(zo.Plan(SIGNS.round_key(KEY, 0, layout, 128), SIGNS, num_directions=128))
    np.testing.assert_allclose(u.T @ (u @ g) / 128, g, rtol=1e-5, atol=1e-4)
    assert float(SIGNS.shrinkage(128, layout)) == 1.0


def test_a_round_looks_at_all_of_a_matrix():
    """Neither factor is the same throughout: slopes of one r tell of r's part alone."""
    rows = zo.Plan(KEY, SIGNS, num_directions=16, block_size=16).draw(jnp.zeros((32, 64)))
    left, right = rows[:, :, :1] * rows[:, :1, :1], rows[:, :1] * rows[:, :1, :1]
    for factor, least in ((left, 12), (right, 16)):
        assert len(np.unique(np.asarray(factor).reshape(16, -1), axis=0)) >= least


def test_scattered_multiples_are_far_apart():
    for log_size in range(3, 32):
        n = 1 << log_size
        multiples = np.arange(min(128, n), dtype=np.uint64) * np.uint64(SCATTER) % np.uint64(n)
        for k in (2, 4, 8, 16, 32, 64, 128):
            if k <= n:
                first = np.sort(multiples[:k])
                gaps = np.diff(np.append(first, first[0] + np.uint64(n)))
                assert gaps.min() >= 0.147 * n / k


@pytest.mark.parametrize(
    ("shape", "word"),
    [
        ((3, 3, 16, 32), "iiio"),
        ((64, 8, 8), "ioo"),
        ((8, 8, 64), "iio"),
        ((5, 7), "io"),
        ((4, 4, 4), "iio"),
        ((7,), "full"),
        ((), "full"),
        ((1, 9), "full"),
    ],
)
def test_default_splits(shape, word):
    assert default_split(shape) == word


@pytest.mark.parametrize(
    ("split", "what"),
    [
        ("xy", "'xy'"),
        ("ii", "'ii'"),
        ({"a": "io"}, "structure of params"),
        ({"a": "iio", "b": "full", "c": "iio", "s": "full"}, "3 letters"),
    ],
)
def test_bad_splits(split, what):
    with pytest.raises(ValueError, match=what):
        zo.directions.low_rank(split=split).check_rounds(layout_of(TREE), 2)


def test_refusals():
    with pytest.raises(ValueError, match="factored=True"):
        zo.directions.hadamard(split="io")
    with pytest.raises(ValueError, match="rank"):
        zo.directions.low_rank(0)


@pytest.mark.parametrize(
    "directions",
    [
        pytest.param(FAMILIES[0], id="low rank"),
        pytest.param(SIGNS, id="signs", marks=pytest.mark.slow),
    ],
)
def test_averaged_hessians_refuse_them_and_interpolation_does_not(directions):
    """Their fourth moments are no Gaussian's; an interpolant needs no moments."""
    settings = {"num_directions": 4, "radius": 0.1, "key": KEY, "directions": directions}
    for make in (
        lambda: zo.zovh(0.1, damping=1.0, **settings),
        lambda: zo.zo_newton(damping=1.0, **settings),
        lambda: zo.scale_by_inverse_hessian(damping=1.0, **settings),
    ):
        with pytest.raises(ValueError, match="directions"):
            make()
    target = jnp.arange(30.0).reshape(6, 5) / 10
    f = lambda x: jnp.sum((x - target) ** 2)  # noqa: E731
    stencil = zo.stencils.three_point()
    x, queries = jnp.zeros((6, 5)), {"num_directions": 4, "radius": 0.1, "stencil": stencil}
    q = zo.query(f, x, KEY, directions=directions, **queries)
    with pytest.raises(ValueError, match="directions"):
        zo.estimators.hessian(q, x)
    u = q.plan.draw(x)
    gradient = zo.estimators.interpolated_gradient(q, x)
    slopes = jnp.sum(u * gradient, (1, 2)), jnp.sum(u * -2 * target, (1, 2))
    np.testing.assert_allclose(*slopes, rtol=1e-3)
    hessian = zo.estimators.interpolated_hessian(q, x)
    bends = jax.vmap(lambda u: jnp.sum(u * (hessian @ u)))(u)
    np.testing.assert_allclose(bends, 2 * jnp.sum(u * u, (1, 2)), rtol=1e-2)


def test_masked_and_scaled():
    mask = {"a": True, "b": False, "c": False, "s": True}
    rows = plan(zo.directions.masked(zo.directions.low_rank(), mask), 3).draw(TREE)
    assert jnp.linalg.matrix_rank(rows["a"][0]) == 1
    assert not jnp.any(rows["c"])
    scale = jax.tree.map(lambda x: jnp.full(x.shape, 2.0), TREE)
    scaled = plan(zo.directions.scaled(zo.directions.low_rank(), scale), 3).draw(TREE)
    plain = plan(zo.directions.low_rank(), 3).draw(TREE)
    np.testing.assert_allclose(scaled["a"], 2 * plain["a"], rtol=1e-6)


@pytest.mark.parametrize("directions", [STACKED, SIGNS], ids=["low rank", "signs"])
def test_scales_of_one_side_keep_factors(directions):
    """One number for a leaf, of inputs, of outputs; a scale of single entries makes an array."""
    layout = layout_of(TREE)
    scale = {"a": 3.0, "b": jnp.arange(7.0), "c": jnp.arange(1.0, 5.0), "s": 2.0}
    inputs = {**scale, "a": jnp.arange(1.0, 7.0)[:, None], "c": jnp.ones((2, 1, 1))}
    entries = {**scale, "a": jnp.arange(30.0).reshape(6, 5)}
    for s, formed in ((scale, []), (inputs, []), (entries, ["a"])):
        p, whole = (plan(x, 4) for x in (zo.directions.scaled(directions, s), directions))
        drawn = layout.tree(p.rows(layout))
        for name in ("a", "c"):
            assert isinstance(drawn[name], zo.directions.Factors) == (name not in formed)
        want = jax.tree.map(lambda u, s: u * s, whole.draw(TREE), s)
        for x, y in zip(jax.tree.leaves(p.draw(TREE)), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-6)  # sums of two may cancel


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts what only CPUs get")
@pytest.mark.parametrize(
    "directions", [zo.directions.low_rank(), zo.directions.hadamard(factored=True)]
)
def test_factors_are_drawn_by_one_program(directions):
    """They are small beside the parameters; and those of one shape are read by programs alike."""
    params = {f"{i:02d}": jnp.ones((64, 64)) for i in range(12)}
    plan = zo.Plan(jax.random.key(0), directions, num_directions=2, block_size=2)
    draw = jax.jit(lambda key: dataclasses.replace(plan, key=key).rows(layout_of(params)))
    text = draw.lower(plan.key).compile().as_text()
    assert text.count(" conditional(") == 1
    for i in range(1, 12):  # else a cut would have its place in its program
        assert f"slice={{[0:2], [0:1], [{64 * i}:" not in text


def test_minibatches_are_learnt_as_along_arrays():
    """A linear model of 54 parameters; batches of 8 examples, and 30 % of the values NaN."""
    features = jax.random.normal(jax.random.key(2), (256, 8))
    weights = jax.random.normal(jax.random.key(3), (8, 6))
    targets = features @ weights + 0.3 * jax.random.normal(jax.random.key(4), (256, 6))

    def loss(params, rows):
        off = features[rows] @ params["w"] + params["b"] - targets[rows]
        value = jnp.mean(jnp.sum(jnp.square(off), 1))
        return jnp.where(hash_of(params["w"]) % 10 < 3, jnp.nan, value)

    def final(directions):
        optimizer = zo.zoar(
            0.01, num_directions=8, radius=1e-2, history_size=1, key=KEY, directions=directions
        )

        def step(carry, key):
            params, state = carry
            rows = jax.random.randint(key, (8,), 0, 256)
            updates, state = optimizer.update(
                None, state, params, value_fn=lambda params: loss(params, rows)
            )
            return (optax.apply_updates(params, updates), state), None

        params = {"w": jnp.zeros((8, 6)), "b": jnp.zeros(6)}
        carry = params, optimizer.init(params)
        (params, _), _ = jax.lax.scan(step, carry, jax.random.split(jax.random.key(5), 600))
        off = features @ params["w"] + params["b"] - targets
        return float(jnp.mean(jnp.sum(jnp.square(off), 1)))

    along_arrays = final(zo.directions.gaussian(fast=True))
    start = float(jnp.mean(jnp.sum(jnp.square(targets), 1)))
    assert along_arrays < 0.1 * start
    assert final(zo.directions.low_rank()) < 1.5 * along_arrays
    assert final(SIGNS) < 1.5 * along_arrays
