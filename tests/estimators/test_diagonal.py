"""The Hessian's diagonal by least change: exactness, the error bound, priors, noise, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.directions import gaussian, hadamard, masked, orthogonal, rademacher, scaled
from zovh_jax.estimators import hessian_diagonal

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")
D = 12
LAMBDA = np.geomspace(1, 1e3, D)
PARAMS = {"a": np.zeros((2, 3)), "b": np.zeros(6)}
PAIRS = zo.stencils.three_point()
RNG = np.random.default_rng(0)
OFF = np.triu(RNG.normal(size=(D, D)), 1)


def ravel(tree):
    return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(tree)])


def diagonal(params):
    x = ravel(params)
    return 0.5 * jnp.sum(LAMBDA * x**2) + jnp.sum(x) + 3.0


def ask(n, f=diagonal, key=0, directions=gaussian(), stencil=PAIRS, params=PARAMS):
    return zo.query(
        f,
        params,
        jax.random.key(key),
        num_directions=n,
        radius=0.1,
        stencil=stencil,
        directions=directions,
    )


def error(h, truth=LAMBDA):
    flat = np.concatenate([np.ravel(x) for x in jax.tree.leaves(h)])
    return np.linalg.norm(flat - truth) / np.linalg.norm(truth)


@pytest.mark.parametrize("prior", ["trace", None, "tree"])
@pytest.mark.parametrize("n", [D, pytest.param(3 * D, marks=pytest.mark.slow)])
def test_exact_on_a_diagonal_quadratic_from_d_pairs_on(n, prior):
    prior = jax.tree.map(jnp.ones_like, PARAMS) if prior == "tree" else prior
    found = jax.jit(lambda key: hessian_diagonal(ask(n, key=key), PARAMS, prior=prior))(0)
    assert error(found) < 1e-6


@pytest.mark.parametrize("directions", [gaussian(), orthogonal()])
def test_against_dense_least_squares(directions):
    queries = jax.jit(lambda key: ask(5, key=key, directions=directions))(0)
    squares = np.square(np.stack([ravel(u) for u in _rows(queries)]))
    want = np.linalg.pinv(squares) @ (squares @ LAMBDA)
    np.testing.assert_allclose(
        ravel(jax.jit(hessian_diagonal)(queries, PARAMS, prior=None)), want, rtol=1e-6, atol=1e-6
    )


def _rows(queries):
    drawn = queries.plan.draw(PARAMS)
    return [jax.tree.map(lambda x, i=i: x[i], drawn) for i in range(queries.plan.size)]


def test_never_above_the_priors_error_and_rounds_add_up():
    h, errors = None, [1.0]
    step = jax.jit(lambda key, h: hessian_diagonal(ask(3, key=key), PARAMS, prior=h))
    for i in range(12):
        h = step(i, h)
        errors.append(error(h))
    assert np.all(np.diff(errors) < 1e-9)
    assert errors[-1] < 0.3


def test_scaled_directions():
    scale = jax.tree.map(lambda x: 1 / jnp.sqrt(x), _tree(LAMBDA))
    along = scaled(gaussian(), scale)
    found = jax.jit(lambda key: hessian_diagonal(ask(D, key=key, directions=along), PARAMS))(0)
    assert error(found) < 1e-5


def _tree(x):
    return {"a": jnp.reshape(x[:6], (2, 3)), "b": jnp.asarray(x[6:])}


def test_frozen_leaves_are_zero():
    prior = _tree(np.full(D, 7.0))
    queries = ask(8, directions=masked(gaussian(), {"a": True, "b": False}))
    diagonal_of = jax.jit(lambda prior: hessian_diagonal(queries, PARAMS, prior=prior))
    h = diagonal_of(prior)
    np.testing.assert_allclose(h["a"].ravel(), LAMBDA[:6], rtol=1e-6)
    np.testing.assert_array_equal(h["b"], jnp.zeros_like(prior["b"]))
    again = diagonal_of(h | {"b": None})
    np.testing.assert_allclose(again["a"], h["a"], rtol=1e-9)


def test_a_ridge_that_is_estimated_is_safe_beside_the_diagonal():
    """Interpolation takes what is not on the diagonal for what is."""

    def rotated(params):
        x = ravel(params)
        return diagonal(params) + 500 * x @ OFF @ x

    ridges = (0.0, "auto")

    @jax.jit
    @jax.vmap
    def found(key):
        queries = ask(D, rotated, key)
        return [ravel(hessian_diagonal(queries, PARAMS, ridge=ridge)) for ridge in ridges]

    errors = {
        r: [error(h) for h in rows] for r, rows in zip(ridges, found(np.arange(8)), strict=True)
    }
    assert np.median(errors["auto"]) < 2 < np.median(errors[0.0]) / 2


def test_what_is_not_finite_is_dropped():
    queries = ask(D + 2)
    values = queries.values.at[0, 0].set(jnp.nan).at[1, 1].set(jnp.inf)

    @jax.jit
    def from_values(values, prior):
        told = zo.Queries(queries.plan, values, queries.radius, queries.origin, PAIRS)
        return hessian_diagonal(told, PARAMS), hessian_diagonal(told, PARAMS, prior=prior)

    prior = _tree(LAMBDA)
    assert error(from_values(values, prior)[0]) < 1e-6
    nothing = from_values(values * jnp.nan, prior)[1]
    np.testing.assert_array_equal(ravel(nothing), LAMBDA)


def traced(options=None, **asked):
    jax.eval_shape(lambda: hessian_diagonal(ask(4, **asked), PARAMS, **(options or {})))


def test_refusals():
    for directions in (rademacher(), hadamard(), scaled(hadamard(), PARAMS)):
        with pytest.raises(ValueError, match="see the trace only"):
            traced(directions=directions)
    with pytest.raises(ValueError, match="needs pairs"):
        traced(stencil=zo.stencils.forward())
    with pytest.raises(ValueError, match="prior must be"):
        traced({"prior": "mean"})
    with pytest.raises(ValueError, match="ridge must be"):
        traced({"ridge": -1.0})
