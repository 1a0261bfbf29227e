"""Noise: its law, and that queries of a round get their own. Drift: where the minimum goes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

KEY = jax.random.key(5)
BOWL = zo.problems.quadratic()
pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.mark.parametrize("kind", ["additive", "multiplicative"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_law_of_the_noise(kind, dtype):
    """Standard normal over points that differ in one bit or by a permutation, and over keys."""
    f = zo.problems.noisy(BOWL, kind, 0.3)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((4000, 8)), dtype)
    swapped = x.at[:, 0].set(x[:, 1]).at[:, 1].set(x[:, 0])
    negated = x.at[:, 3].multiply(-1)
    clean = jax.vmap(BOWL)(x)

    @jax.jit
    def noise(x, key):
        value = jax.vmap(f, (0, None))(x, key)
        return (value - clean if kind == "additive" else value / clean - 1) / 0.3

    samples = np.stack([noise(x, KEY), noise(swapped, KEY), noise(negated, KEY)])
    samples = np.vstack([samples, noise(x, jax.random.fold_in(KEY, 1))])
    assert np.abs(samples.mean(1)).max() < 5 / np.sqrt(4000)
    np.testing.assert_allclose(samples.std(1), 1, atol=5 / np.sqrt(8000))
    correlations = np.corrcoef(samples) - np.eye(4)
    assert np.abs(correlations).max() < 5 / np.sqrt(4000)
    np.testing.assert_array_equal(noise(x, KEY), samples[0].astype(np.float32))


@pytest.mark.usefixtures("x64")
def test_noise_in_double_precision_sees_the_low_bits():
    f = zo.problems.noisy(BOWL, "additive", 1.0)
    x = jnp.ones(3)
    assert f(x, KEY) != f(x + 1e-15, KEY) and f(x, KEY).dtype == jnp.float64


def test_a_round_of_queries_gets_independent_noise():
    f = functools.partial(zo.problems.noisy(lambda x: 0 * jnp.sum(x), "additive", 1.0), key=KEY)
    queries = zo.query(f, jnp.ones(6), KEY, num_directions=2000, radius=1e-3)
    assert len(np.unique(queries.values)) > 1990
    assert abs(np.std(queries.values) - 1) < 5 / np.sqrt(4000)


def test_steps():
    f = zo.problems.noisy(BOWL, "discontinuous", 0.25)
    x = jnp.array([1.0, 0.7])
    assert f(x, KEY) == 0.75 and f(x + 1e-3, KEY) == 0.75


@pytest.mark.parametrize("kind", ["additive", "multiplicative", "discontinuous"])
def test_no_noise_and_levels_that_are_arrays(kind):
    x = jnp.arange(3.0)
    assert zo.problems.noisy(BOWL, kind, 0)(x, KEY) == BOWL(x)
    sweep = jax.vmap(lambda level: zo.problems.noisy(BOWL, kind, level)(x, KEY))
    values = sweep(jnp.array([0.0, 0.4]))
    np.testing.assert_allclose(
        values, [BOWL(x), zo.problems.noisy(BOWL, kind, 0.4)(x, KEY)], rtol=1e-6
    )


@pytest.mark.parametrize("path", ["line", "circle"])
def test_the_minimum_moves_at_the_given_speed(path):
    f = zo.problems.drifting(zo.problems.levy(), 0.2, key=KEY, path=path, radius=2.0)
    assert hash(f) == hash(f)
    where = np.stack([f.minimizer(30, t) for t in range(80)])
    np.testing.assert_allclose(where[0], 1, atol=1e-6)
    steps = np.linalg.norm(np.diff(where, axis=0), axis=1)
    np.testing.assert_allclose(steps, 0.2 if path == "line" else 4 * np.sin(0.05), rtol=1e-4)
    furthest = np.linalg.norm(where - where[0], axis=1).max()
    assert furthest == pytest.approx(79 * 0.2 if path == "line" else 4, rel=1e-3)
    for t in (0, 7.5):
        assert f(f.minimizer(30, t), t) == pytest.approx(f.minimum(30), abs=1e-5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("path", ["line", "circle"])
def test_a_drifting_problem_is_the_problem_seen_from_elsewhere(path):
    still = zo.problems.rosenbrock()
    f = zo.problems.drifting(still, 0.3, key=KEY, path=path)
    x, time = jnp.linspace(-1, 1, 5), 3.0
    seen = x - f.offset(5, time)
    np.testing.assert_allclose(jax.jit(f)(x, time), still(seen), rtol=1e-12)
    np.testing.assert_allclose(f.gradient(x, time), jax.grad(f)(x, time), rtol=1e-10)
    np.testing.assert_allclose(f.hessian(x, time).as_matrix(), jax.hessian(f)(x, time), rtol=1e-10)
    np.testing.assert_allclose(f(x, 0), still(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zo.problems.noisy(BOWL, "pink", 1.0), "kind must be one of"),
        (lambda: zo.problems.noisy(BOWL, "additive", -1.0), "level must be"),
        (lambda: zo.problems.drifting(BOWL, 1.0, key=KEY, path="knot"), "path must be one of"),
        (lambda: zo.problems.drifting(BOWL, 1.0, key=KEY, radius=0), "radius must be"),
        (
            lambda: zo.problems.drifting(BOWL, 1.0, key=KEY, path="circle").minimizer(1, 0),
            "at least 2",
        ),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_problems_drift():
    with pytest.raises(TypeError, match="problem must be"):
        zo.problems.drifting(lambda x: 0.0, 1.0, key=KEY)
