"""A query that is NaN or ±Inf is dropped and counted, and changes nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

RNG = np.random.default_rng(0)
K, D = 6, 3
U = RNG.normal(size=(K, D)).astype(np.float32)
FORWARD = RNG.normal(size=K).astype(np.float32)
PAIRS = RNG.normal(size=(K, 2)).astype(np.float32)
WEIGHTS = RNG.uniform(0.5, 2.0, size=K).astype(np.float32)
ORIGIN = np.float32(0.3)
X = jnp.zeros(D)
BAD = [np.nan, np.inf, -np.inf]
BASELINES = {
    name: getattr(zo.baselines, name)()
    for name in ("none", "origin", "mean", "leave_one_out", "variance_optimal")
}
every_baseline = pytest.mark.parametrize("baseline", BASELINES.values(), ids=BASELINES)


def tell(values, directions=U, origin=ORIGIN, paired=False):
    return zo.Queries.from_values(
        values,
        directions=zo.directions.explicit(jnp.asarray(directions)),
        radius=0.5,
        stencil=zo.stencils.three_point() if paired else zo.stencils.forward(),
        origin=origin,
    )


def spoilt(values, *places, by=np.nan):
    values = values.copy()
    for place in places:
        values[place] = by
    return values


def estimates(queries, baseline, weights=None):
    """Everything that is estimated from queries, as arrays. (Not jitted: it is quicker so.)"""
    options = {"baseline": baseline, "weights": weights}
    newton = {
        f"corrected={corrected}": zo.estimators.newton_direction(
            queries, X, damping=2.0, solver=solver, bias_correction=corrected, **options
        )
        for solver, corrected in [
            (zo.solvers.gram_diagonal(), True),
            (zo.solvers.woodbury(), False),
        ]
    }
    hessian = zo.estimators.hessian(queries, X, **options)
    return {
        "gradient": zo.estimators.gradient(queries, X, **options),
        "self_normalized": zo.estimators.gradient(queries, X, self_normalized=True, **options),
        "hessian": hessian.as_matrix(),
        "trace": hessian.trace(),
        **newton,
    }


def assert_same(actual, desired):
    def check(path, x, y):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(x, y, rtol=2e-4, atol=2e-5, err_msg=name)

    jax.tree_util.tree_map_with_path(check, actual, desired)


def assert_zero(tree):
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("name", "weights"),
    [*((name, None) for name in BASELINES), ("mean", WEIGHTS), ("variance_optimal", WEIGHTS)],
    ids=lambda x: x if isinstance(x, str) else "weights" if x is WEIGHTS else "",
)
def test_dropped_queries_are_as_if_never_made(name, weights):
    baseline = BASELINES[name]
    bad = [1, 4]
    keep = [k for k in range(K) if k not in bad]
    kept = None if weights is None else weights[keep]
    expected = estimates(tell(FORWARD[keep], U[keep]), baseline, kept)
    assert np.any(expected["gradient"]) and np.any(expected["corrected=True"])
    for by in BAD:
        queries = tell(spoilt(FORWARD, *bad, by=by))
        assert int(queries.num_nonfinite) == 2
        assert_same(estimates(queries, baseline, weights), expected)


@every_baseline
def test_a_pair_is_dropped_whole(baseline):
    """One end that is not finite takes the other with it; both ends count."""
    values = spoilt(PAIRS, (0, 0), (2, 1), (5, 0), (5, 1))
    queries, keep = tell(values, paired=True), [1, 3, 4]
    assert int(queries.num_nonfinite) == 4
    np.testing.assert_array_equal(queries.valid, [k in keep for k in range(K)])
    expected = estimates(tell(PAIRS[keep], U[keep], paired=True), baseline)
    assert_same(estimates(queries, baseline), expected)


def test_opposite_infinities_do_not_cancel():
    """(+Inf) + (−Inf) is NaN, and (+Inf) − (+Inf) too: neither reaches an estimate."""
    values = spoilt(spoilt(PAIRS, (0, 0), by=np.inf), (0, 1), (1, 0), (1, 1), by=-np.inf)
    queries = tell(values, paired=True)
    expected = estimates(tell(PAIRS[2:], U[2:], paired=True), BASELINES["mean"])
    assert_same(estimates(queries, BASELINES["mean"]), expected)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("paired", [False, True])
def test_the_others_stand_in_for_a_bad_origin(paired, bad):
    values = PAIRS if paired else FORWARD
    queries = tell(values, origin=bad, paired=paired)
    assert int(queries.num_nonfinite) == 1
    for name in ("mean", "leave_one_out"):
        good = estimates(tell(values, paired=paired), BASELINES[name])
        assert_same(estimates(queries, BASELINES[name]), good)
    # The mean of the round's other values is what leave_one_out() subtracts.
    assert_same(estimates(queries, BASELINES["origin"]), good)
    difference = zo.estimators.hessian(
        queries, X, baseline=BASELINES["origin"], identity_term=False
    )
    assert_zero(difference.as_matrix())  # needs f(θ) itself, direction by direction


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("name", "needed"), [("mean", 2), ("leave_one_out", 2), ("variance_optimal", 2), ("origin", 1)]
)
def test_too_few_finite_queries_give_zero(name, needed, paired):
    """One below what the baseline needs: zero. At what it needs: an estimate."""
    values = PAIRS if paired else FORWARD
    below = estimates(tell(spoilt(values, *range(needed - 1, K)), paired=paired), BASELINES[name])
    if paired and needed == 2:  # one pair is enough for a gradient, not for a Hessian
        assert np.any(below.pop("gradient")) and np.any(below.pop("self_normalized"))
    assert_zero(below)
    at = estimates(tell(spoilt(values, *range(needed, K)), paired=paired), BASELINES[name])
    assert np.any(at["gradient"]) and np.any(at["hessian"]) and np.any(at["corrected=False"])
    assert_zero(at["corrected=True"])  # the leave-one-out correction needs three
    three = estimates(tell(spoilt(values, *range(3, K)), paired=paired), BASELINES[name])
    assert np.any(three["corrected=True"]) and np.all(np.isfinite(three["corrected=True"]))


def test_a_history_drops_queries_of_every_round():
    """Bad values in two rounds, one origin: the estimates of the queries that are left."""
    history = zo.History.init(
        X, size=3, num_directions=K, directions=zo.directions.explicit(jnp.asarray(U)), origin=True
    )
    second = RNG.normal(size=(K, D)).astype(np.float32)
    history = history.push(tell(spoilt(FORWARD, 0, 3)))
    history = history.push(tell(spoilt(FORWARD[::-1], 2, 3, 4, 5), second, origin=np.float32(-0.2)))
    # Six are left, as many as in a round of the tests above: what those compile serves again.
    directions = np.concatenate([U[[1, 2, 4, 5]], second[:2]])
    values = np.concatenate([FORWARD[[1, 2, 4, 5]], FORWARD[::-1][:2]])
    for name in ("mean", "variance_optimal"):
        expected = estimates(tell(values, directions), BASELINES[name])
        assert_same(estimates(history.queries(), BASELINES[name]), expected)
    # The third slot is empty, then its f(θ) is bad: the mean of its other values stands in.
    history = history.push(tell(FORWARD, origin=np.nan))
    origins = np.where(np.arange(6) < 4, ORIGIN, np.float32(-0.2))
    rises = [values - origins, (FORWARD - np.mean(FORWARD)) * K / (K - 1)]
    c = np.concatenate(rises) / (6 + K) / 0.5
    gradient = zo.estimators.gradient(history.queries(), X, baseline=BASELINES["origin"])
    np.testing.assert_allclose(gradient, c @ np.concatenate([directions, U]), rtol=1e-5)
    told = tell(np.concatenate([values, FORWARD]), np.concatenate([directions, U]))
    mean, expected = zo.estimators.gradient(told, X), zo.estimators.hessian(told, X).as_matrix()
    np.testing.assert_allclose(zo.estimators.gradient(history.queries(), X), mean, rtol=1e-4)
    found = zo.estimators.hessian(history.queries(), X).as_matrix()
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-5)


def wall(x):
    """A bowl whose values exist on one side only."""
    value = jnp.sum(jnp.square(x))
    return jnp.where(x[0] > 1.0, jnp.nan, jnp.where(x[1] > 1.0, jnp.inf, value))


START = np.array([0.8, 0.8, 0.5], np.float32)


def key():
    return jax.random.key(3)


OPTIONS = {"num_directions": 8, "radius": 0.2}
OPTIMIZERS = {
    "sgd": lambda: zo.zo_sgd(0.05, key=key(), **OPTIONS),
    "sgd-central": lambda: zo.zo_sgd(0.05, key=key(), stencil=zo.stencils.central(), **OPTIONS),
    "zoar": lambda: zo.zoar(0.02, key=key(), evaluate=zo.evaluators.chunked(3), **OPTIONS),
    "zovh": lambda: zo.zovh(0.5, damping=10.0, key=key(), **OPTIONS),
    "zovh-reuse": lambda: zo.zovh(0.2, damping=10.0, history_size=3, key=key(), **OPTIONS),
    "zovh-three": lambda: zo.zovh(
        0.5, damping=10.0, key=key(), stencil=zo.stencils.three_point(),
        baseline=zo.baselines.origin(), **OPTIONS,
    ),
    "newton-cg": lambda: optax.chain(
        zo.zo_newton(
            damping=50.0, solver=zo.solvers.cg(), bias_correction=False, key=key(), **OPTIONS
        ),
        optax.scale(-1.0),
    ),
    "precondition": lambda: optax.chain(
        zo.zo_gradient(key=jax.random.key(4), **OPTIONS),
        zo.scale_by_inverse_hessian(damping=10.0, key=key(), **OPTIONS),
        optax.scale(-0.5),
    ),
}  # fmt: skip


def follow(optimizer, f, num_steps):
    """A compiled run from START: offset -> (params of every step, state)."""

    def run(offset):
        def body(carry, _):
            x, state = carry
            updates, state = optimizer.update(
                jnp.ones_like(x), state, x, value_fn=lambda x: f(x) + offset
            )
            x = optax.apply_updates(x, updates)
            return (x, state), x

        (_, state), path = jax.lax.scan(body, (START, optimizer.init(START)), length=num_steps)
        return path, state

    return jax.jit(run)


def counts(state, field):
    return sum(int(n) for _, n in optax.tree.get_all_with_path(state, field))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_survive(name):
    """From where many queries fail they walk away; where all fail they stay."""
    run = follow(OPTIMIZERS[name](), wall, 60)
    path, state = run(0.0)
    assert np.isfinite(path).all()
    assert wall(path[-1]) < 0.2 * wall(START)
    assert 0 < counts(state, "num_nonfinite") < int(zo.num_queries(state))
    for bad in (np.nan, -np.inf):
        path, state = run(bad)
        np.testing.assert_array_equal(path, np.broadcast_to(START, path.shape))
        assert counts(state, "num_nonfinite") == int(zo.num_queries(state)) > 0


def test_the_count_is_of_the_values_that_came_back():
    """num_nonfinite against the objective's own count, over three steps."""
    bad, all_ = [], []

    def f(x):
        value = wall(x)
        jax.debug.callback(lambda v: all_.append(float(v)), value)
        jax.debug.callback(lambda v: bad.append(1) if not np.isfinite(v) else None, value)
        return value

    optimizer = zo.zo_sgd(1e-3, key=key(), stencil=zo.stencils.three_point(), **OPTIONS)
    _, state = follow(optimizer, f, 3)(0.0)
    jax.effects_barrier()
    assert len(all_) == int(zo.num_queries(state)) == 3 * 17
    assert 0 < len(bad) == counts(state, "num_nonfinite")


def test_bad_rounds_leave_the_history():
    """A round of NaN is ignored while it is remembered: the other rounds go on."""
    optimizer = zo.zo_gradient(4, 0.1, key=key(), history_size=2)
    x = jnp.array([1.0, 2.0, 3.0])

    @jax.jit
    def step(state, offset):
        return optimizer.update(None, state, x, value_fn=lambda x: jnp.sum(x**2) + offset)

    state = optimizer.init(x)
    updates, state = step(state, np.nan)
    assert_zero(updates)
    fresh, state = step(state, 0.0)
    _, other = step(optimizer.init(x), 1.0)
    with_past, _ = step(other, 0.0)
    assert np.any(fresh) and not np.allclose(fresh, with_past)
    kept, state = step(state, np.nan)  # only the second round is left
    np.testing.assert_allclose(kept, fresh, rtol=1e-5)
    gone, _ = step(state, np.nan)
    assert_zero(gone)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("factory", "options"),
    [
        (zo.zo_gradient, {}),
        (zo.zo_newton, {"damping": 2.0}),
        (zo.zo_newton, {"damping": 2.0, "bias_correction": False, "solver": zo.solvers.cg()}),
        (zo.scale_by_inverse_hessian, {"damping": 2.0}),
    ],
    ids=["gradient", "newton", "newton-cg", "scale"],
)
def test_transformations_with_a_bad_origin(factory, options, paired):
    """value=NaN with baseline=origin(): the round is not lost, nor is the count."""
    transformation = factory(
        8,
        0.1,
        key=key(),
        baseline=zo.baselines.origin(),
        stencil=zo.stencils.three_point() if paired else zo.stencils.forward(),
        **options,
    )
    x = jnp.array([0.5, -0.5, 0.25])
    step = jax.jit(
        lambda value: transformation.update(
            jnp.ones(3), transformation.init(x), x, value_fn=wall, value=value
        )
    )
    updates, state = step(jnp.nan)
    assert np.any(updates) and np.all(np.isfinite(updates))
    assert int(state.num_nonfinite) == 1


@pytest.mark.parametrize("factory", [zo.zo_newton, zo.scale_by_inverse_hessian])
def test_a_diverged_solver_moves_nothing(factory):
    """H = −20 I leaves H + λI indefinite: the series is NaN, and the update zero."""
    options = {"bias_correction": False} if factory is zo.zo_newton else {}
    x = jnp.array([0.5, -0.5, 0.25])

    def updates(damping):
        transformation = factory(
            64, 0.1, damping=damping, key=key(), solver=zo.solvers.neumann(num_terms=8), **options
        )
        state = transformation.init(x)
        return transformation.update(x, state, x, value_fn=lambda x: -10 * jnp.sum(x**2))[0]

    step = jax.jit(updates)
    assert_zero(step(1.0))
    assert np.any(step(1e3))  # large enough to make H + λI positive definite


def test_incoming_nan_is_passed_on():
    """It is not scale_by_inverse_hessian's to hide: apply_if_finite must be able to see it."""
    transformation = zo.scale_by_inverse_hessian(8, 0.1, damping=2.0, key=key())
    x = jnp.array([0.5, -0.5, 0.25])
    state, incoming = transformation.init(x), jnp.array([1.0, np.nan, 0.0])
    updates, _ = jax.jit(lambda s: transformation.update(incoming, s, x, value_fn=wall))(state)
    assert np.isnan(updates[1])


def test_radius_of_zero_gives_zero_updates():
    """A schedule may end at zero: nothing can be told from such a round, and nothing breaks."""
    x = jnp.ones(3)
    for factory in (zo.zo_sgd, zo.zoar):
        optimizer = factory(
            0.1, num_directions=4, radius=lambda count: 0.1 - 0.1 * count, key=key()
        )
        state = optimizer.init(x)
        step = jax.jit(lambda s, o=optimizer: o.update(None, s, x, value_fn=lambda x: x @ x))
        for _ in range(2):
            updates, state = step(state)
            assert np.all(np.isfinite(updates))
        if factory is zo.zo_sgd:
            assert_zero(updates)


def test_overflow_of_finite_values_gives_a_zero_update():
    optimizer = zo.zo_sgd(
        0.1, num_directions=4, radius=0.1, key=key(), baseline=zo.baselines.mean()
    )
    x = jnp.ones(3)
    updates, _ = optimizer.update(
        None, optimizer.init(x), x, value_fn=lambda x: 2e38 + 0 * jnp.sum(x)
    )
    assert_zero(updates)


@pytest.mark.filterwarnings("ignore:value_fn returns")
def test_overflow_in_half_precision_is_dropped():
    """float16 values above 65504 are Inf; the estimate is that of the others."""
    directions = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])

    def f(x):
        return jnp.where(jnp.sum(x) > 1.5, 1e5, jnp.sum(x)).astype(jnp.float16)

    queries = zo.query(
        f, jnp.zeros(2), None, num_directions=3, radius=1.0,
        directions=zo.directions.explicit(directions),
    )  # fmt: skip
    assert int(queries.num_nonfinite) == 1
    gradient = zo.estimators.gradient(queries, jnp.zeros(2), baseline=zo.baselines.none())
    np.testing.assert_allclose(gradient, [0.5, 0.5])
