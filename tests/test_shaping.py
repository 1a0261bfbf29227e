"""Shaping: what becomes of a round's values, and runs whose values are finite and wrong."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

WINSORISED, RANKS = zo.shaping.winsorised(), zo.shaping.ranks()
winsorised, ranked = jax.jit(WINSORISED.apply), jax.jit(RANKS.apply)
NAN, INF = np.nan, np.inf


def told(values, origin=None, paired=False):
    values = jnp.asarray(values, jnp.float32)
    return zo.Queries.from_values(
        values,
        directions=zo.directions.explicit(jnp.ones((len(values), 1))),
        radius=1.0,
        stencil=zo.stencils.three_point() if paired else zo.stencils.forward(),
        origin=origin,
    )


def test_ranks_of_a_round():
    """Equal values share a rank, +∞ is the worst, NaN and −∞ are missing; any monotone f alike."""
    shaped, _ = ranked(told([3.0, NAN, 7.0, 7.0, -INF, INF], origin=1e-30), ())
    np.testing.assert_allclose(shaped.values, [-0.25, NAN, 0.125, 0.125, NAN, 0.5])
    assert float(shaped.origin) == -0.5 and int(shaped.num_nonfinite) == 2
    pairs, _ = ranked(told([[1.0, 5.0], [3.0, -4.0]], paired=True), ())
    np.testing.assert_allclose(pairs.values, np.array([[1, 3], [2, 0]]) / 3 - 0.5, rtol=1e-6)
    same, _ = ranked(told([2.0, 2.0, 2.0]), ())
    assert not np.any(same.values)
    one, _ = ranked(told([2.0, NAN]), ())
    np.testing.assert_array_equal(one.values, [0.0, NAN])


def test_ranks_are_refused_where_curvature_is_meant():
    ranks, options = zo.shaping.ranks(), {"num_directions": 4, "radius": 0.1}
    key, x = jax.random.key(0), jnp.ones(3)
    for make in (
        lambda: zo.zo_newton(damping=1.0, key=key, shaping=ranks, **options),
        lambda: zo.scale_by_inverse_hessian(damping=1.0, key=key, shaping=ranks, **options),
        lambda: zo.zo_hizoo(key=key, shaping=ranks, **options),
    ):
        with pytest.raises(ValueError, match=r"shaping=Ranks\(\).*winsorised"):
            make()
    queries = zo.query(jnp.sum, x, key, stencil=zo.stencils.three_point(), shaping=ranks, **options)
    for estimator in (zo.estimators.hessian, zo.estimators.hessian_trace):
        with pytest.raises(ValueError, match="ranks"):
            estimator(queries, x) if "trace" not in estimator.__name__ else estimator(queries)
    with pytest.raises(ValueError, match="ranked"):
        zo.History.init(x, size=2, num_directions=4, origin=True).push(
            dataclasses.replace(zo.query(jnp.sum, x, key, origin=True, **options), ranked=True)
        )


def test_winsorised_rounds():
    """A wide range around the median, from the rounds so far; rounds inside it keep every bit."""
    values = np.float32([1.0, 1.1, 0.9, 1.2, 0.8])
    clean = told(values, origin=0.7)
    shaped, memory = winsorised(clean, ())
    np.testing.assert_array_equal(shaped.values, values)
    assert shaped.origin == clean.origin

    # Of the 7 deviations above zero in both rounds the median is 0.1.
    far = 3 * 1.4826 * 0.1 * (1 + 8 / 7)
    wrong = told([1.0, 1.1, 1e30, 0.9, NAN], origin=-1e20)
    shaped, memory = winsorised(wrong, memory)
    np.testing.assert_allclose(shaped.values[:4], [1.0, 1.1, 1 + far, 0.9], rtol=1e-5)
    assert not np.isfinite(shaped.values[4])
    # f(θ) was 0.3 away in the one round before.
    np.testing.assert_allclose(shaped.origin, 1 - 3 * 1.4826 * 0.3 * (1 + 8), rtol=1e-5)

    # Every value is wrong: the level and the deviations of the rounds before are left.
    lost = told([1e8, -1e12, 3e15, 7e9, -1e30], origin=1e25)
    shaped, memory = winsorised(lost, memory)
    assert np.all(np.abs(shaped.values - 1) < 2 * far) and abs(shaped.origin - 1) < 12

    # An outage, as long as may be, changes nothing.
    outage, after = winsorised(told(np.zeros(5), origin=0.0), memory)
    assert not np.any(outage.valid)
    jax.tree.map(np.testing.assert_array_equal, after, memory)


def test_rounding_is_no_deviation():
    """Five directions do not matter to f: the range comes from the other three."""
    digit = np.float32(1.2e-7)
    values = [1.0, 1 + digit, 1 - digit, 1.0, 1 + digit, 1.5, 1.6, 0.3]
    shaped, _ = winsorised(told(values, origin=1.0), ())
    np.testing.assert_array_equal(shaped.values, np.float32(values))


def test_winsorised_pairs():
    """Where one of a pair is wrong the other keeps its part; what is curvature keeps its level."""
    rng = np.random.default_rng(0)
    slopes, bends = rng.normal(size=6), 5 + 0.01 * rng.normal(size=6)
    pairs = np.stack([bends + slopes, bends - slopes], -1)
    shaped, memory = winsorised(told(pairs, origin=4.9, paired=True), ())
    np.testing.assert_array_equal(shaped.values, pairs.astype(np.float32))
    pairs[2, 0] = 1e10
    shaped, _ = winsorised(told(pairs, origin=4.9, paired=True), memory)
    assert 0 < shaped.odd[2] <= 6 * 1.4826 * np.max(np.abs(slopes))
    assert abs(shaped.even[2] - 5) < 0.2


D = 200
SCALES = jnp.logspace(0, 1, D)


def bowl(x):
    return jnp.mean(SCALES * jnp.square(x - 0.5)) / 2


OPTIMIZERS = {
    "zo_sgd": lambda **options: zo.zo_sgd(1.0, **options),
    "zoar": lambda **options: zo.zoar(0.05, **options),
    "mezo": lambda **options: zo.mezo(1.0, **options),
    "adam-ranks": lambda **options: optax.chain(
        zo.zo_gradient(**(options | {"shaping": zo.shaping.ranks()})), optax.adam(0.02)
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "zo_sgd",
        pytest.param("zoar", marks=pytest.mark.slow),
        pytest.param("mezo", marks=pytest.mark.slow),
        pytest.param("adam-ranks", marks=pytest.mark.slow),
    ],
)
def test_runs_with_values_that_are_wrong(name):
    """A round of outliers, 1% of them, outages, crashes: d = 200, K = 8, 300 steps."""
    optimizer = OPTIMIZERS[name](
        num_directions=8, radius=1e-2, key=jax.random.key(1), shaping=WINSORISED
    )

    @jax.jit
    def of(one_round, share, outages, crashes):
        def spoilt(x, t):
            bits = jax.lax.bitcast_convert_type(x, jnp.uint32) * jnp.arange(D, dtype=jnp.uint32)
            u = jax.random.uniform(jax.random.fold_in(jax.random.key(t), jnp.sum(bits)), (4,))
            outlier = jnp.where(u[0] < 0.5, -1, 1) * 10 ** (3 + 27 * u[1])
            value = jnp.where((u[2] < share) | (one_round & (t == 100)), outlier, bowl(x))
            value = jnp.where(outages & (t % 50 < 5), 0, value)
            return jnp.where(u[3] < crashes, jnp.nan, value)

        def body(carry, t):
            x, state = carry
            value_fn = lambda x: spoilt(x, t)  # noqa: E731
            updates, state = optimizer.update(None, state, x, value_fn=value_fn)
            x = optax.apply_updates(x, updates)
            return (x, state), bowl(x)

        x = jnp.zeros(D)
        return jax.lax.scan(body, (x, optimizer.init(x)), jnp.arange(300))[1]

    def run(one_round=False, share=0.0, outages=False, crashes=0.0):
        return of(one_round, share, outages, crashes)  # all as arguments: one program

    clean = run()
    assert clean[-1] < 0.6 * bowl(jnp.zeros(D))
    burst = run(one_round=True)
    assert burst[149] < burst[99] and burst[-1] < 1.5 * clean[-1]
    assert run(share=0.01)[-1] < 3 * clean[-1]
    assert run(outages=True)[-1] < 3 * clean[-1]
    # At equal numbers of valid directions: a pair is lost with either of its values.
    left = 0.7**2 if name == "mezo" else 0.7
    assert run(crashes=0.3)[-1] < 2 * clean[int(300 * left)]
