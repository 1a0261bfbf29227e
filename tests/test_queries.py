"""What the objective answered: given by the caller, or asked; and its views."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLOSE, PARAMS, RADIUS, THETA, ask, f_numpy, ravel, rows

import zovh_jax as zo
from zovh_jax.directions import rademacher
from zovh_jax.stencils import three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")


def test_from_values_is_the_same_as_query():
    key, stencil = jax.random.key(11), three_point()
    asked = ask(3, rademacher(), stencil=stencil)
    told = zo.Queries.from_values(
        np.asarray(asked.values),
        plan=zo.Plan(key, rademacher(), num_directions=3),
        radius=RADIUS,
        stencil=stencil,
        origin=asked.origin,
    )
    estimate = jax.jit(zo.estimators.gradient)
    np.testing.assert_allclose(
        ravel(estimate(asked, PARAMS)), ravel(estimate(told, PARAMS)), **CLOSE
    )


def test_ask_and_tell():
    key = jax.random.key(2)
    plan = zo.Plan(key, rademacher(), num_directions=4)
    u = jax.jit(plan.draw)(PARAMS)
    values = [f_numpy(THETA + RADIUS * row) for row in rows(u)]
    queries = zo.Queries.from_values(values, plan=plan, radius=RADIUS)
    gradient = ravel(jax.jit(zo.estimators.gradient)(queries, PARAMS))
    expected = np.cov(np.asarray(values), rows(u), rowvar=False)[0, 1:] / RADIUS
    np.testing.assert_allclose(gradient, expected, **CLOSE)


def test_views_of_stacked_rounds():
    keys = jax.random.split(jax.random.key(0), 2)
    plan = zo.Plan(keys, rademacher(), num_directions=3, num_rounds=2)
    values = jnp.array(
        [[[1.0, 3.0], [2.0, 2.0], [jnp.nan, 0.0]], [[4.0, 0.0], [5.0, 1.0], [6.0, 0.0]]]
    )
    radius, origin = jnp.array([0.1, 0.2]), jnp.array([7.0, jnp.inf])
    queries = zo.Queries(plan, values, radius, origin, three_point())
    assert queries.plan.size == 6
    np.testing.assert_array_equal(queries.even, [2, 2, np.nan, 2, 3, 3])
    np.testing.assert_array_equal(queries.odd, [-1, 0, np.nan, 2, 2, 3])
    np.testing.assert_array_equal(queries.radii, [0.1] * 3 + [0.2] * 3)
    np.testing.assert_array_equal(queries.origins, [7.0] * 3 + [np.inf] * 3)
    np.testing.assert_array_equal(queries.valid, [True, True, False, True, True, True])
    assert int(queries.num_nonfinite) == 2
