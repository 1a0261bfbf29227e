"""``solve`` and ``inverse`` with every solver."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import zovh_jax as zo
from zovh_jax._tree import layout_of
from zovh_jax.directions import explicit, masked
from zovh_jax.solvers import cg, gram_diagonal, neumann, woodbury

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")

DAMPING = 0.8
PARAMS = {"z": np.zeros((2, 2)), "a": np.zeros(2)}  # ravelled with "a" first
RNG = np.random.default_rng(0)
U = np.linalg.qr(RNG.standard_normal((6, 3)))[0].T * 2  # orthogonal: gram_diagonal is exact too
WEIGHTS = np.array([1.0, 0.5, -0.1])
DENSE = U.T @ np.diag(WEIGHTS) @ U + (DAMPING + 0.3) * np.eye(6)
SOLVERS = {
    "woodbury": woodbury(),
    "gram_diagonal": gram_diagonal(),
    "cg": cg(tol=1e-12),
    "neumann": neumann(num_terms=300),
}


def operator():
    tree = {"a": U[:, :2], "z": U[:, 2:].reshape(3, 2, 2)}
    plan = zo.Plan(None, explicit(tree), num_directions=3)
    structure = layout_of(PARAMS)
    return zo.LowRankPlusScaled(plan, jnp.asarray(WEIGHTS), jnp.asarray(0.3), structure)


@pytest.mark.parametrize("name", SOLVERS)
def test_inverse(name):
    inverse = zo.inverse(operator(), damping=DAMPING, solver=SOLVERS[name])
    matrix = jax.jit(lambda inverse: inverse.as_matrix())(inverse)
    np.testing.assert_allclose(matrix, np.linalg.inv(DENSE), rtol=1e-9, atol=1e-10)
    v = RNG.standard_normal(6)
    tree = {"a": v[:2], "z": v[2:].reshape(2, 2)}
    x = jax.jit(lambda inverse, tree: inverse.mv(tree))(inverse, tree)
    solved = jax.jit(lambda v: zo.solve(operator(), v, damping=DAMPING, solver=SOLVERS[name]))(tree)
    for y in (x, solved):
        flat = np.concatenate([y["a"], np.ravel(y["z"])])
        np.testing.assert_allclose(flat, np.linalg.solve(DENSE, v), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ["cg", "neumann"])
def test_bare_matvecs(name):
    v = RNG.standard_normal(6)
    h = DENSE - DAMPING * np.eye(6)
    inverse = zo.inverse(lambda x: h @ x, damping=DAMPING, solver=SOLVERS[name])
    np.testing.assert_allclose(jax.jit(inverse.mv)(v), np.linalg.solve(DENSE, v), rtol=1e-9)


def test_damping_may_be_traced():
    v = jnp.asarray(RNG.standard_normal(6))
    tree = {"a": v[:2], "z": v[2:].reshape(2, 2)}
    run = jax.jit(jax.vmap(lambda damping: zo.solve(operator(), tree, damping=damping)["a"]))
    for damping, x in zip([0.5, 2.0], run(jnp.array([0.5, 2.0])), strict=True):
        dense = DENSE + (damping - DAMPING) * np.eye(6)
        np.testing.assert_allclose(x, np.linalg.solve(dense, v)[:2], rtol=1e-11)


FROZEN = {"f": np.zeros(2), "a": np.zeros(2), "z": np.zeros((2, 2))}  # "f" between them


def low_rank(n, seed, scale, signs=(1, -1), frozen=True, stored=True):
    """An operator of n directions in six dimensions, and a dense copy.

    The directions are stored unless they are to be drawn again, which compiles with every product.
    """
    rng = np.random.default_rng(seed)
    params = FROZEN if frozen else {k: v for k, v in FROZEN.items() if k != "f"}
    weights = rng.choice(signs, n) * rng.uniform(0.05, 0.4, n)
    family = zo.directions.gaussian()
    if frozen:
        family = masked(family, {"f": False, "a": True, "z": True})
    plan = zo.Plan(jax.random.key(seed), family, num_directions=n)
    layout = plan.layout(params)
    drawn = plan.materialise(layout)
    if stored:
        plan = dataclasses.replace(plan, stored=drawn)
    low = zo.LowRankPlusScaled(plan, jnp.asarray(weights), jnp.asarray(scale), layout)
    u = np.concatenate([np.reshape(x, (n, -1)) for x in drawn], 1)
    dense = u.T @ np.diag(weights) @ u + scale * np.eye(6)
    if frozen:
        place = np.ix_([0, 1, 4, 5, 6, 7], [0, 1, 4, 5, 6, 7])
        wide = np.zeros((8, 8))
        wide[place] = dense
        dense = wide
    return low, dense


def flat(tree):
    return ravel_pytree(tree)[0]


CASES = {
    "few": {"n": 3, "seed": 0, "scale": 0.5},
    "many, indefinite": {"n": 24, "seed": 1, "scale": -0.2},
    "many, beta below zero": {"n": 24, "seed": 2, "scale": -20.0, "signs": (1,), "frozen": False},
    "one, all leaves": {"n": 1, "seed": 3, "scale": 0.0, "frozen": False},
}


@functools.partial(jax.jit, static_argnames=("solver", "logdet"))
def numbers_of(operator, damping, solver=woodbury(), logdet=True):
    """(matrix, diagonal, trace, log determinant) of the inverse, by one program."""
    inverse = zo.inverse(operator, damping=damping, solver=solver)
    numbers = inverse.as_matrix(), flat(inverse.diagonal()), inverse.trace()
    return (*numbers, inverse.logdet()) if logdet else numbers


MANY = 20_000


@functools.partial(jax.jit, static_argnames=("num", "solver"))
def samples_of(operator, damping, key, num, solver=woodbury()):
    """Samples of the inverse, each as it comes and all as one array."""
    samples = zo.inverse(operator, damping=damping, solver=solver).sample(key, num)
    return samples, jax.vmap(flat)(samples)


def definite_damping(dense):
    return max(0.3 - float(np.linalg.eigvalsh(dense)[0]), 0.1)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("few", "one, all leaves") else [])
        for name in CASES
    ],
)
def test_inverses_by_small_algebra(name):
    low, dense = low_rank(**CASES[name])
    damping = definite_damping(dense)
    if name == "many, beta below zero":
        assert damping + float(low.scale) < 0
    exact = np.linalg.inv(dense + damping * np.eye(len(dense)))
    half = 0.5 * low
    for operator in (low, half + half):  # a sum of two plans: directions side by side
        matrix, diagonal, trace, logdet = numbers_of(operator, damping)
        close = {"rtol": 1e-8, "atol": 1e-9}
        np.testing.assert_allclose(diagonal, np.diag(exact), **close)
        np.testing.assert_allclose(trace, np.trace(exact), **close)
        np.testing.assert_allclose(matrix, exact, **close)
        np.testing.assert_allclose(logdet, np.linalg.slogdet(exact)[1], **close)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in ("few", "one, all leaves") else [])
        for name in CASES
    ],
)
def test_samples_have_the_inverse_for_their_covariance(name):
    """With the same key the normal numbers are the same: x = (H + λI)^(−1/2) z, to rounding."""
    low, dense = low_rank(**CASES[name])
    damping = definite_damping(dense)
    values, vectors = np.linalg.eigh(dense + damping * np.eye(len(dense)))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    nothing = zo.LowRankPlusScaled(low.plan, 0 * low.weights, 0 * low.scale, low.layout)
    key = jax.random.key(7)
    samples, x = samples_of(low, damping, key, MANY)
    assert [x.shape[0] for x in jax.tree.leaves(samples)] == [MANY] * (2 + (len(dense) == 8))
    z = np.asarray(samples_of(nothing, 1.0, key, MANY)[1])
    np.testing.assert_allclose(x, z @ root, rtol=1e-7, atol=1e-8)
    assert np.abs(np.cov(z.T) - np.eye(len(dense))).max() < 5 * np.sqrt(2 / MANY)


def test_no_samples_where_the_operator_is_not_definite():
    low, dense = low_rank(**CASES["many, indefinite"])
    damping = -float(np.linalg.eigvalsh(dense)[0]) / 2
    assert damping > 0
    _, diagonal, _, logdet = numbers_of(low, damping)
    samples, _ = samples_of(low, damping, jax.random.key(0), MANY)
    assert np.isnan(logdet) and np.all(np.isnan(samples["a"]))
    exact = np.linalg.inv(dense + damping * np.eye(8))
    np.testing.assert_allclose(diagonal, np.diag(exact), rtol=1e-8)


@pytest.mark.parametrize("name", ["gram_diagonal", pytest.param("cg", marks=pytest.mark.slow)])
def test_the_other_solvers_inverses_are_operators_too(name):
    low, dense = low_rank(**CASES["few"], stored=False)
    damping = definite_damping(dense)
    inverse = zo.inverse(low, damping=damping, solver=SOLVERS[name])
    has_logdet = name == "gram_diagonal"
    matrix, diagonal, trace, *logdet = map(
        np.asarray, numbers_of(low, damping, SOLVERS[name], has_logdet)
    )
    np.testing.assert_allclose(diagonal, np.diag(matrix), rtol=1e-8)
    np.testing.assert_allclose(trace, np.trace(matrix), rtol=1e-8)
    if name == "cg":
        with pytest.raises(TypeError, match="products only"):
            inverse.logdet()
        return
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    np.testing.assert_allclose(logdet[0], np.linalg.slogdet(matrix)[1], rtol=1e-8)
    key = jax.random.key(0)
    x = samples_of(low, damping, key, 1, SOLVERS[name])[1][0]
    nothing = zo.LowRankPlusScaled(low.plan, 0 * low.weights, 0 * low.scale, low.layout)
    z = np.asarray(samples_of(nothing, 1.0, key, 1)[1][0])
    values, vectors = np.linalg.eigh(matrix)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(x, root @ z, rtol=1e-7, atol=1e-8)


def test_an_inverse_of_a_history_of_rounds():
    f = lambda x: jnp.sum(jnp.arange(1.0, 7) * x**2) + jnp.sum(x[:-1] * x[1:])  # noqa: E731
    x = jnp.ones(6)
    history = zo.History.init(x, size=2, num_directions=5)
    for i in range(2):
        queries = zo.query(f, x, jax.random.key(i), num_directions=5, radius=0.1)
        history = history.push(queries)

    @jax.jit
    def run(history):
        hessian = zo.estimators.hessian(history.queries(), x)
        inverse = zo.inverse(hessian, damping=1e3)
        return (
            hessian.as_matrix(),
            inverse.diagonal(),
            inverse.logdet(),
            inverse.sample(jax.random.key(0), 2),
        )

    dense, diagonal, logdet, samples = run(history)
    exact = np.linalg.inv(np.asarray(dense) + 1e3 * np.eye(6))
    np.testing.assert_allclose(diagonal, np.diag(exact), rtol=1e-9)
    np.testing.assert_allclose(logdet, np.linalg.slogdet(exact)[1], rtol=1e-9)
    assert samples.shape == (2, 6) and np.all(np.isfinite(samples))


def test_what_has_no_directions_is_for_the_iterative_solvers():
    x = jnp.linspace(-1, 1, 6)
    hessian = zo.problems.quadratic(5.0).hessian(x)
    low, _ = low_rank(3, 0, 0.5)
    other = zo.LowRankPlusScaled(
        zo.Plan(jax.random.key(0), zo.directions.gaussian(), num_directions=2),
        jnp.ones(2),
        jnp.asarray(1.0),
        layout_of(FROZEN),
    )
    for operator, v in ((hessian, x), (hessian + 2 * hessian, x), (low + other, FROZEN)):
        with pytest.raises(TypeError, match=r"zo\.solvers\.cg\(\) or neumann"):
            zo.solve(operator, v, damping=1.0)
    ones = jax.tree.map(jnp.ones_like, FROZEN)
    mixed = low + other  # other leaves are frozen in one than in the other: products will do
    iterative = {"solver": cg(tol=1e-12)}

    @jax.jit
    def products_only():
        inverse = zo.inverse(hessian, damping=1.0, **iterative)
        return (
            flat(zo.solve(mixed, ones, damping=40.0, **iterative)),
            mixed.as_matrix(),
            inverse.diagonal(),
            zo.solve(inverse, x, damping=2.0, **iterative),
        )

    solved, matrix, diagonal, again = products_only()
    dense = np.asarray(matrix) + 40 * np.eye(8)
    np.testing.assert_allclose(solved, np.linalg.solve(dense, np.ones(8)), rtol=1e-8)
    exact = np.linalg.inv(np.diag(zo.problems.quadratic(5.0).hessian(x).diagonal()) + np.eye(6))
    np.testing.assert_allclose(diagonal, np.diag(exact), rtol=1e-8)
    np.testing.assert_allclose(again, np.linalg.solve(exact + 2 * np.eye(6), x), rtol=1e-8)
    with pytest.raises(TypeError, match="products only"):
        zo.inverse(low, damping=1.0, solver=cg()).logdet()
    with pytest.raises(TypeError, match="bare matvec"):
        zo.inverse(lambda x: x, damping=1.0, solver=cg()).trace()
