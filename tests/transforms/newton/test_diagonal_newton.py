"""diagonal_newton: halves, what a sweep learns and what not, steps taken back, no learning rate."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import walks

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions.hadamard import order_of
from zovh_jax.transforms.newton.halves import Halves
from zovh_jax.transforms.newton.sweep import RANGE, DiagonalSweeps

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")
D, K = 30, 8
LAMBDA = np.geomspace(1, 1e3, D)
START = np.random.default_rng(0).normal(size=D)


def diagonal(x):
    return 0.5 * jnp.sum(LAMBDA * jnp.square(x))


def run(f, num_steps, x=START, factory=zo.diagonal_newton, **options):
    """(values before each step, the last x, the last state)."""
    xs, states = walks.run(factory(K, 0.1, key=jax.random.key(0), **options), f, x, num_steps)
    values = [f(x), *jax.vmap(f)(xs)[:-1]]
    return np.asarray(values), walks.last(xs), walks.last(states)


OBJECTIVES = {
    "diagonal": lambda x, t: diagonal(x),
    "flat": lambda x, t: 0.0 * x[0] + 1.0,
    "linear": lambda x, t: jnp.sum(LAMBDA * x),
    "concave": lambda x, t: -diagonal(x),
    "nan": lambda x, t: jnp.where(x[0] > -np.inf, jnp.nan, x[0]),
    "walled": lambda x, t: jnp.where(jnp.sum((x - START) ** 2) > 2.0, jnp.inf, diagonal(x)),
    "holed": lambda x, t: jnp.where(jnp.sin(1e4 * jnp.sum(x)) > 0.98, jnp.nan, diagonal(x)),
}
of_all = walks.program(lambda key: zo.diagonal_newton(K, 0.1, key=key), [*OBJECTIVES.values()], 160)


@functools.cache
def walk(name, seed=0):
    """160 steps on one of the objectives: START and the points after each, and the states."""
    xs, states = of_all(list(OBJECTIVES).index(name), START, jax.random.key(seed))
    return np.concatenate([START[None], xs]), states


def values_on_the_diagonal():
    xs, _ = walk("diagonal")
    return 0.5 * np.sum(LAMBDA * xs**2, 1)


def rounds_until_first_h():
    order = order_of(layout_of(START).size)
    return -(-2 * order // K) + -(-4 * order // K)


def test_halves_tell_the_diagonal():
    layout, directions = layout_of(START), Halves()
    order = order_of(layout.size)
    base, rows = jax.random.key(3), []
    for i in range(-(-4 * order // K)):
        key = directions.round_key(base, i, layout, K)
        rows.append(zo.Plan(key, directions, num_directions=K, block_size=K).draw(START))
    z = np.concatenate(rows).reshape(-1, 2, 2, D)[:order]
    np.testing.assert_array_equal(z[:, :, 0], -z[:, :, 1])
    half, other = z[:, 0, 0], z[:, 1, 0]
    np.testing.assert_allclose(half**2 + other**2, 2)
    w = half**2 - 1
    np.testing.assert_allclose(w.T @ w, order * np.eye(D), atol=1e-9)
    assert len({tuple(np.sign(row)) for row in half + other}) == order  # signs of their own


def test_a_sweep_finds_a_diagonal_hessian_exactly():
    _, states = walk("diagonal")
    last = rounds_until_first_h() - 1
    curvature = np.asarray(states.curvature)[last]
    np.testing.assert_allclose(curvature / LAMBDA, np.mean(curvature / LAMBDA), rtol=1e-6)
    assert float(curvature.mean()) == pytest.approx(1)
    assert np.all(np.asarray(states.sweep.gathered)[last] == 0)


def test_the_round_that_ends_a_sweep_takes_no_step_and_then_all_is_isotropic():
    end = rounds_until_first_h()
    values = values_on_the_diagonal()
    assert values[end] == values[end - 1]
    assert values[end + 59] < 1e-9 * values[0]


def test_nothing_is_learnt_from_a_dense_hessian_with_a_constant_diagonal():
    """A rotation by ±1: all of the curvature is off the diagonal, and the sums see it as noise."""
    size = 32
    matrix = np.array([[(-1) ** bin(i & j).count("1") for j in range(size)] for i in range(size)])
    hessian = matrix @ np.diag(np.geomspace(1, 1e3, size)) @ matrix.T / size
    x = np.random.default_rng(1).normal(size=size)
    steps = 3 * -(-6 * size // K)
    _, _, state = run(lambda x: 0.5 * x @ hessian @ x, steps, x)
    assert int(state.sweep.num_rounds) >= 4 * size // K
    assert np.all(np.abs(np.log(state.curvature)) < 1)


@pytest.mark.slow
def test_far_fewer_queries_than_the_scalar():
    values = values_on_the_diagonal()
    scalar, *_ = run(diagonal, 180, factory=zo.scalar_newton)
    assert values[90] < 1e-6 * values[0]
    assert scalar[-1] > 1e-4 * scalar[0]


def test_a_step_is_taken_back_along_the_scaled_directions_it_was_made_of():
    """Outside a small ball f is infinite: each step that leaves it is undone to the last digit."""
    xs, states = walk("walled")
    outside = np.flatnonzero(np.sum((xs[:60] - START) ** 2, 1) > 2.0)
    for t in outside:
        np.testing.assert_allclose(xs[t + 1], xs[t - 1], rtol=1e-9, atol=1e-12)
    assert len(outside) > 2 and int(states.sweep.num_rounds[59]) > 4
    assert int(states.trust.num_undone[59]) >= len(outside)


@pytest.mark.parametrize("name", ["flat", "linear", "concave", "nan"])
def test_sane_where_there_is_no_minimum(name):
    xs, states = walk(name)
    curvature = np.asarray(states.curvature)[79]
    assert np.all(np.isfinite(xs[:81])) and np.all(curvature > 0)
    assert curvature.min() >= RANGE * curvature.mean()
    if name != "nan":
        first, last = (OBJECTIVES[name](x, 0) for x in (START, xs[79]))
        assert last <= first


def test_queries_dropped_in_a_sweep_leave_the_rest_of_it():
    """A couple with a hole says nothing; ρ is then what the others say, and stays finite.

    Eight seeds: a hole takes 6 % of the queries, and a quarter of the couples with them.
    """

    ends = [walk("holed", seed) for seed in range(8)]
    assert all(states.counts.num_nonfinite[-1] > 10 for _, states in ends)
    left = np.array([diagonal(xs[-1]) for xs, _ in ends]) / diagonal(START)
    assert np.all(left < 5e-2) and np.median(left) < 2e-3
    curvatures = [np.log(states.curvature[-1]) for _, states in ends]
    assert np.median([np.corrcoef(h, np.log(LAMBDA))[0, 1] for h in curvatures]) > 0.65


def test_frozen_leaves_keep_their_curvature():
    params = {"a": jnp.asarray(START[:20]), "b": jnp.asarray(START[20:])}
    directions = zo.directions.masked(zo.directions.hadamard(), {"a": True, "b": False})

    def f(p):
        return jnp.sum(LAMBDA[:20] * jnp.square(p["a"])) + jnp.sum(p["b"])

    _, after, state = run(f, 60, params, directions=directions)
    np.testing.assert_array_equal(after["b"], params["b"])
    assert state.curvature["b"] is None
    ratios = np.asarray(state.curvature["a"]) / LAMBDA[:20]
    np.testing.assert_allclose(ratios, ratios.mean(), rtol=1e-3)


def test_rests_are_longer_where_sweeps_say_nothing_new():
    sweeps = DiagonalSweeps(layout_of(START), K)
    empty, h, rests = sweeps.init(), jnp.ones(D), []
    for _ in range(4):
        whole = empty._replace(num_couples=jnp.asarray(float(sweeps.order)))
        empty, h = sweeps.finish(whole, h)
        rests.append(int(empty.rest) // sweeps.length)
    assert rests == [4, 16, 16, 16]


def test_half_a_sweep_teaches_nothing():
    """Where as many couples were dropped, h stays, and the next sweep is far off."""
    sweeps, h = DiagonalSweeps(layout_of(START), K), jnp.ones(D)
    seen = sweeps.init()._replace(total=jnp.asarray(1e3), signal=jnp.asarray(1e6))
    seen = seen._replace(gathered=jnp.linspace(-1e3, 1e3, D))
    for num_couples, learns in [(sweeps.order / 2, False), (sweeps.order / 2 + 1, True)]:
        after, following = sweeps.finish(seen._replace(num_couples=jnp.asarray(num_couples)), h)
        assert (int(after.rest) // sweeps.length, np.ptp(following) > 0.1) == (
            (1, True) if learns else (16, False)
        )


def test_refusals():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="multiple of 4"):
        zo.diagonal_newton(6, 0.1, key=key)
    for directions in (
        zo.directions.explicit(jnp.ones((4, 2))),
        zo.directions.scaled(zo.directions.hadamard(), jnp.ones(2)),
    ):
        with pytest.raises(ValueError, match="cannot be used"):
            zo.diagonal_newton(4, 0.1, key=key, directions=directions)
    with pytest.raises(ValueError, match="memory"):
        zo.diagonal_newton(4, 0.1, key=key, memory=0.0)
