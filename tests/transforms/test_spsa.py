"""SPSA and 2SPSA: replayed in plain numpy, exact over all signs, and Hessians that converge."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from helpers import compiled_run, ravel, rows, run

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.plan import Plan
from zovh_jax.queries import Queries
from zovh_jax.transforms.spsa2 import _Corners, _estimates

pytestmark = pytest.mark.usefixtures("fast_compilation")

KEY = jax.random.key(5)
D = 4


def make_params(dtype=jnp.float64):
    return {"a": jnp.asarray([0.5, -1.0, 0.25], dtype), "b": jnp.asarray([[0.75]], dtype)}


def wavy(x):
    return 2 * (np.arange(1, 5) * x * x).sum() - x[0] * x[3] * 5 + np.sin(2 * x).sum()


def wavy_tree(params):
    x = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])
    scales = jnp.arange(1, 5).astype(x.dtype)
    return 2 * jnp.sum(scales * x * x) - 5 * x[0] * x[3] + jnp.sum(jnp.sin(2 * x))


def signs(t, num_directions):
    """The [K, d] signs of step t."""
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), t)
    plan = Plan(key, zo.directions.rademacher(), num_directions=num_directions)
    return rows(plan.draw(make_params()))


def test_gains():
    gains = zo.spsa_gains(0.5, 0.2, stability=10.0)
    for k in (0, 1, 50, jnp.asarray(7)):
        a, c = 0.5 / (10 + k + 1) ** 0.602, 0.2 / (k + 1) ** 0.101
        np.testing.assert_allclose(gains.learning_rate(k), a, rtol=1e-6)
        np.testing.assert_allclose(gains.radius(k), c, rtol=1e-6)
    optimal = zo.spsa_gains(1.0, 1.0, alpha=1.0, gamma=1 / 6)
    np.testing.assert_allclose(optimal.learning_rate(3), 1 / 4, rtol=1e-6)
    np.testing.assert_allclose(optimal.radius(63), 1 / 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"a": 0.0}, "a must be"),
        ({"c": -1.0}, "c must be"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"gamma": 0}, "gamma must be"),
        ({"stability": -1.0}, "stability must be finite and at least 0, got -1.0"),
    ],
)
def test_gains_errors(options, message):
    with pytest.raises(ValueError, match=message):
        zo.spsa_gains(**{"a": 1.0, "c": 1.0, **options})


@pytest.mark.parametrize("num_directions", [1, 3])
def test_spsa_replayed(num_directions, x64):
    gains = zo.spsa_gains(0.05, 0.1, stability=3.0)
    options = {"num_directions": num_directions} if num_directions > 1 else {}
    optimizer = zo.spsa(gains.learning_rate, radius=gains.radius, key=KEY, **options)
    seen, state = run(optimizer, wavy_tree, make_params(), 4)
    theta = ravel(make_params())
    for t, actual in enumerate(seen[1:]):
        a, c, estimate = 0.05 / (t + 4) ** 0.602, 0.1 / (t + 1) ** 0.101, 0
        for delta in signs(t, num_directions):
            slope = (wavy(theta + c * delta) - wavy(theta - c * delta)) / (2 * c)
            estimate = estimate + slope / delta / num_directions
        theta = theta - a * estimate
        np.testing.assert_allclose(actual, theta, rtol=1e-9)
    assert int(zo.num_queries(state)) == 4 * 2 * num_directions


@pytest.mark.parametrize(
    ("num_directions", "initial"), [(1, None), (2, 3.0)], ids=["classical", "averaged"]
)
def test_2spsa_replayed(num_directions, initial, x64):
    gains = zo.spsa_gains(0.05, 0.1)
    k, extra = num_directions, {"evaluate": zo.evaluators.chunked(3)} if num_directions > 1 else {}
    optimizer = zo.spsa2(
        gains.learning_rate,
        radius=gains.radius,
        gradient_radius=lambda t: 0.3 / (t + 1),
        regularization=lambda t: 0.5 * 0.5**t,
        initial_hessian=initial,
        num_directions=k,
        key=KEY,
        **extra,
    )
    seen, state = run(optimizer, wavy_tree, make_params(), 4)
    theta, average, count = ravel(make_params()), np.zeros((D, D)), 0
    if initial is not None:
        average, count = initial * np.eye(D), 1
    for t, actual in enumerate(seen[1:]):
        a, c, c2 = 0.05 / (t + 1) ** 0.602, 0.1 / (t + 1) ** 0.101, 0.3 / (t + 1)
        drawn, g, estimate = signs(t, 2 * k), 0, 0
        for first, second in zip(drawn[:k], drawn[k:], strict=True):
            plus, minus = theta + c * first, theta - c * first
            g = g + (wavy(plus) - wavy(minus)) / (2 * c) / first / k
            one_sided = [(wavy(x + c2 * second) - wavy(x)) / c2 / second for x in (plus, minus)]
            half = np.outer(one_sided[0] - one_sided[1], 1 / (2 * c * first))
            estimate = estimate + (half + half.T) / 2 / k
        average = count / (count + 1) * average + estimate / (count + 1)
        count += 1
        theta = theta - a * np.linalg.solve(
            scipy.linalg.sqrtm(average @ average + 0.5 * 0.5**t * np.eye(D)), g
        )
        np.testing.assert_allclose(actual, theta, rtol=1e-9)
    np.testing.assert_allclose(state[0].hessian, average, rtol=1e-9, atol=1e-9)
    assert int(state[0].num_averaged) == count
    assert int(zo.num_queries(state)) == 4 * 4 * k


HESSIAN = np.array([[3.0, 1.0, 0.0], [1.0, -2.0, 0.5], [0.0, 0.5, 1.0]])
SLOPE = np.array([1.0, -2.0, 0.5])


def test_all_signs_average_to_the_gradient_and_the_hessian(x64):
    """Over every Δ and Δ̃, on a quadratic: exact, the diagonal included."""
    c, ratio = 0.3, 0.5
    every = np.array(list(itertools.product([-1.0, 1.0], repeat=6)))
    first, second = every[:, :3], every[:, 3:]
    points = c * np.concatenate([first, -first, first + ratio * second, -first + ratio * second])
    values = points @ SLOPE + 0.5 * np.einsum("ki,ij,kj->k", points, HESSIAN, points)
    queries = Queries.from_values(
        values, radius=c, directions=zo.directions.explicit(jnp.asarray(points / c))
    )
    both = jnp.asarray(np.concatenate([first, second]))
    g, hessian, valid = _estimates(queries, both, jnp.asarray(c), jnp.asarray(ratio))
    np.testing.assert_allclose(g, SLOPE, rtol=1e-12)
    np.testing.assert_allclose(hessian, HESSIAN, rtol=1e-12, atol=1e-12)
    assert valid


def test_corners_are_where_2spsa_asks():
    """Any block of them, of the leaves that are perturbed."""
    signs_of = zo.directions.masked(zo.directions.rademacher(), {"a": True, "b": False})
    layout = layout_of({"a": jnp.zeros(3), "b": jnp.zeros(2)}, signs_of.active)
    (corners,) = _Corners(signs_of, 0.5).draw(KEY, layout, 8, jnp.arange(8))
    one, two = signs_of.draw(KEY, layout, 4, jnp.arange(4))[0].reshape(2, 2, 3)
    expected = np.concatenate([one, -one, one + 0.5 * two, -one + 0.5 * two])
    np.testing.assert_array_equal(corners, expected)
    some = _Corners(signs_of, 0.5).draw(KEY, layout, 8, jnp.array([5, 2]))[0]
    np.testing.assert_array_equal(some, expected[[5, 2]])


def quadratic(x):
    return x @ jnp.asarray(SLOPE, x.dtype) + 0.5 * x @ jnp.asarray(HESSIAN, x.dtype) @ x


def test_averaged_hessian_converges():
    """As one over the square root of the steps."""
    transformation = zo.zo_spsa2(1, 0.5, key=KEY)
    x = jnp.zeros(3)

    def body(state, _):
        return transformation.update(None, state, x, value_fn=quadratic)[1], state.hessian

    init = transformation.init(x)
    _, averages = jax.jit(lambda s: jax.lax.scan(body, s, length=6401))(init)
    errors = np.linalg.norm(np.asarray(averages) - HESSIAN, axis=(1, 2)) / np.linalg.norm(HESSIAN)
    # One estimate: ½ s(Δ̃Δᵀ + ΔΔ̃ᵀ), s = Δ̃ᵀHΔ: E‖·‖² is at most d² E s² = d² ‖H‖².
    assert errors[100] < 5 * 3 / np.sqrt(100) and errors[6400] < 5 * 3 / np.sqrt(6400)
    assert errors[6400] < 0.06 and errors[1:10].min() > 0.3


def test_direction_is_newtons_with_negative_curvature_turned_round(x64):
    """(H² + δI)^(−½) G, the closed form, from a Hessian that is given; always uphill."""
    transformation = zo.zo_spsa2(1, 0.5, key=KEY, regularization=1e-12)
    x = jnp.asarray([0.3, -0.2, 0.1])
    state = transformation.init(x)
    state = state._replace(hessian=jnp.asarray(HESSIAN), num_averaged=jnp.asarray(10**9, jnp.int32))
    direction, _ = jax.jit(lambda s: transformation.update(None, s, x, value_fn=quadratic))(state)
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), 0)
    delta = np.asarray(Plan(key, zo.directions.rademacher(), num_directions=2).draw(x))[0]
    g = delta * (delta @ (SLOPE + HESSIAN @ np.asarray(x)))
    values, vectors = np.linalg.eigh(HESSIAN)
    assert values[0] < 0
    expected = vectors @ (vectors.T @ g / np.abs(values))
    np.testing.assert_allclose(direction, expected, rtol=1e-6)
    assert direction @ g > 0


def test_descends():
    """2SPSA on a bowl of condition number 100, where SPSA at its best rate crawls."""

    def bowl(x):
        return 0.5 * (100 * x[0] ** 2 + jnp.sum(x[1:] ** 2))

    def final(optimizer):
        path, state = compiled_run(optimizer, bowl, jnp.ones(3), 600)
        return bowl(path[-1]), zo.num_queries(state)

    options = {"radius": 0.01, "key": KEY}
    value, queries = final(zo.spsa2(0.1, num_directions=2, initial_hessian=100.0, **options))
    assert value < 1e-6 and queries == 600 * 8
    value, queries = final(zo.spsa(0.003, num_directions=4, **options))
    assert 1e-6 < value < bowl(jnp.ones(3)) and queries == 600 * 8


def test_values_that_are_not_finite():
    """A direction with a bad corner is dropped; without any, H̄ and its count stay."""
    x = jnp.zeros(3)

    @jax.jit
    def step(limit):
        transformation = zo.zo_spsa2(4, 0.5, key=KEY)

        def f(x):
            return jnp.where(x[0] + x[1] + x[2] > limit, jnp.nan, quadratic(x))

        return transformation.update(None, transformation.init(x), x, value_fn=f)

    updates, state = step(-9.0)
    assert not updates.any() and not state.hessian.any() and int(state.num_averaged) == 0
    _, state = step(1.7)
    dropped = int(state.counts.num_nonfinite)
    assert 0 < dropped < 16 and int(state.num_averaged) == 1
    key = jax.random.fold_in(jax.random.fold_in(KEY, 0), 0)
    drawn = np.asarray(Plan(key, zo.directions.rademacher(), num_directions=8).draw(x))
    estimates = []
    for first, second in zip(drawn[:4], drawn[4:], strict=True):
        corners = [first, -first, first + second, second - first]
        if max(0.5 * corner.sum() for corner in corners) <= 1.7:
            half = (second @ HESSIAN @ first) * np.outer(second, first)
            estimates.append((half + half.T) / 2)
    assert 0 < len(estimates) < 4
    np.testing.assert_allclose(state.hessian, np.mean(estimates, 0), rtol=1e-4, atol=1e-4)


def test_frozen_leaves_stay():
    params = make_params(jnp.float32)
    for make in (zo.spsa, zo.spsa2):
        optimizer = make(0.1, radius=0.1, key=KEY, mask={"a": True, "b": False})
        updates, state = jax.jit(
            lambda s, o=optimizer: o.update(None, s, params, value_fn=wavy_tree)
        )(optimizer.init(params))
        assert not updates["b"].any() and updates["a"].all()
    size = params["a"].size  # frozen parameters have no row
    assert state[0].hessian.shape == (size, size) and state[0].hessian.any()


def test_size_limit():
    message = r"d×d Hessian: 3000 parameters need 34 MiB.*max_size=2000.*zo.spsa, zo.hizoo"
    with pytest.raises(ValueError, match=message):
        zo.spsa2(0.1, radius=0.1, key=KEY).init(jnp.zeros(3000))
    raised = zo.spsa2(0.1, radius=0.1, key=KEY, max_size=3000)
    state = jax.eval_shape(raised.init, jnp.zeros(3000))
    assert state[0].hessian.shape == (3000, 3000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regularization": 0.0}, "regularization must be a finite number greater than 0"),
        ({"gradient_radius": -1.0}, "gradient_radius must be"),
        ({"initial_hessian": 0.0}, "initial_hessian must be"),
        ({"num_directions": 0}, "num_directions must be an int of at least 1, got 0"),
        ({"max_size": 1.5}, "max_size must be an int"),
        ({"mask": {"a": 1}}, "mask must be a tree of Python bools"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        zo.spsa2(0.1, **{"radius": 0.1, "key": KEY, **options})
