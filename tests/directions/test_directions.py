"""Direction families: second moments, norms, orthogonality, Haar laws, replay."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from helpers import rows

import zovh_jax as zo
from zovh_jax import _random
from zovh_jax._tree import layout_of
from zovh_jax.directions import (
    explicit,
    gaussian,
    hadamard,
    masked,
    orthogonal,
    rademacher,
    scaled,
    sphere,
)
from zovh_jax.directions._drawing import starts_of
from zovh_jax.directions.families import _orthogonalise

pytestmark = pytest.mark.usefixtures("fast_compilation")

PARAMS = {"a": jnp.zeros(()), "b": (jnp.zeros((2, 3)), jnp.zeros(2))}
D = 9
MASK = {"a": False, "b": True}  # a prefix: "b" is two leaves
ACTIVE = np.array([False] + [True] * 8)

FAMILIES = {
    "gaussian": gaussian(),
    "fast gaussian": gaussian(fast=True),
    "sphere": sphere(),
    "rademacher": rademacher(),
    "orthogonal": orthogonal(),
    "hadamard": hadamard(),
    "masked orthogonal": masked(orthogonal(fast=True), MASK),
}
SIGNS = ("rademacher", "hadamard")


@jax.jit
def drawn_by(plan, params):
    return plan.draw(params)


def draw(directions, k, params=PARAMS, key=None, **plan):
    key = jax.random.key(0) if key is None else key
    return drawn_by(zo.Plan(key, directions, num_directions=k, **plan), params)


def draw_rounds(directions, k, num_rounds, params=PARAMS, seed=0):
    """Independent rounds: [num_rounds, k, d]."""
    keys = jax.random.split(jax.random.key(seed), num_rounds)
    many = jax.jit(jax.vmap(lambda key: draw(directions, k, params, key)))(keys)
    flat = jax.tree.map(lambda u: np.asarray(u).reshape(-1, *u.shape[2:]), many)
    return rows(flat).reshape(num_rounds, k, -1)


@pytest.mark.parametrize(
    "name",
    # The masked family is an orthogonal one, whose law is tested below.
    [pytest.param(n, marks=[pytest.mark.slow] if n == "orthogonal" else []) for n in FAMILIES],
)
def test_moments_and_norms(name):
    u = draw_rounds(FAMILIES[name], 3, 20_000)
    active = ACTIVE if "masked" in name else np.ones(D, bool)
    second = np.einsum("rki,rkj->rij", u, u) / 3
    for samples, expected in [(second, np.diag(1.0 * active)), (u.mean(1), np.zeros(D))]:
        standard_error = samples.std(0) / np.sqrt(len(samples))
        assert np.max(standard_error) < 0.01
        assert np.all(np.abs(samples.mean(0) - expected) < 5 * standard_error + 1e-5)
    assert np.all(u[..., ~active] == 0) and np.mean(u[..., active] == 0) < 1e-5
    gram = np.einsum("rki,rli->rkl", u, u)
    squares = np.diagonal(gram, axis1=1, axis2=2)
    if "gaussian" in name:
        assert abs(np.mean(squares**2) / (active.sum() * (active.sum() + 2)) - 1) < 0.02
    else:
        rtol = 0 if name in SIGNS else 3e-6
        np.testing.assert_allclose(squares, active.sum(), rtol=rtol)
    if "orthogonal" in name:
        expected = np.broadcast_to(active.sum() * np.eye(3), gram.shape)
        np.testing.assert_allclose(gram, expected, atol=1e-5)
    if name in SIGNS:
        assert set(np.unique(u)) == {-1.0, 1.0}


@pytest.mark.parametrize(
    ("d", "k", "dtype"),
    [
        (5, 1, "float32"),
        (5, 3, "float32"),
        (64, 64, "float32"),
        (200, 50, "float32"),
        (200, 200, "float32"),
        (5, 5, "float64"),
        (64, 20, "float64"),
        (200, 200, "float64"),
    ],
)
def test_orthogonal_to_rounding(d, k, dtype):
    with jax.enable_x64(dtype == "float64"):
        u = draw(orthogonal(), k, jnp.zeros(d, dtype), jax.random.key(4, impl="rbg"))
        assert u.dtype == dtype
    u = np.asarray(u, np.float64)
    np.testing.assert_allclose(u @ u.T / d, np.eye(k), atol=10 * np.finfo(dtype).eps)


def test_orthogonal_survives_nearly_dependent_rows():
    # Gaussian rows that almost depend on each other are rare: here they are made.
    blocks = []
    for smallest in (1e-3, 1e-5, 1e-6):
        for seed in range(8):
            rows = np.random.default_rng(seed).standard_normal((64, 64))
            left, values, right = np.linalg.svd(rows)
            values[-1] = smallest
            blocks.append((left * values) @ right)
    u = jax.jit(jax.vmap(lambda x: _orthogonalise([x], 64)[0]))(jnp.asarray(blocks, jnp.float32))
    gram = np.einsum("bki,bli->bkl", u, u) / 64
    np.testing.assert_allclose(gram, np.broadcast_to(np.eye(64), gram.shape), atol=3e-6)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="LAPACK is the CPU's")
def test_orthogonal_blocks_are_made_by_one_call():
    """Two calls of LAPACK at once may wait for each other for ever."""
    step = jax.jit(lambda key: draw(orthogonal(), 21, jnp.zeros(9), key))
    program = step.lower(jax.random.key(0)).compile().as_text()
    calls = [f'custom_call_target="lapack_s{name}_ffi"' for name in ("potrf", "trsm")]
    assert [program.count(call) for call in calls] == [4, 4]


def test_orthogonal_above_d_is_independent_blocks_of_d():
    d, k = 9, 21
    u = draw_rounds(orthogonal(), k, 2, jnp.zeros(d))
    for gram in np.einsum("rki,rli->rkl", u, u) / d:
        for start, stop in [(0, 9), (9, 18), (18, 21)]:
            block = gram[start:stop, start:stop]
            np.testing.assert_allclose(block, np.eye(stop - start), atol=2e-6)
        across = np.concatenate([gram[:9, 9:].ravel(), gram[9:18, 18:].ravel()])
        assert 0.25 < np.std(across) < 0.42  # cosines of independent directions: 1/√d


def test_coordinates_follow_the_haar_law():
    u = draw_rounds(orthogonal(), D, 20_000, jnp.zeros(D), seed=1)
    law = scipy.stats.beta(0.5, (D - 1) / 2)  # of a squared coordinate on the unit sphere
    for row, coordinate in [(0, 0), (0, D - 1), (D - 1, 0), (D - 1, D - 1), (4, 4)]:
        x = u[:, row, coordinate]
        assert scipy.stats.kstest(x**2 / D, law.cdf).statistic < 1.95 / np.sqrt(len(x))
        assert abs(np.mean(x > 0) - 0.5) < 2.5 / np.sqrt(len(x))
    # Two rows: E[Q11² Q21²] = 1/(d(d+2)), E[Q11² Q22²] = (d+1)/((d−1)d(d+2)),
    # E[Q11 Q12 Q21 Q22] = −1/((d−1)d(d+2)).
    q, common = u / np.sqrt(D), D * (D + 2)
    for samples, expected in [
        (q[:, 0, 4] ** 2 * q[:, 8, 4] ** 2, 1 / common),
        (q[:, 0, 4] ** 2 * q[:, 8, 7] ** 2, (D + 1) / ((D - 1) * common)),
        (q[:, 0, 4] * q[:, 0, 7] * q[:, 8, 4] * q[:, 8, 7], -1 / ((D - 1) * common)),
    ]:
        standard_error = np.std(samples) / np.sqrt(len(samples))
        assert standard_error < abs(expected) / 5
        assert abs(np.mean(samples) - expected) < 5 * standard_error


@pytest.mark.parametrize("name", ["gaussian", "fast gaussian", "rademacher"])
def test_rounds_directions_and_leaves_are_uncorrelated(name):
    n = 20_000
    params = (jnp.zeros(n), jnp.zeros((2, n // 2)))
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(3), i))(jnp.arange(2))
    leaves = jax.jit(jax.vmap(lambda key: draw(FAMILIES[name], 3, params, key)))(keys)
    vectors = np.concatenate([np.asarray(leaf, np.float64).reshape(6, n) for leaf in leaves])
    correlation = np.corrcoef(vectors)
    assert correlation.shape == (12, 12)
    assert np.max(np.abs(correlation - np.eye(12))) < 5 / np.sqrt(n)


@pytest.mark.parametrize(
    ("name", "impl"),
    [(name, "threefry2x32") for name in FAMILIES]
    + [("gaussian", "rbg")]
    + [
        pytest.param(name, "rbg", marks=pytest.mark.slow)
        for name in ("rademacher", "orthogonal", "hadamard")
    ],
)
def test_parts_replay_the_whole(name, impl):
    directions = FAMILIES[name]
    params = {"a": jnp.zeros(()), "b": jnp.zeros(8)} if "masked" in name else jnp.zeros((3, 3))
    layout, key = layout_of(params, directions.active), jax.random.key(5, impl=impl)
    whole = rows(draw(directions, 6, params, key, block_size=6))
    assert np.linalg.matrix_rank(whole) == 6
    some = jax.jit(lambda i: directions.draw(key, layout, 6, i))(jnp.array([4, 1]))
    columns = slice(1, None) if "masked" in name else slice(None)
    np.testing.assert_allclose(rows(some), whole[[4, 1], columns], rtol=1e-5, atol=1e-6)
    if name == "gaussian":
        for block_size in (1, 4):  # 4 does not divide 6
            blocks = rows(draw(directions, 6, params, key, block_size=block_size))
            np.testing.assert_allclose(blocks, whole, rtol=1e-5, atol=1e-6)


ELEMENTS = {
    "gaussian": _random.normal,
    "fast gaussian": _random.fast_normal,
    "rademacher": _random.sign,
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "rademacher" else [pytest.mark.slow]) for n in ELEMENTS],
)
def test_a_number_depends_on_its_place_alone(name):
    """Alone, among twins, in blocks, frozen leaves skipped; small leaves have the first places."""
    directions, element, key = FAMILIES[name], ELEMENTS[name], jax.random.key(6)
    shapes = [(3,), (), (40, 2), (0, 2), *[(5,)] * 10, (40, 2), (2, 2), *[(7,)] * 3]
    params = [jnp.zeros(shape) for shape in shapes]
    keep = [i % 3 != 1 for i in range(len(shapes))]
    kept = [p for p, on in zip(params, keep, strict=True) if on]

    @jax.jit
    def alone(*words):
        def of_tree(tree):
            order = sorted(range(len(tree)), key=lambda i: tree[i].size)
            place, drawn = 0, {}
            for i in order:
                counter = _random.counter(tree[i].shape) + np.uint32(place)
                drawn[i] = element(words, 0, counter, tree[i].dtype)
                place += tree[i].size
            return [drawn[i] for i in range(len(tree))]

        return of_tree(params), of_tree(kept)

    folded = jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(3))
    many, few = jax.vmap(alone)(*jax.vmap(_random.words_of)(folded))
    with_frozen = draw(masked(directions, keep), 3, params, key)
    with_frozen = [u for u, on in zip(with_frozen, keep, strict=True) if on]
    for drawn, expected in [(draw(directions, 3, params, key), many), (with_frozen, few)]:
        for u, v in zip(drawn, expected, strict=True):
            np.testing.assert_allclose(u, v, rtol=1e-6, atol=1e-7)


def test_numbers_above_32_bits():
    """No leaf lies across a multiple of 2³²: all of it has one stream."""
    leaf = jax.ShapeDtypeStruct((2**20, 3), jnp.float32)
    starts = np.array(starts_of(layout_of([leaf] * 3000)))
    ends = starts + leaf.size - 1
    assert np.all(starts >> 32 == ends >> 32) and starts[-1] >> 32 == 2
    assert np.all(starts[1:] > ends[:-1])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize("block_size", [1, 3])
def test_gaussian_is_jaxs_own(dtype, block_size, x64):
    """Of a parameter tree that is one array, to the last bit; in replays too."""
    key, shape = jax.random.key(12), (3, 1, 5)
    u = draw(gaussian(), 3, [jnp.zeros(shape, dtype)], key, block_size=block_size)[0]
    for k in range(3):
        expected = jax.random.normal(jax.random.fold_in(key, k), shape, dtype)
        np.testing.assert_array_equal(u[k], expected)


def test_many_leaves_of_one_shape_have_one_program():
    """Twins, from eight on: as many fewer operations to compile."""

    def num_lines(n):
        plan = zo.Plan(jax.random.key(0), gaussian(fast=True), num_directions=2)
        params = [jnp.zeros(100)] * n
        return jax.jit(plan.draw).lower(params).as_text().count("\n")

    assert num_lines(60) < 4 * num_lines(10)


def test_keys_decide():
    first, again, other = (
        rows(draw(gaussian(), 2, jnp.zeros(3), jax.random.key(s))) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert np.all(first != other)


def test_explicit_is_used_as_given():
    rng = np.random.default_rng(0)
    tree = jax.tree.map(lambda x: rng.standard_normal((4, *x.shape)).astype(np.float32), PARAMS)
    drawn = draw(explicit(tree), 4)
    assert jax.tree.structure(drawn) == jax.tree.structure(PARAMS)
    np.testing.assert_array_equal(rows(drawn), rows(tree))


@pytest.mark.parametrize(
    ("mask", "frozen"),
    [
        ({"a": True, "b": False}, [False] + [True] * 8),
        ({"a": True, "b": (False, True)}, [False] + [True] * 6 + [False] * 2),
        (True, [False] * 9),
    ],
)
def test_prefix_masks(mask, frozen):
    u = rows(draw(masked(rademacher(), mask), 4))
    np.testing.assert_array_equal(np.all(u == 0, 0), frozen)


def test_frozen_leaves_are_queried_where_they_are():
    def f(p):
        moved = jnp.any(p["a"] != 0.3)
        return jnp.where(moved, jnp.nan, jnp.sum(p["b"][0]))

    params = {**PARAMS, "a": jnp.asarray(0.3)}
    directions = masked(rademacher(), MASK)
    queries = zo.query(
        f, params, jax.random.key(0), num_directions=5, radius=0.1, directions=directions
    )
    assert np.all(np.isfinite(queries.values)) and np.std(queries.values) > 0


@pytest.mark.parametrize("name", ["gaussian", "fast gaussian", "rademacher"])
def test_narrow_parameters_draw_in_float32(name):
    directions = FAMILIES[name]
    narrow, wide = (draw(directions, 4, jnp.zeros(5, t)) for t in (jnp.bfloat16, jnp.float32))
    assert narrow.dtype == jnp.float32
    np.testing.assert_array_equal(narrow, wide)


SLOPE = jnp.array([1.0, -2.0, 3.0])
SCALE = {"a": jnp.asarray(0.5), "b": (jnp.arange(1.0, 7.0).reshape(2, 3), jnp.array([0.0, 10.0]))}


@pytest.mark.parametrize(
    "name",
    [
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("gaussian", "sphere")),
        "masked orthogonal",
    ],
)
def test_scaled_is_another_family_times_numbers(name):
    """Whole, in blocks, stored; and its reductions are those of the scaled rows."""
    inner = FAMILIES[name]
    directions, key = scaled(inner, SCALE), jax.random.key(2)
    layout = layout_of(PARAMS, directions.active)
    assert layout == layout_of(PARAMS, inner.active)
    expected = rows(draw(inner, 6, key=key)) * rows(jax.tree.map(lambda s: s[None], SCALE))

    @jax.jit
    def replayed(scale):
        plan = zo.Plan(key, scaled(inner, scale), num_directions=6, block_size=2)
        return plan.draw(PARAMS), plan.gram(layout).sum(-1), plan.squared_norms(layout)

    drawn, gram, squares = replayed(SCALE)
    np.testing.assert_allclose(rows(drawn), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gram, expected @ expected.T, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(squares, np.sum(expected**2, 1), rtol=1e-4)
    assert directions.joint == inner.joint
    some = jax.jit(lambda i: directions.draw(key, layout, 6, i))(jnp.array([4, 1]))
    columns = slice(1, None) if "masked" in name else slice(None)
    np.testing.assert_allclose(rows(some), expected[[4, 1], columns], rtol=1e-5, atol=1e-6)


def test_scales_broadcast_to_their_leaves():
    """One number for all below, one for a leaf, one for each column."""
    scale = {"a": 3.0, "b": (jnp.array([1.0, 2.0, 3.0]), 0.5)}
    full = {"a": 3.0, "b": (jnp.array([[1.0, 2.0, 3.0]] * 2), jnp.full(2, 0.5))}
    for given, same in (
        (scale, full),
        (2.0, jax.tree.map(lambda x: jnp.full(x.shape, 2.0), PARAMS)),
    ):
        short, whole = (rows(draw(scaled(rademacher(), s), 4)) for s in (given, same))
        np.testing.assert_array_equal(short, whole)


@pytest.mark.parametrize(
    "evaluate",
    [pytest.param(zo.evaluators.vmapped(), marks=pytest.mark.slow), zo.evaluators.chunked(2)],
)
def test_scaled_rounds(evaluate):
    """Queried where the scale says, replayed or stored; on a slope g the mean gradient is s²g."""
    scale = jnp.array([2.0, 0.5, 0.0])
    options = {
        "num_directions": 5,
        "radius": 0.1,
        "directions": scaled(gaussian(), scale),
        "evaluate": evaluate,
        "stencil": zo.stencils.central(),
    }

    @jax.jit
    def run(key):
        x, results = jnp.zeros(3), []
        for store in (False, True):
            queries = zo.query(lambda x: x @ SLOPE, x, key, store_directions=store, **options)
            estimate = zo.estimators.gradient(queries, x)
            results.append((queries.values, queries.plan.draw(x), estimate))
        return results

    (values, u, estimate), stored = run(jax.random.key(0))
    slopes = u @ SLOPE
    np.testing.assert_allclose(values, 0.1 * np.stack([slopes, -slopes], 1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(estimate, slopes @ u / 5, rtol=1e-5, atol=1e-5)
    for x, y in zip((values, u, estimate), stored, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
    z = draw(gaussian(), 5, jnp.zeros(3))
    np.testing.assert_allclose(u, z * scale, rtol=1e-6)


def test_scaled_compiles_once_for_all_scales():
    """The scale is an array of the program: leaves of the spec, vmappable."""
    calls = []

    @jax.jit
    def estimate(scale):
        calls.append(1)
        queries = zo.query(
            lambda x: x @ SLOPE,
            jnp.zeros(3),
            jax.random.key(0),
            num_directions=4,
            radius=1.0,
            directions=scaled(rademacher(), scale),
        )
        return queries.values

    first, second = estimate(jnp.ones(3)), estimate(2 * jnp.ones(3))
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)
    assert len(calls) == 1
    many = jax.vmap(estimate)(jnp.stack([jnp.ones(3), 2 * jnp.ones(3)]))
    np.testing.assert_allclose(many, jnp.stack([first, second]), rtol=1e-6)
    assert len(jax.tree.leaves(scaled(gaussian(), SCALE))) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scaled(gaussian(), jnp.ones(4)), r"broadcast.*\(4,\) for one of \(3,\)"),
        (lambda: scaled(gaussian(), jnp.ones((1, 3))), r"broadcast.*\(1, 3\) for one of \(3,\)"),
        (lambda: scaled(gaussian(), {"a": jnp.ones(3)}), "scale must have the structure of params"),
        (lambda: scaled(explicit(jnp.ones((2, 3))), jnp.ones(3)), r"scaled\(explicit.*multiply"),
        (
            lambda: scaled(scaled(gaussian(), jnp.ones(3)), jnp.ones(3)),
            r"scaled\(scaled.*multiply",
        ),
        (
            lambda: masked(scaled(gaussian(), jnp.ones(3)), True),
            r"write scaled\(masked\(directions, mask\), scale\)",
        ),
        (lambda: scaled(masked(gaussian(), False), jnp.ones(3)), "mask freezes every leaf"),
    ],
)
def test_scaled_errors(make, message):
    with pytest.raises(ValueError, match=message):
        zo.query(
            jnp.sum,
            jnp.zeros(3),
            jax.random.key(0),
            num_directions=2,
            radius=0.1,
            directions=make(),
        )


def test_scaled_needs_a_family():
    with pytest.raises(TypeError, match=r"directions must be one of.*call it"):
        options = {"num_directions": 2, "radius": 0.1, "directions": scaled(gaussian, jnp.ones(3))}
        zo.query(jnp.sum, jnp.zeros(3), jax.random.key(0), **options)
