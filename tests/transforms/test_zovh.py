"""Where ZoVH's product descends: its expected value, the limit that mends it, and the warning."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo
from zovh_jax.directions import explicit
from zovh_jax.solvers import gram_diagonal

N, D, DAMPING = 4, 3, 2.0
STEEP = 1e-5
"""A radius at which values of a slope of 1 differ by far more than λμ²(n−1)/d."""
U = np.random.default_rng(0).standard_normal((10_000, N, D))


def along_slope(**options):
    """A function of (radius, curvature): mean λ gᵀx at a slope g of length 1, and its error."""

    @jax.jit
    def run(radius, curvature):
        def one(u):
            values = radius * u[:, 0] + radius**2 * curvature / 2 * jnp.sum(u**2, -1)
            queries = zo.Queries.from_values(values, directions=explicit(u), radius=radius)
            return DAMPING * zo.estimators.newton_direction(
                queries, jnp.zeros(D), damping=DAMPING, **options
            )

        samples = jax.vmap(one)(U)[:, 0]
        return jnp.mean(samples), jnp.std(samples) / np.sqrt(len(U))

    return run


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 1 - (N - 1) ** 2 / (D * (N - 2))),
        ({"solver": gram_diagonal(guard=False)}, 1 - (N - 1) ** 2 / (D * (N - 2))),
        ({"solver": gram_diagonal(limit=0.25)}, 1 - 0.25 * (N - 1) ** 2 / (D * (N - 2))),
        ({"bias_correction": False}, -(N - 1) / D),
        ({"decoupled": True}, 1 - (N // 2) / D),
    ],
    ids=["paper, guarded", "paper", "limit", "uncorrected", "decoupled"],
)
def test_on_steep_ground(options, expected, x64):
    mean, error = along_slope(**options)(STEEP, 0.0)
    assert error < 0.025
    assert abs(mean - expected) < 5 * error + 2e-3  # φ is within 1e-4/‖u‖² of 1


def test_a_limit_of_half_descends_on_all_grounds(x64):
    measured = along_slope(solver=gram_diagonal(limit=D / (2 * N)))
    for radius, curvature in itertools.product((1e-3, 0.03, 0.3, 1.0), (0.0, 3 * DAMPING)):
        mean, error = measured(radius, curvature)
        part = (N - 1) ** 2 / (N * (N - 2)) / 2
        assert 1 - part - 5 * error < mean < 1 + part + 5 * error


def final_value(optimizer, num_steps):
    target, start = jnp.array([1.0, -1.0, 1.0]), jnp.array([-1.0, 10.0, 1.0])

    def f(x):
        return jnp.sum(jnp.square(x - target))

    def body(carry, _):
        x, state = carry
        updates, state = optimizer.update(None, state, x, value_fn=f)
        return (optax.apply_updates(x, updates), state), None

    carry = (start, optimizer.init(start))
    (x, _), _ = jax.jit(lambda c: jax.lax.scan(body, c, length=num_steps))(carry)
    return float(f(x)), float(f(start))


def test_on_a_parabola_in_three_dimensions_the_paper_diverges_and_the_limit_converges():
    options = {"num_directions": 4, "radius": 1e-2, "damping": 10, "history_size": 1}
    with pytest.warns(UserWarning, match="climbs"):
        paper, start = final_value(zo.zovh(1e-2, key=jax.random.key(0), **options), 1500)
    assert paper > 3 * start
    limited = zo.zovh(1e-2, key=jax.random.key(0), **options, solver=gram_diagonal(limit=0.375))
    assert final_value(limited, 6000)[0] < 1e-3


@pytest.mark.parametrize(
    ("num", "more", "warns"),
    [
        (6, {}, False),
        (7, {}, True),
        (3, {"history_size": 2}, False),
        (4, {"history_size": 2}, True),
        (7, {"solver": zo.solvers.woodbury()}, False),
        (7, {"solver": gram_diagonal(limit=0.5)}, False),
        (20, {"solver": gram_diagonal(limit=0.5)}, True),
        (7, {"decoupled": True}, False),
        (14, {"decoupled": True}, True),
        (3, {"bias_correction": False}, True),
        (3, {"structure": "leaf"}, True),
        (6, {"directions": zo.directions.masked(zo.directions.gaussian(), (True, False))}, True),
    ],
)
def test_init_warns_where_the_product_can_climb(num, more, warns, recwarn):
    optimizer = zo.zovh(
        0.1, num_directions=num, radius=0.1, damping=1.0, key=jax.random.key(0), **more
    )
    assert not recwarn.list
    optimizer.init((jnp.zeros(4), jnp.zeros(3)))
    assert bool(recwarn.list) == warns


def test_the_warning_names_a_limit_that_silences_it(recwarn):
    options = {"num_directions": 5, "radius": 0.1, "damping": 1.0, "key": jax.random.key(0)}
    zo.zovh(0.1, **options).init(jnp.zeros(4))
    (warning,) = recwarn.list
    assert "5 directions for 4 numbers" in str(warning.message)
    assert "gram_diagonal(limit=0.4)" in str(warning.message)
    zo.zovh(0.1, **options, solver=gram_diagonal(limit=0.4)).init(jnp.zeros(4))
    assert len(recwarn.list) == 1


def test_a_preconditioner_warns_too(recwarn):
    for num, warns in ((3, False), (4, True)):
        zo.scale_by_inverse_hessian(num, 0.1, damping=1.0, key=jax.random.key(0)).init(jnp.zeros(4))
        assert bool(recwarn.list) == warns
