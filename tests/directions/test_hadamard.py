"""Hadamard directions: orthogonality, epochs across an optimiser's rounds, replay, shrinkage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import compiled_run, rows

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit, gaussian, hadamard, masked, orthogonal, rademacher, sphere
from zovh_jax.directions.hadamard import _matrix, _mixed, order_of

pytestmark = pytest.mark.usefixtures("fast_compilation")

LEAVES = {"a": jnp.zeros(()), "b": jnp.zeros((31, 30), jnp.bfloat16), "c": [jnp.zeros(69)]}
MASK = {"a": True, "b": False, "c": True}


def draw(params, k, key=None, directions=hadamard()):
    key = jax.random.key(3) if key is None else key
    return rows(jax.jit(zo.Plan(key, directions, num_directions=k, block_size=k).draw)(params))


@pytest.mark.parametrize(
    ("params", "d", "order"),
    [
        (jnp.zeros(()), 1, 1),
        (jnp.zeros(2), 2, 2),
        (jnp.zeros(3), 3, 4),
        (jnp.zeros(7), 7, 8),
        (jnp.zeros(12), 12, 12),
        (jnp.zeros((4, 25)), 100, 104),
        (jnp.zeros(577), 577, 608),
        (LEAVES, 1000, 1008),
        ("masked", 70, 72),
    ],
)
def test_an_epoch_is_a_tight_frame(params, d, order):
    if isinstance(params, str):
        u = draw(LEAVES, order, directions=masked(hadamard(), MASK))
        assert np.all(u[:, 1:931] == 0)
        u = np.delete(u, np.s_[1:931], 1)
    else:
        u = draw(params, order)
    assert u.shape == (order, d) and order_of(d) == order
    assert np.all(np.abs(u) == 1)
    np.testing.assert_array_equal(u.T @ u, order * np.eye(d))
    gram = np.abs(u @ u.T - d * np.eye(order))
    assert np.max(gram) <= order - d  # rows are orthogonal if order == d
    k, size = np.arange(order), 1 << _matrix(d)[0]
    apart = np.abs(k[:, None] - k)
    assert np.all((gram <= (apart & -apart)) | (apart % size == 0))


def test_the_order_is_little_more_than_d():
    ratios = [order_of(d) / d for d in range(1001, 9000, 7)]
    assert min(ratios) >= 1 and max(ratios) < 1.067 and np.mean(ratios) < 1.025
    assert max(order_of(d) / d for d in range(100, 1001)) < 1.11
    assert 1.066 < order_of(184321) / 184321 < 1.067  # the worst


@pytest.mark.parametrize(("k", "impl"), [(4, "threefry2x32"), (5, "rbg")])
def test_rounds_of_an_optimiser_repeat_no_row(k, impl):
    """A history as long as an epoch holds all rows; with a linear objective, its gradient."""
    slope = jnp.arange(24.0)
    order, num_rounds = 24, -(-24 // k)  # 5 does not divide 24
    optimizer = zo.zo_gradient(
        k,
        1.0,
        key=jax.random.key(1, impl=impl),
        directions=hadamard(),
        stencil=zo.stencils.central(),
        history_size=num_rounds,
    )
    x = jnp.zeros(24)

    @jax.jit
    def steps(state):
        def step(state, _):
            estimate, state = optimizer.update(None, state, x, value_fn=lambda x: x @ slope)
            return state, estimate

        state, estimates = jax.lax.scan(step, state, length=num_rounds)
        return state, estimates[-1], state.history.queries().plan.draw(x)

    state, estimate, first = steps(optimizer.init(x))
    _, _, second = steps(state)
    for u in (rows(first), rows(second)):
        unique = np.unique(u, axis=0)
        assert len(unique) == order
        np.testing.assert_array_equal(unique.T @ unique, order * np.eye(24))
        np.testing.assert_array_equal(u[order:], u[: len(u) - order])  # what starts over
    assert np.max(np.abs(rows(first) @ rows(second).T)) < 24  # new signs
    if k == 4:
        np.testing.assert_allclose(estimate, slope, rtol=1e-5, atol=1e-5)


def test_rounds_count_exactly():
    """No overflow in count·K, whatever the size; each round starts K rows after the one before."""
    layout = layout_of(jax.ShapeDtypeStruct((2**31 - 5,), jnp.float32))
    directions, key, largest = hadamard(), jax.random.key(0), 2**31 - 1
    order = order_of(2**31 - 5)
    assert order == 2**31
    for count, k in [(0, 3), (1, 3), (largest, 1), (largest, 3), (order // 3 + 1, 3)]:
        round_key = directions.round_key(key, jnp.asarray(count, jnp.int32), layout, k)
        start = _mixed(jax.random.key_data(round_key))[-1]
        assert int(start) == count % -(-order // k) * k
    too_many = layout_of(jax.ShapeDtypeStruct((2**31 + 1,), jnp.float32))
    with pytest.raises(ValueError, match=r"at most 2\*\*31.*rademacher"):
        masked(directions, True).check_rounds(too_many, 1)


def test_masked_rounds_are_those_of_the_active_leaves():
    active = layout_of((LEAVES["a"], LEAVES["c"][0]))
    for count in (0, 5, 40):
        options = jax.random.key(0), jnp.asarray(count)
        expected = hadamard().round_key(*options, active, 3)
        for directions in (
            masked(hadamard(), MASK),
            zo.directions.scaled(masked(hadamard(), MASK), LEAVES),
        ):
            layout = layout_of(LEAVES, directions.active)
            assert directions.round_key(*options, layout, 3) == expected
        options = *options, layout_of(LEAVES), 3
        assert explicit(LEAVES).round_key(*options) == jax.random.fold_in(*options[:2])


def test_leaves_are_columns_of_one_matrix():
    """From the smallest leaf on, a leaf of zero size and many twins among them."""
    shapes = [(3,), (), (40, 2), (0, 2), *[(5,)] * 12, (2, 3, 4), (40, 2)]
    params = [jnp.zeros(shape) for shape in shapes]
    size = sum(x.size for x in params)
    ends = np.cumsum([x.size for x in params])
    numbers = [np.arange(end - x.size, end) for x, end in zip(params, ends, strict=True)]
    columns = np.concatenate(sorted(numbers, key=len))
    whole = draw(jnp.zeros(size), 6)
    np.testing.assert_array_equal(draw(params, 6)[:, columns], whole)
    np.testing.assert_array_equal(draw([jnp.zeros((1, size))], 6), whole)


def test_keys_of_ones_own():
    """Signs and a first row from the whole key, though seeds differ in its last word alone."""
    one = jax.jit(lambda key: zo.Plan(key, hadamard(), num_directions=3).draw(jnp.zeros(64)))
    drawn = np.stack([one(jax.random.key(seed)) for seed in range(8)])
    inner = np.abs(np.einsum("aki,bli->ablk", drawn, drawn))
    assert np.max(inner[~np.eye(8, dtype=bool)]) < 48
    keys = jax.random.split(jax.random.key(0), 4)
    many = jax.jit(jax.vmap(one))(keys)
    np.testing.assert_array_equal(many, np.stack([one(key) for key in keys]))


@pytest.mark.parametrize("impl", ["threefry2x32", "unsafe_rbg"])
def test_blocks_see_the_same_rows(impl):
    key = jax.random.key(2, impl=impl)

    @jax.jit
    def run(x):
        results = []
        for evaluate in (zo.evaluators.vmapped(), zo.evaluators.chunked(1)):
            queries = zo.query(
                lambda p: p["b"][0] @ jnp.arange(1.0, 7) + p["a"],
                x,
                key,
                num_directions=5,
                radius=1.0,
                directions=hadamard(),
                evaluate=evaluate,
            )
            results.append((queries.values, queries.plan.draw(x)))
        return results

    first, second = run({"a": jnp.zeros(()), "b": [jnp.zeros(6)]})
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_descends_to_the_minimum_in_d_slopes(x64):
    """½‖x‖², x ← x − (u·x) u/d for each slope: what is left shrinks linearly, then is nothing."""
    d, k = 96, 4
    optimizer = zo.zo_sgd(
        k / d,
        num_directions=k,
        radius=1.0,
        key=jax.random.key(0),
        directions=hadamard(),
        stencil=zo.stencils.central(),
    )
    f = lambda x: jnp.sum(jnp.square(x)) / 2  # noqa: E731
    x = jax.random.normal(jax.random.key(1), (d,))
    gaps = jax.vmap(f)(compiled_run(optimizer, f, x, d // k)[0])
    assert gaps[-1] < 1e-26 * f(x) and gaps[-2] > 1e-3 * f(x)
    np.testing.assert_allclose(gaps / f(x), 1 - np.arange(1, d // k + 1) * k / d, atol=0.15)


def test_curvatures_are_traces_on_axis_aligned_quadratics(x64):
    h = jnp.linspace(-1.0, 5.0, 50)
    queries = zo.query(
        lambda x: h @ jnp.square(x) / 2,
        jnp.zeros(50),
        jax.random.key(0),
        num_directions=5,
        radius=0.5,
        directions=hadamard(),
    )
    np.testing.assert_allclose(2 * queries.values / 0.25, h.sum(), rtol=1e-12)
    for directions in (hadamard(), masked(hadamard(), True)):
        with pytest.raises(ValueError, match="diagonal"):
            zo.zo_newton(4, 0.1, damping=1.0, key=jax.random.key(0), directions=directions)


@pytest.mark.parametrize(
    ("directions", "n", "expected"),
    [
        (gaussian(), 5, 5 / 18),
        (rademacher(), 5, 5 / 16),
        (orthogonal(), 16, 256 / (256 + 4 * 8)),  # four more than a block
        (masked(hadamard(), {"x": True, "y": False}), 5, 5 / 12),
    ],
)
def test_shrinkage_is_the_inverse_of_the_second_moment(directions, n, expected):
    slope = jnp.linspace(-1.0, 1.0, 12)
    params = {"x": jnp.zeros(12)}
    if isinstance(directions, zo.directions.masked):
        params["y"] = jnp.zeros(7)
    layout = layout_of(params, directions.active)
    shrinkage = float(directions.shrinkage(n, layout))
    assert abs(shrinkage / expected - 1) < 1e-6
    assert float(directions.shrinkage(0, layout)) == 0

    def ratio(key):
        u = zo.Plan(key, directions, num_directions=n, block_size=n).draw(params)["x"]
        return jnp.sum(jnp.square((u @ slope) @ u / n)) / jnp.sum(jnp.square(slope))

    keys = jax.random.split(jax.random.key(0), 4000)
    ratios = np.asarray(jax.jit(lambda keys: jax.lax.map(ratio, keys))(keys))
    standard_error = np.std(ratios) / np.sqrt(len(ratios))
    assert standard_error < 0.06
    assert abs(np.mean(ratios) - 1 / shrinkage) < 4 * standard_error + 1e-5


def test_shrinkage_of_all_families():
    layout = layout_of(jnp.zeros(12))
    assert float(sphere().shrinkage(5, layout)) == float(rademacher().shrinkage(5, layout))
    for directions in (orthogonal(), hadamard()):
        assert abs(float(directions.shrinkage(5, layout)) - 5 / 12) < 1e-6
        assert float(directions.shrinkage(12, layout)) == 1
    for name, directions in [
        ("Explicit", explicit(jnp.ones((2, 12)))),
        ("Scaled", zo.directions.scaled(sphere(), jnp.ones(12))),
    ]:
        with pytest.raises(ValueError, match=f"no shrinkage is known.*{name}"):
            directions.shrinkage(2, layout)


def test_shrinkage_above_d():
    """D > d: exact for a random start up to how consecutive rows differ from any rows."""
    u = draw(jnp.zeros(577), 608)
    gram = np.square(u @ u.T)
    layout = layout_of(jnp.zeros(577))
    for n in (1, 16, 300, 577, 608):
        runs = [(start + np.arange(n)) % 608 for start in range(0, 608, 19)]
        moment = np.mean([gram[np.ix_(run, run)].sum() for run in runs]) / (n**2 * 577)
        assert abs(float(hadamard().shrinkage(n, layout)) * moment - 1) < 3e-3
