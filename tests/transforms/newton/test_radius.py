"""How far the next round looks, and the trace of a batch that is unlike the others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from zovh_jax.transforms.newton.noise import Noise
from zovh_jax.transforms.newton.radius import HELD, RadiusRules
from zovh_jax.transforms.newton.trust import _trace_of_round

D, K, FIRST = 16, 8, 0.1
RULES = RadiusRules(dimension=D, first=FIRST, epsilon=1e-7)
EXACT = Noise.init(0.0)


def slope(x):
    return 3 * x[0] - x[1] + 2 * x[5]


def hollow(x):
    return 1e3 * jnp.sum(jnp.square(x))


def following(
    f, radius, *, squared_length=1e-8, noise=EXACT, model=1.0, stencil=zo.stencils.forward()
):
    """The next radius of a round around 0, after a step that was so long."""
    queries = zo.query(
        f, jnp.zeros(D), jax.random.key(0), num_directions=K, radius=radius,
        directions=zo.directions.hadamard(), origin=True, stencil=stencil,
    )  # fmt: skip
    square, curvature = jnp.asarray(squared_length), jnp.asarray(model)
    return float(RULES.following(queries, square, curvature, noise))


def noisy(num_rounds):
    return EXACT._replace(found=jnp.asarray(True), num_rounds=jnp.asarray(num_rounds))


@pytest.mark.parametrize(("length", "expected"), [(0.1, 0.1), (0.16, 0.16), (0.01, 0.05), (9, 0.2)])
def test_exact_values_are_asked_as_far_as_the_step_was_long(length, expected):
    assert following(slope, 0.1, squared_length=D * length**2) == pytest.approx(expected, rel=1e-5)


STENCILS = [zo.stencils.forward(), zo.stencils.three_point()]


@pytest.mark.parametrize(("radius", "expected"), [(0.1, 0.1), (0.025, 0.05), (0.3, 0.15)])
@pytest.mark.parametrize("stencil", STENCILS)
def test_the_first_noisy_rounds_look_as_far_as_the_first_one(radius, expected, stencil):
    found = following(slope, radius, noise=noisy(3), stencil=stencil)
    assert found == pytest.approx(expected, rel=1e-5)


def test_later_ones_do_not():
    assert following(slope, FIRST, noise=noisy(HELD)) == pytest.approx(FIRST / 2, rel=1e-5)


def test_nor_do_those_that_left_the_domain():
    def walled(x):
        return jnp.where(jnp.sum(x) > 0, jnp.nan, slope(x))

    assert following(walled, 0.1, noise=noisy(3)) == pytest.approx(0.05, rel=1e-5)


def test_what_is_seen_need_not_be_seen_from_farther():
    """c is tiny where values are rounded to steps; only what is below rounding asks for more."""
    assert following(slope, 0.1, model=1e-12, squared_length=0.16) == pytest.approx(0.1, rel=1e-5)
    hidden = following(lambda x: 1e6 + 1e-3 * slope(x), 0.1, model=1e-12, squared_length=0.16)
    assert hidden == pytest.approx(0.2, rel=1e-5)


@pytest.mark.parametrize("stencil", STENCILS)
def test_they_look_nearer_where_f_is_curved_so_far_away(stencil):
    """Beside the walls of a hollow, slopes are lost."""
    found = following(hollow, 0.1, noise=noisy(3), stencil=stencil)
    assert found == pytest.approx(0.05, rel=1e-5)


def test_a_rounds_own_trace_counts_where_it_is_far_from_the_known_one():
    valid, known = jnp.ones(K, bool), jnp.asarray(10.0)
    spread = jnp.asarray([-3.0, -2.0, -1.0, 0.0, 0.0, 1.0, 2.0, 3.0])
    near = _trace_of_round(known, 11 + spread, valid)
    far = _trace_of_round(known, 1e4 + spread, valid)
    np.testing.assert_allclose(near, known)
    np.testing.assert_allclose(far, 1e4, rtol=1e-4)
    # The share of the difference that is not error, here of three standard errors, as K is small.
    error = 3 * (1 + 4 / (K - 1)) * np.std(spread, ddof=1) / np.sqrt(K)
    between = _trace_of_round(known, 20 + spread, valid)
    np.testing.assert_allclose(between, 20 - error**2 / 10, rtol=1e-5)


def test_one_sample_and_missing_ones_say_nothing_of_the_trace():
    known = jnp.asarray(10.0)
    np.testing.assert_allclose(
        _trace_of_round(known, jnp.asarray([99.0]), jnp.ones(1, bool)), known
    )
    few = jnp.asarray([99.0, 0.0, 0.0]), jnp.asarray([True, False, False])
    np.testing.assert_allclose(_trace_of_round(known, *few), known)
    none = jnp.zeros(3), jnp.zeros(3, bool)
    np.testing.assert_allclose(_trace_of_round(known, *none), known)
    huge = jnp.asarray([1e30, 1e30, 1e30, -1e30], jnp.float32), jnp.ones(4, bool)
    np.testing.assert_allclose(_trace_of_round(known, *huge), known)
