"""ZO-SAH: queries, what it reaches, missing values, and settings that are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import compiled_run
from planes import KEY, costs, dense, run

import zovh_jax as zo
from zovh_jax.problems.noise import hash_of

pytestmark = pytest.mark.usefixtures("fast_compilation")


@pytest.mark.parametrize(
    ("q", "ordinary", "switching"),
    [
        pytest.param(1, 4, 7, marks=pytest.mark.slow),
        (2, 7, 16),
        pytest.param(3, 10, 28, marks=pytest.mark.slow),
    ],
)
def test_queries(q, ordinary, switching):
    """1 + J·q, and J·q(q+1)/2 more after a switch: with the centre, all that a quadratic has."""
    newton = zo.zo_sah_direction(3, 0.1, key=KEY, switch_every=3, subspace_dimension=q)
    steps = run(newton, lambda x: jnp.sum(x**2), jnp.ones(9), 4)
    assert costs(steps) == [switching, ordinary, ordinary, switching]


def test_newton_steps_solve_separable_pairs(x64):
    """Where the pairs do not interact, steps of rate 1 are at the minimum; with −μe or without."""
    h = jnp.array([[2.0, 1.0], [1.0, 50.0]])
    newton = zo.zo_sah_direction(1, 0.1, key=KEY)
    x = jnp.array([3.0, -2.0])
    step = jax.jit(lambda x, s: newton.update(None, s, x, value_fn=lambda x: x @ h @ x / 2))
    state = newton.init(x)
    for _ in range(3):
        direction, state = step(x, state)
        np.testing.assert_allclose(direction, x, rtol=1e-4)
        x = x - 0.25 * direction


def rosenbrock(x):
    return 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2


@pytest.mark.parametrize(
    "double", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["float32", "float64"]
)
def test_reaches_the_minimum_of_rosenbrocks_function(double):
    """At radii at which it stopped before; bounds at twice what was measured.

    The minimum of central differences is where f is 4e-4 for μ = 0.01: it goes with μ⁴. Medians
    over starts: where f bends more than the fitted quadratic, a step may be far too long, and such
    a run needs longer.
    """
    with jax.enable_x64(double):

        def final(radius, rate, x):
            optimizer = zo.zo_sah(rate, num_subspaces=1, radius=radius, key=KEY)
            return rosenbrock(compiled_run(optimizer, rosenbrock, x, 400)[0][-1])

        rates = jnp.array([0.25, 0.5])
        radii = jnp.array([1e-2, 3e-3, 1e-3])
        starts = jnp.array([-1.2, 1.0]) + 0.05 * jax.random.normal(KEY, (9, 2))
        of_starts = jax.vmap(final, (None, None, 0))
        values = jax.jit(jax.vmap(jax.vmap(of_starts, (None, 0, None)), (0, None, None)))(
            radii, rates, starts
        )
        values = np.median(values, -1)
    assert (values.max(1) < [1e-3, 1e-5, 4e-7]).all(), values


@pytest.mark.parametrize(
    ("towards", "low", "high"),
    [("previous", 0, 0.1), pytest.param("zero", 10, np.inf, marks=pytest.mark.slow)],
)
def test_hessians_of_ten_planes_between_switches(towards, low, high, x64):
    """Relative errors at all of 60 steps on dense quadratics; far off if moves mean curvature."""
    rngs = [np.random.default_rng(seed) for seed in range(3)]
    problems = [(dense(rng, 20)[0], *rng.normal(size=(2, 20))) for rng in rngs]
    newton = zo.zo_sah_direction(10, 1e-2, key=KEY, ridge_towards=towards)

    def errors(h, slope, x):
        def body(carry, _):
            x, state = carry
            f = lambda x: slope @ x + x @ h @ x / 2  # noqa: E731
            direction, state = newton.update(None, state, x, value_fn=f)
            c = state.coordinates
            exact = h[c[:, :, None], c[:, None, :]]
            error = jnp.linalg.norm(state.hessians - exact, axis=(1, 2))
            return (x - 0.5 * direction, state), error / jnp.linalg.norm(exact, axis=(1, 2))

        return jnp.max(jax.lax.scan(body, (x, newton.init(x)), length=60)[1])

    worst = jax.jit(jax.vmap(errors))(
        *(jnp.asarray(np.stack(p)) for p in zip(*problems, strict=True))
    )
    assert ((worst >= low) & (worst < high)).all(), worst


def test_steps_that_add_up_do_not_diverge(x64):
    """All subspaces see one sum: ten Newton steps at once are ten times too long."""
    optimizer = zo.zo_sah(0.7, num_subspaces=10, radius=1e-3, key=KEY, clip=1e-3)
    f = lambda x: jnp.sum(x) ** 2 + 0.01 * jnp.sum(x**2)  # noqa: E731
    x = jnp.linspace(0, 1, 20)
    values = jax.vmap(f)(compiled_run(optimizer, f, x, 100)[0])
    assert jnp.max(values[19:]) < 0.1 < f(x)


def queried(newton, f, params, num_steps):
    """The points that each step evaluates, relative to params, which stay."""
    seen, out = [], []

    def spied(x):
        jax.debug.callback(lambda y: seen.append(np.ravel(y)), x)
        return f(x)

    state = newton.init(params)
    step = jax.jit(lambda s: newton.update(None, s, params, value_fn=spied)[1])
    for _ in range(num_steps):
        state = step(state)
        jax.effects_barrier()
        out.append(np.abs(np.concatenate(seen).reshape(-1, params.size) - params).max())
        seen.clear()
    return np.array(out)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param({"radius": 1e-1}, [1e-1, 1e-1], marks=pytest.mark.slow),
        ({"radius": 2e-3}, [0.00929, 2e-3]),
        pytest.param({"radius": 2e-4}, [2e-3, 2e-4], marks=pytest.mark.slow),
        pytest.param({"radius": 0.1, "curvature_radius": 0.3}, [0.3, 0.1], marks=pytest.mark.slow),
        ({"radius": lambda t: 0.1 + t, "curvature_radius": lambda t: 0.5 + t}, [0.5, 1.1]),
    ],
)
def test_curvature_radius(options, expected):
    newton = zo.zo_sah_direction(1, key=KEY, evaluate=zo.evaluators.chunked(1), **options)
    radii = queried(newton, lambda x: jnp.sum(x**2), jnp.zeros(2), 2)
    np.testing.assert_allclose(radii, expected, rtol=1e-3)


def test_empty_leaves_and_scalars_in_the_tree():
    tree = {"a": jnp.ones(3), "b": jnp.zeros((0, 2)), "c": jnp.asarray(2.0), "d": jnp.zeros(0)}
    newton = zo.zo_sah_direction(2, 0.1, key=KEY)

    def f(x):
        return jnp.sum(jnp.array([1.0, 2.0, 3.0]) * x["a"] ** 2) + x["c"] ** 2 + jnp.sum(x["b"])

    direction, _ = jax.jit(lambda s: newton.update(None, s, tree, value_fn=f))(newton.init(tree))
    jax.tree.map(lambda u, x: np.testing.assert_allclose(u, x, atol=1e-3), direction, tree)


def test_a_subspace_of_unknown_curvature_rests():
    """No −μe at a switch: no step there and none later; new subspaces at once where most rest."""
    newton = zo.zo_sah_direction(3, 0.1, key=KEY, switch_every=100)
    scales, x = jnp.arange(1.0, 7.0), jnp.ones(6)

    @jax.jit
    def step(state, limits):
        f = lambda x: jnp.where(jnp.any(x < limits), jnp.nan, scales @ x**2)  # noqa: E731
        return newton.update(None, state, x, value_fn=f)

    one, nobody, everybody = jnp.eye(6)[1] * 0.95, jnp.zeros(6), jnp.full(6, 0.95)
    state, charged = newton.init(x), []
    for limits in (everybody, everybody, one, nobody):
        direction, state = step(state, limits)
        charged.append(int(zo.num_queries(state)))
        resting = next(group for group in np.asarray(state.coordinates) if 1 in group)
        if limits is everybody:
            assert not direction.any() and not state.known.any()
        else:
            np.testing.assert_allclose(direction, ~np.isin(np.arange(6), resting), rtol=1e-3)
    assert np.diff([0, *charged]).tolist() == [16, 16, 16, 7]


@pytest.mark.parametrize(
    ("num_subspaces", "share"), [pytest.param(1, 0.8, marks=pytest.mark.slow), (4, 0.2)]
)
def test_missing_values_throw_no_run_away(num_subspaces, share):
    """Three in ten values missing: the largest value of thirty runs is not far above the first."""
    scales = jnp.geomspace(1, 10, 10)

    def f(x):
        return 0.5 * jnp.sum(scales * (x - 1) ** 2)

    def run(seed):
        keys = jax.random.split(jax.random.key(seed))
        options = {"radius": 0.01, "curvature_radius": 0.1, "switch_every": 5, "key": keys[0]}
        optimizer = zo.zo_sah(1.0, num_subspaces=num_subspaces, **options)
        x = jax.random.normal(keys[1], (10,))

        def step(carry, t):
            x, state = carry
            key = jax.random.fold_in(keys[1], t)

            def value_fn(y):
                missing = jax.random.uniform(jax.random.fold_in(key, hash_of(y))) < 0.3
                return jnp.where(missing, jnp.nan, f(y))

            updates, state = optimizer.update(None, state, x, value_fn=value_fn)
            x = optax.apply_updates(x, updates)
            return (x, state), f(x)

        _, values = jax.lax.scan(step, (x, optimizer.init(x)), jnp.arange(60))
        return jnp.max(values) / f(x), values[-1] / f(x)

    most, last = jax.lax.map(run, jnp.arange(30))
    assert float(jnp.max(most)) < 3
    assert float(jnp.median(last)) < share


def test_a_subspace_with_bad_values_rests():
    """One program: where x[1] is above the limit, f is NaN."""

    def cliff(x, limit):
        return jnp.where(x[1] > limit, jnp.nan, jnp.sum(jnp.arange(1.0, 7.0) * x**2))

    newton, x = zo.zo_sah_direction(3, 0.1, key=KEY), jnp.full(6, 0.5)
    first = newton.init(x)
    step = jax.jit(lambda limit: newton.update(None, first, x, value_fn=cliff, limit=limit))
    (bad, state), (good, _) = step(0.55), step(np.inf)
    bad, good = np.asarray(bad), np.asarray(good)
    resting = next(group for group in np.asarray(state.coordinates) if 1 in group)
    assert not bad[resting].any() and good.all()
    others = np.setdiff1d(np.arange(6), resting)
    np.testing.assert_array_equal(bad[others], good[others])
    assert int(state.counts.num_nonfinite) == 2  # θ + μe, θ + μ(e + e')
    nowhere, state = step(-np.inf)
    assert not nowhere.any() and int(state.counts.num_nonfinite) == 16


def test_beats_zo_sgd_where_curvatures_differ(x64):
    """Condition number 1000 in pairs: at equal queries, against the best of a grid of rates."""
    scales = jnp.logspace(0, 3, 8)
    f = lambda x: jnp.sum(scales * x**2) / 2 + x[0] * x[1] / 2  # noqa: E731

    def after(optimizer, budget=600):
        def body(carry):
            x, state = carry
            updates, state = optimizer.update(None, state, x, value_fn=f)
            return optax.apply_updates(x, updates), state

        def go_on(carry):
            return zo.num_queries(carry[1]) < budget

        carry = jnp.ones(8), optimizer.init(jnp.ones(8))
        return f(jax.lax.while_loop(go_on, body, carry)[0])

    rates = jnp.asarray([3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4, 3e-5])
    options = {"radius": 1e-3, "key": KEY}
    sgd = jax.jit(jax.vmap(lambda rate: after(zo.zo_sgd(rate, num_directions=8, **options))))(rates)
    sah = jax.jit(lambda: after(zo.zo_sah(0.7, num_subspaces=4, **options)))()
    best = int(jnp.nanargmin(sgd))
    assert 0 < best < len(rates) - 1
    assert float(sah) < 0.2 * float(sgd[best])


# Errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_subspaces": 0}, "num_subspaces must be an int of at least 1, got 0"),
        ({"subspace_dimension": 0}, "subspace_dimension must be"),
        ({"switch_every": 0}, "switch_every must be"),
        ({"num_probes": 0}, "num_probes must be"),
        ({"clip": 0.0}, "clip must be a finite number greater than 0"),
        ({"ridge": -1.0}, "ridge must be"),
        ({"radius": 0.0}, "radius must be"),
        ({"curvature_radius": -1.0}, "curvature_radius must be"),
        ({"isotropy_tolerance": 0.0}, "isotropy_tolerance must be"),
        ({"pairing": "best"}, "pairing must be one of .*got 'best'"),
        ({"ridge_towards": "up"}, "ridge_towards must be one of .*got 'up'"),
    ],
)
def test_bad_settings(options, message):
    with pytest.raises(ValueError, match=message):
        zo.zo_sah(**{"learning_rate": 0.1, "num_subspaces": 2, "radius": 0.1, "key": KEY} | options)


def test_bad_calls():
    newton = zo.zo_sah_direction(2, 0.1, key=KEY)
    with pytest.raises(ValueError, match=r"num_subspaces=2 .* need 4 parameters, and params has 3"):
        newton.init(jnp.ones(3))
    state = newton.init(jnp.ones(4))
    with pytest.raises(TypeError, match="zo_sah_direction needs the objective"):
        newton.update(None, state, jnp.ones(4))
    with pytest.raises(TypeError, match="zo_sah_direction needs the parameters"):
        newton.update(None, state, value_fn=jnp.sum)
    with pytest.raises(TypeError, match="scalar float; got shape"):
        newton.update(None, state, jnp.ones(4), value_fn=lambda x: x)
