"""Closed forms against automatic differentiation, dense algebra and the golden values."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "zovh_reference.npz")
KEY = jax.random.key(3)
PROBLEMS = {
    "quadratic": zo.problems.quadratic(),
    "conditioned": zo.problems.quadratic(100.0),
    "linear": zo.problems.quadratic(10, spectrum="linear"),
    "rotated": zo.problems.quadratic(100.0, rotated=True, key=KEY),
    "levy": zo.problems.levy(),
    "rosenbrock": zo.problems.rosenbrock(),
    "rosenbrock 10": zo.problems.rosenbrock(10.0),
    "ackley": zo.problems.ackley(),
    "styblinski": zo.problems.styblinski_tang(),
    "styblinski 50": zo.problems.styblinski_tang(50),
}
pytestmark = pytest.mark.usefixtures("fast_compilation")
every_problem = pytest.mark.parametrize("name", PROBLEMS)


def points(d, count=3):
    return np.random.default_rng(d).standard_normal((count, d)) * 1.7


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "d"), [*((name, 7) for name in PROBLEMS), ("levy", 1), ("rosenbrock", 2)]
)
def test_derivatives(name, d):
    f = PROBLEMS[name]

    @jax.jit
    def derivatives(x):
        ours = f.gradient(x), f.hessian(x).as_matrix()
        return ours, (jax.grad(f)(x), jax.hessian(f)(x))

    for x in points(d):
        (gradient, hessian), expected = derivatives(x)
        np.testing.assert_allclose(gradient, expected[0], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(hessian, expected[1], rtol=1e-10, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("d", "name"), [*((7, name) for name in PROBLEMS), (8, "rotated")])
def test_an_operator_is_its_matrix(name, d):
    x, v = points(d)[:2]

    @jax.jit
    def whole(x, v):
        operator = PROBLEMS[name].hessian(x)
        numbers = operator.diagonal(), operator.trace(), operator.squared_norm()
        return operator.as_matrix(), operator.mv(v), *numbers

    dense, product, diagonal, trace, squared_norm = map(np.asarray, whole(x, v))
    np.testing.assert_allclose(dense, dense.T, atol=1e-12 * np.abs(dense).max())
    close = {"rtol": 1e-11, "atol": 1e-11}
    np.testing.assert_allclose(product, dense @ v, **close)
    np.testing.assert_allclose(diagonal, np.diag(dense), **close)
    np.testing.assert_allclose(trace, np.trace(dense), **close)
    np.testing.assert_allclose(squared_norm, np.sum(dense**2), **close)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("quadratic", lambda x: 0.5 * np.sum(x**2)),
        ("rosenbrock", lambda x: np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)),
        (
            "rosenbrock 10",
            lambda x: np.sum(10 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2),
        ),
        ("styblinski", lambda x: 0.5 * np.sum(x**4 - 16 * x**2 + 5 * x)),
        ("styblinski 50", lambda x: 0.5 * np.sum(x**4 - 16 * x**2 + 50 * x)),
        (
            "ackley",
            lambda x: (
                -20 * np.exp(-0.2 * np.sqrt(np.mean(x**2)))
                - np.exp(np.mean(np.cos(2 * np.pi * x)))
                + 20
                + np.e
            ),
        ),
    ],
)
def test_values(name, values):
    f = jax.jit(PROBLEMS[name])
    for x in points(6):
        np.testing.assert_allclose(f(x), values(x), rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("case", "name"), [("hess1", "rosenbrock 10"), ("hess2", "styblinski")])
def test_golden_values(case, name):
    """The reference's values along its directions, and at the centre."""
    theta, radius = GOLDEN[f"{case}_theta"], GOLDEN[f"{case}_radius"]
    steps = np.concatenate([0 * theta[None], radius * GOLDEN[f"{case}_directions"]])
    values = jax.jit(jax.vmap(PROBLEMS[name]))(theta + steps)
    np.testing.assert_allclose(values[0], GOLDEN[f"{case}_origin"], rtol=1e-12)
    np.testing.assert_allclose(values[1:], GOLDEN[f"{case}_values"], rtol=1e-12)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", ["traj0", "traj1", "traj2"])
def test_golden_first_steps(case):
    """The reference's first ZoAR step from values of the quadratic, Levy and Rosenbrock 100."""
    f = PROBLEMS[str(GOLDEN[f"{case}_function"])]
    theta, radius, rate, u = (
        GOLDEN[f"{case}_{field}"] for field in ("theta0", "radius", "learning_rate", "directions")
    )
    values = np.asarray(jax.jit(jax.vmap(f))(theta + radius * u[0]))
    step = rate * (values - values.mean()) @ u[0] / ((len(values) - 1) * radius)
    np.testing.assert_allclose(theta - step, GOLDEN[f"{case}_zoar_thetas"][0], rtol=1e-11)


@pytest.mark.usefixtures("x64")
@every_problem
def test_the_minimum(name):
    f = PROBLEMS[name]
    x = f.minimizer(6)
    gradient, values = jax.jit(lambda x: (f.gradient(x[0]), jax.vmap(f)(x)))(
        x + np.concatenate([np.zeros((1, 6)), points(6, 20), 1e-3 * points(6, 20)])
    )
    np.testing.assert_allclose(values[0], f.minimum(6), atol=1e-9)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)
    assert np.all(values > f.minimum(6) - 1e-9)


@pytest.mark.usefixtures("x64")
def test_a_rotation_keeps_the_spectrum_and_hides_it_from_the_diagonal():
    f = PROBLEMS["rotated"]
    dense = np.asarray(jax.jit(lambda: f.hessian(jnp.zeros(300)).as_matrix())())
    np.testing.assert_allclose(np.linalg.eigvalsh(dense), np.geomspace(1, 100, 300), rtol=1e-9)
    off_diagonal = np.sum(dense**2) - np.sum(np.diag(dense) ** 2)
    assert off_diagonal > 0.4 * np.sum(dense**2)
    assert np.std(np.diag(dense)) < 0.1 * np.mean(np.diag(dense))
    far = np.abs(np.subtract.outer(np.arange(300), np.arange(300))) > 30
    assert np.sum(dense[far] ** 2) > 0.7 * off_diagonal  # and not next to it either
    other = zo.problems.quadratic(100.0, rotated=True, key=jax.random.key(4))
    x = points(300, 1)[0]
    one, two = jax.jit(lambda x: (f(x), other(x)))(x)
    assert other != f and abs(two / one - 1) > 1e-4


@every_problem
def test_problems_are_values(name):
    """Hashable constants of a compiled function, and value_fns in any float dtype."""
    f = PROBLEMS[name]
    assert f == f and hash(f) == hash(f) and jax.tree.leaves(f) == [f]
    batch = jnp.asarray(points(5), jnp.bfloat16)
    of_one = jax.jit(f)
    values, gradient = jax.jit(lambda batch: (jax.vmap(f)(batch), f.gradient(batch[0])))(batch)
    assert values.dtype == jnp.float32 and values.shape == (3,)
    np.testing.assert_allclose(values, [of_one(np.float32(x)) for x in batch], rtol=1e-5)
    assert gradient.dtype == jnp.float32


def test_equal_arguments_give_equal_problems():
    make = lambda: zo.problems.quadratic(3.0, rotated=True, key=jax.random.key(1))  # noqa: E731
    assert make() == make() and hash(make()) == hash(make())
    assert zo.problems.rosenbrock(10.0) != zo.problems.rosenbrock()


def test_the_start_is_standard_normal():
    x = zo.problems.levy().start(10_000, jax.random.key(1))
    assert abs(x.mean()) < 0.05 and abs(x.std() - 1) < 0.05
    np.testing.assert_array_equal(
        zo.problems.ackley().start(9), zo.problems.levy().start(9, jax.random.key(0))
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zo.problems.quadratic(0.5), "condition must be"),
        (lambda: zo.problems.quadratic(2.0, rotated=True), "pass key="),
        (lambda: zo.problems.quadratic(2.0, spectrum="flat"), "spectrum must be one of"),
        (lambda: zo.problems.rosenbrock(-1.0), "valley must be"),
        (lambda: zo.problems.styblinski_tang(float("nan")), "slope must be"),
        (lambda: zo.problems.levy()(jnp.ones((2, 2))), r"got shape \[2, 2\]"),
        (lambda: zo.problems.rosenbrock()(jnp.ones(1)), "at least 2"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
