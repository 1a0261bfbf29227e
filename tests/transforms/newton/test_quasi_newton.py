"""`quasi_newton`: its model against dense algebra, where it arrives, and its way with noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import walks

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.transforms._rounds import Rounds
from zovh_jax.transforms.newton.epochs import EpochRules
from zovh_jax.transforms.newton.secants import Secants, learned

pytestmark = pytest.mark.usefixtures("fast_compilation")

D, M = 12, 3
LAYOUT = layout_of({"a": jnp.zeros(4), "b": jnp.zeros((2, 4))})


def leaves_of(x):
    return [jnp.asarray(x[..., :4]), jnp.asarray(x[..., 4:]).reshape(*x.shape[:-1], 2, 4)]


def ravel(leaves):
    return np.concatenate([np.asarray(x).reshape(-1) for x in leaves])


def bfgs(pairs, scale):
    """The Hessian's model, by the textbook's update of the matrix itself."""
    model = scale * np.eye(D)
    for s, y in pairs:
        image = model @ s
        model += np.outer(y, y) / (y @ s) - np.outer(image, image) / (s @ image)
    return model


def test_the_model_is_that_of_the_last_pairs(x64):
    """Before there are m pairs, with m, and with more; any power of P."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.standard_normal((D, D)))[0]
    hessian = basis * np.geomspace(1, 1e4, D) @ basis.T
    x, secants, pairs = rng.standard_normal(D), Secants.init(M, LAYOUT), []
    learn, times = jax.jit(learned), jax.jit(Secants.times)
    for num_pairs in range(1, M + 3):
        step = rng.standard_normal(D)
        pairs.append((step, hessian @ step))
        secants = learn(secants, leaves_of(step), leaves_of(pairs[-1][1]))
        scale = pairs[-1][1] @ pairs[-1][1] / (step @ pairs[-1][1])
        values, vectors = np.linalg.eigh(bfgs(pairs[-M:], scale) / scale)
        np.testing.assert_allclose(secants.scale, scale)
        assert int(secants.num_pairs) == min(num_pairs, M)
        for power in (1.0, -1.0, -0.5):
            want = vectors * values**power @ vectors.T @ x
            np.testing.assert_allclose(ravel(times(secants, power, leaves_of(x))), want, rtol=1e-6)
    # Curvature that is not positive is no pair, and steps grow; what is not finite changes nothing.
    for change, factor in ((-step, 0.5), (np.nan * step, 1.0)):
        after = learn(secants, leaves_of(step), leaves_of(change))
        np.testing.assert_allclose(after.scale, factor * secants.scale)
        np.testing.assert_array_equal(after.stretches, secants.stretches)
    np.testing.assert_array_equal(times(secants.forgotten(), -1.0, leaves_of(x))[0], x[:4])


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def walled(x):
    """Rosenbrock's function, and nothing beyond a wall that the valley leads along."""
    return jnp.where(jnp.all(x < 1.01), rosenbrock(x), jnp.nan)


def hidden(x, t):
    """Noise that begins after so many steps, when whole gradients are gathered."""
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(9), t))
    return rosenbrock(x) + jnp.where(t >= 60, noise, 0)


def passing(x, t):
    """Noise for a while only."""
    return jnp.where(t < 90, hidden(x, t), rosenbrock(x))


def noisy(x, t):
    """The same from the first step on."""
    return rosenbrock(x) + jax.random.normal(jax.random.fold_in(jax.random.key(9), t))


def test_a_bent_valley_and_noise(x64):
    """Steps that leave f's domain are shortened; noise is found when it comes, and forgotten."""
    size, num_steps = 16, 300
    objectives = [lambda x, t: walled(x), hidden, passing]
    walk = walks.program(
        lambda: zo.quasi_newton(16, 0.1, key=jax.random.key(0)), objectives, num_steps
    )
    xs, states = walk(0, jnp.zeros(size))
    assert float(walled(walks.last(xs))) < 1e-9
    assert int(states.counts.num_queries[-1]) == 17 * num_steps
    assert int(states.secants.num_pairs[-1]) == 10 and not states.start.trust.noise.found.any()
    best = np.asarray(jax.vmap(rosenbrock)(xs))
    assert np.all(np.isfinite(best)) and int(states.counts.num_nonfinite[-1]) > 0

    _, states = walk(1, jnp.zeros(size))
    found = np.asarray(states.start.trust.noise.found)
    assert not found[:60].any() and found[60:80].any()
    assert int(states.secants.num_pairs[59]) > 0

    xs, states = walk(2, jnp.zeros(size))
    found = np.asarray(states.start.trust.noise.found)
    assert found[60:90].any() and np.sum(found[1:] != found[:-1]) == 2
    assert int(states.secants.num_pairs[-1]) > 0 and float(rosenbrock(walks.last(xs))) < 1e-3
    # Steps on exact values again may lead astray: no epoch begins before they are taken back.
    begins = np.flatnonzero(np.diff(np.asarray(states.epoch.place) > 0, prepend=False))
    assert begins.size and np.all(np.asarray(states.start.trust.squared_length)[begins - 1] == 0)


def test_a_careful_epoch_gathers_the_gradient(x64):
    """After a step with a hundredth of the promised fall an epoch looks to both sides alike."""
    key, rng = jax.random.key(0), np.random.default_rng(0)
    x, slopes = rng.standard_normal((2, D))
    params = dict(zip("ab", leaves_of(x), strict=True))

    def f(tree):
        return sum(jnp.sum(a * b) for a, b in zip(tree.values(), leaves_of(slopes), strict=True))

    rounds = Rounds(
        num_directions=8, radius=0.1, key=key, directions=zo.directions.hadamard(),
        baseline=zo.baselines.origin(), evaluate=zo.evaluators.vmapped(),
    )  # fmt: skip
    layout = layout_of(params)
    rules = EpochRules(layout, rounds)
    numbers = {"origin": f(params) + 0.01, "slope": -1.0, "radius": 0.1, "limit": 10.0}
    epoch = rules.init()._replace(
        pending=jnp.array(True), **{name: jnp.asarray(value) for name, value in numbers.items()}
    )
    secants = Secants.init(M, layout)._replace(scale=jnp.array(1.0))
    walked = zo.diagonal_newton(8, 0.1, key=key).init(params), secants, epoch
    step = jax.jit(lambda walked: rules.round(walked, params, f, None, True))
    for _ in range(2 * rules.length):
        assert int(walked[2].num_epochs) == 0
        updates, walked = step(walked)
    assert int(walked[2].num_epochs) == 1
    np.testing.assert_allclose(ravel(jax.tree.leaves(walked[2].gradient)), slopes)
    np.testing.assert_allclose(ravel(jax.tree.leaves(updates)), -slopes)


@pytest.mark.slow
def test_in_single_precision():
    """Steps that are taken back change f(θ) by rounding: that is no noise."""
    xs, states = walks.run(
        zo.quasi_newton(16, 0.1, key=jax.random.key(0)), rosenbrock, jnp.zeros(16), 400
    )
    values = np.asarray(jax.vmap(rosenbrock)(xs))
    assert not states.start.trust.noise.found.any()
    assert values[-1] < 1e-4 and np.all(values[300:] < 1e-3)


@pytest.mark.slow
def test_where_values_are_noisy_it_is_diagonal_newton(x64):
    """From the first step on, for as long as noise is believed in."""
    size, num_steps = 16, 120
    make = lambda factory: lambda: factory(16, 0.1, key=jax.random.key(0))  # noqa: E731
    walk = walks.program(make(zo.quasi_newton), [noisy, noisy], num_steps)
    plain = walks.program(make(zo.diagonal_newton), [noisy, noisy], num_steps)
    xs, states = walk(0, jnp.zeros(size))
    same, others = plain(0, jnp.zeros(size))
    assert np.asarray(states.start.trust.noise.found)[10:].all()
    np.testing.assert_allclose(xs, same, rtol=1e-6)
    np.testing.assert_array_equal(states.counts.num_queries, others.counts.num_queries)


@pytest.mark.parametrize("bad", [{"num_pairs": 0}, {"num_directions": 6}, {"radius": -1.0}])
def test_what_it_refuses(bad):
    options = {"num_directions": 4, "radius": 0.1, "key": jax.random.key(0)} | bad
    with pytest.raises(ValueError, match=next(iter(bad))):
        zo.quasi_newton(**options)


@pytest.mark.slow
@pytest.mark.parametrize("rotated", [False, True])
def test_a_badly_scaled_quadratic(x64, rotated):
    """Condition 1e6: the sweeps see it at once along the axes, as many pairs as axes otherwise."""
    size = 20
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((size, size)))[0]
    basis = jnp.asarray(basis if rotated else np.eye(size))
    scales = jnp.geomspace(1, 1e6, size)
    optimizer = zo.quasi_newton(16, 1.0, num_pairs=2 * size, key=jax.random.key(1))
    num_steps = 700 if rotated else 60
    xs, _ = walks.run(
        optimizer, lambda x: jnp.sum(scales * (basis @ (x - 1)) ** 2), jnp.zeros(size), num_steps
    )
    last = np.asarray(walks.last(xs))
    assert float(jnp.sum(scales * (basis @ (last - 1)) ** 2)) < 1e-8


@pytest.mark.slow
def test_epochs_of_many_runs_with_frozen_leaves(x64):
    """Batched by `jax.vmap`, past the start: every run arrives, and what is frozen stays."""
    optimizer = zo.quasi_newton(
        4, 0.1, key=jax.random.key(0), num_pairs=2, mask={"x": True, "y": False}
    )
    starts = {"x": jnp.asarray([[0.5, 1, 0, 0], [0, 0, 2.0, 1]]), "y": jnp.ones((2, 3))}

    def f(params):
        return rosenbrock(params["x"]) + jnp.sum(params["y"])

    xs, states = jax.vmap(lambda start: walks.run(optimizer, f, start, 150))(starts)
    assert np.all(states.epoch.num_epochs[:, -1] > 10) and np.all(xs["y"] == 1)
    assert np.all(jax.vmap(rosenbrock)(xs["x"][:, -1]) < 1e-3)
