"""HiZOO and ZOHA: replayed in plain numpy, fixed points, what each variant's mean is."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import ravel

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

K = 3
KEY = jax.random.key(11)


def make_params(dtype=jnp.float64):
    return {"a": jnp.asarray([0.5, -1.0, 0.25], dtype), "b": jnp.asarray([[0.75], [-0.5]], dtype)}


def wavy(x):
    """Curved up, down and across."""
    scales = np.array([5.0, -6.0, 2.0, 3.0, -4.0])
    return 0.5 * (scales * x * x).sum() + 0.1 * (x**4).sum() + np.sin(x[0] * x[3]) + x.sum()


def wavy_tree(params):
    x = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    scales = jnp.array([5.0, -6.0, 2.0, 3.0, -4.0], x.dtype)
    return 0.5 * jnp.sum(scales * x * x) + 0.1 * jnp.sum(x**4) + jnp.sin(x[0] * x[3]) + jnp.sum(x)


def replay(variant, radii, alphas, rates, damping, num_steps):
    """Algorithm 1, one direction after the other: [(θ, h)] after every step."""
    params = make_params()
    theta, h, seen = ravel(params), np.ones(5), []
    signs = set()
    for t in range(num_steps):
        key = jax.random.fold_in(jax.random.fold_in(KEY, 0), t)
        drawn = zo.Plan(key, zo.directions.gaussian(), num_directions=K).draw(params)
        mu, estimate, slopes = radii(t), np.zeros(5), []
        zs = [ravel(jax.tree.map(lambda u, k=k: u[k], drawn)) for k in range(K)]
        for z in zs:
            step = mu * z / (np.sqrt(h) if variant == "paper" else h)
            plus, minus, here = wavy(theta + step), wavy(theta - step), wavy(theta)
            signs.add(np.sign(plus + minus - 2 * here))
            estimate += abs(plus + minus - 2 * here) / (2 * mu**2) * h * z**2 / K
            slopes.append((plus - minus) / (2 * mu))
        h = (1 - alphas(t)) * h + alphas(t) * (estimate + damping)
        for z, slope in zip(zs, slopes, strict=True):
            theta = theta - rates(t) * slope * (z / np.sqrt(h) if variant == "paper" else h * z) / K
        seen.append((theta, h))
    assert signs == {-1.0, 1.0}
    return seen


@pytest.mark.parametrize(
    ("variant", "evaluate"),
    [
        ("paper", zo.evaluators.chunked(2)),
        ("zovh", zo.evaluators.vmapped()),
        pytest.param("paper", zo.evaluators.vmapped(), marks=pytest.mark.slow),
        pytest.param("zovh", zo.evaluators.chunked(2), marks=pytest.mark.slow),
    ],
)
def test_replays_algorithm_1(variant, evaluate, x64):
    schedules = [lambda t: 0.1 / (t + 1), lambda t: 0.3 - 0.05 * t, lambda t: 0.02 * 0.9**t]
    expected = replay(variant, *schedules, damping=0.25, num_steps=5)
    optimizer = zo.hizoo(
        schedules[2],
        num_directions=K,
        radius=schedules[0],
        smoothing=schedules[1],
        damping=0.25,
        variant=variant,
        key=KEY,
        evaluate=evaluate,
    )
    params = make_params()
    state = optimizer.init(params)
    step = jax.jit(lambda p, s: optimizer.update(None, s, p, value_fn=wavy_tree))
    for theta, h in expected:
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(ravel(params), theta, rtol=1e-9)
        np.testing.assert_allclose(ravel(state[0].curvature), h, rtol=1e-9)


A = np.array([1.0, 4.0, 0.25, 10.0])


def bowl(x):
    return 0.5 * jnp.sum(jnp.asarray(A, x.dtype) * jnp.square(x))


def one_step(num_directions, f=bowl, **options):
    """(h, value) -> (update, state) of one step at θ = 1, compiled."""
    x = jnp.ones(len(A))
    optimizer = zo.zo_hizoo(num_directions, 0.1, key=KEY, **options)

    @jax.jit
    def step(h=1.0, **extra):
        h = jnp.broadcast_to(jnp.asarray(h, jnp.float32), x.shape)
        state = optimizer.init(x)._replace(curvature=h)
        return optimizer.update(None, state, x, value_fn=f, **extra)

    return step


@pytest.mark.parametrize("directions", ["gaussian", "sphere"])
def test_mean_of_the_curvature(directions):
    """c·(a + ½ Σ_j(a_j/h_j)·h), with c = 1, or d/(d+2) on the sphere: h = c (d+2)/2·a is fixed."""
    n, d = 40_000, len(A)
    c = 1.0 if directions == "gaussian" else d / (d + 2)
    family = getattr(zo.directions, directions)()
    fixed = c * (d + 2) / 2 * A
    step = one_step(n, smoothing=1.0, directions=family)
    for h in (np.array([2.0, 0.5, 3.0, 1.0]), fixed):
        _, state = step(h)
        expected = c * (A + 0.5 * np.sum(A / h) * h)
        # ½ Σ_j (a_j/h_j) z_j² z_i² has a coefficient of variation below √(E z⁸/9) = √(105/9).
        assert np.sqrt(105 / 9 / n) < 0.02
        assert np.all(np.abs(state.curvature - expected) < 0.05 * expected)
    np.testing.assert_allclose(expected, fixed, rtol=1e-12)


def test_curvature_settles_on_a_multiple_of_the_diagonal():
    """(d+2)/2 times it: twice the factor at twice the dimension is not the Hessian's diagonal."""
    optimizer = zo.zo_hizoo(
        16, 0.1, key=KEY, smoothing=optax.piecewise_constant_schedule(0.1, {1500: 0.05})
    )
    x = jnp.ones(len(A))

    def body(state, _):
        return optimizer.update(None, state, x, value_fn=bowl)[1], state.curvature

    _, history = jax.jit(lambda s: jax.lax.scan(body, s, length=4000))(optimizer.init(x))
    np.testing.assert_allclose(history[2000:].mean(0), 3 * A, rtol=0.1)


@pytest.mark.parametrize("variant", ["paper", "zovh"])
def test_mean_of_the_update(variant):
    """The paper's is ∇f/h, that of the ZoVH code ∇f."""
    n, h = 40_000, np.array([2.0, 0.5, 3.0, 1.0])
    updates, _ = one_step(n, smoothing=0.0, variant=variant)(h)
    # Var((g·z) z_i) = ‖g‖² + g_i², with g and the factors of the variant.
    s = h**-0.5 if variant == "paper" else 1 / h
    factor = s if variant == "paper" else h
    standard_error = factor * np.sqrt((np.sum((A * s) ** 2) + (A * s) ** 2) / n)
    assert np.all(standard_error < 0.3)
    assert np.all(np.abs(updates - factor * A * s) < 5 * standard_error)
    np.testing.assert_allclose(factor * s, 1 / h if variant == "paper" else 1)


@pytest.mark.parametrize("variant", ["paper", pytest.param("zovh", marks=pytest.mark.slow)])
def test_without_smoothing_it_is_central_differences(variant):
    """h stays 1: what α = 1e-8 comes to in float32 where the curvature is moderate."""
    params = make_params(jnp.float32)
    options = {"num_directions": K, "radius": 0.1, "key": KEY}
    plain = zo.zo_sgd(0.1, **options, stencil=zo.stencils.central())
    expected, _ = jax.jit(lambda s: plain.update(None, s, params, value_fn=wavy_tree))(
        plain.init(params)
    )

    @jax.jit
    def step(smoothing):
        optimizer = zo.hizoo(0.1, **options, smoothing=smoothing, variant=variant)
        return optimizer.update(None, optimizer.init(params), params, value_fn=wavy_tree)

    for smoothing in (0.0, 1e-8):
        updates, state = step(smoothing)
        np.testing.assert_allclose(ravel(updates), ravel(expected), rtol=1e-5)
        np.testing.assert_allclose(ravel(state[0].curvature), 1, rtol=1e-5)


def test_zoha_keeps_nothing_but_lambda():
    x = jnp.ones(len(A))
    zoha = zo.zoha(1.0, num_directions=K, radius=0.1, damping=0.5, key=KEY)
    _, state = jax.jit(lambda s: zoha.update(None, s, x, value_fn=bowl))(zoha.init(x))
    updates, expected = one_step(K, smoothing=1.0, damping=0.5)()
    np.testing.assert_allclose(state[0].curvature, expected.curvature, rtol=1e-5)
    assert np.all(expected.curvature > 0.5)
    flat_objective = {"f": lambda x: 0.0 * x[0], "smoothing": 1.0}
    _, state = one_step(K, damping=0.5, **flat_objective)()
    np.testing.assert_allclose(state.curvature, 0.5)  # no curvature: λ alone
    updates, state = one_step(K, **flat_objective)()
    np.testing.assert_allclose(state.curvature, 1e-8)  # not even λ: the floor
    assert not updates.any()


def test_state_is_one_copy_of_the_parameters():
    params = {"a": jnp.ones((30, 10), jnp.bfloat16), "b": jnp.ones(7)}
    state = zo.zo_hizoo(8, 0.1, key=KEY).init(params)
    arrays = [x for x in jax.tree.leaves(state) if x.size > 1]
    assert sorted(x.size for x in arrays) == [7, 300]
    assert all(x.dtype == jnp.float32 for x in arrays)


def test_frozen_leaves_stay():
    directions = zo.directions.masked(zo.directions.gaussian(), {"a": True, "b": False})
    optimizer = zo.zo_hizoo(K, 0.1, key=KEY, smoothing=0.5, directions=directions)
    params = make_params(jnp.float32)
    updates, state = jax.jit(lambda s: optimizer.update(None, s, params, value_fn=wavy_tree))(
        optimizer.init(params)
    )
    assert not updates["b"].any() and updates["a"].all()
    assert state.curvature["b"] is None and np.all(state.curvature["a"] != 1)


def test_pairs_that_are_not_finite():
    """None left: nothing moves. Two of three left: the averages over those two."""
    updates, state = one_step(K, f=lambda x: jnp.where(x[0] > 1, jnp.nan, bowl(x)), smoothing=0.5)()
    assert not updates.any() and np.all(state.curvature == 1)
    assert int(state.counts.num_nonfinite) == K

    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), 0)
    plan = zo.Plan(key, zo.directions.gaussian(), num_directions=K)
    z = np.asarray(plan.draw(jnp.ones(len(A))), np.float64)
    far = np.abs(z[:, 0])
    limit, side = 0.1 * np.mean(np.sort(far)[-2:]), np.sign(z[np.argmax(far), 0])

    def f(x):  # one of the two points of a pair: the other one alone is no slope here
        return jnp.where(side * (x[0] - 1) > limit, jnp.inf, bowl(x))

    updates, state = one_step(K, f=f, smoothing=0.5)()
    assert int(state.counts.num_nonfinite) == 1
    z = np.delete(z, np.argmax(far), 0)
    h = 0.5 + 0.5 * (0.5 * (z**2 @ A)) @ z**2 / 2
    np.testing.assert_allclose(state.curvature, h, rtol=1e-3)
    # Two directions of three are left, and the step is as long as that.
    np.testing.assert_allclose(updates, (z @ A) @ z / K / np.sqrt(h), rtol=1e-3)


def test_origin_that_is_not_finite():
    """h stays, the gradient does not need it."""
    step = one_step(K, smoothing=0.5)
    updates, state = step(value=jnp.nan)
    assert np.all(state.curvature == 1) and np.all(updates != 0)
    assert int(state.counts.num_nonfinite) == 1
    _, state = step(value=bowl(jnp.ones(len(A))))
    assert np.all(state.curvature != 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"smoothing": 1.5}, r"smoothing must be a number in \[0, 1\].*1.5"),
        ({"smoothing": "fast"}, "smoothing"),
        ({"damping": -1.0}, r"damping must be a number in \[0, ∞\).*-1.0"),
        ({"damping": float("nan")}, "damping"),
        ({"floor": 0.0}, "floor must be a finite number greater than 0"),
        ({"variant": "hizoo"}, "variant must be 'paper' or 'zovh', got 'hizoo'"),
        ({"directions": zo.directions.rademacher()}, "Rademacher.*gaussian"),
        ({"directions": zo.directions.explicit(jnp.ones((1, 2)))}, "Explicit.*gaussian"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        zo.hizoo(0.1, radius=0.1, key=KEY, **options)
