"""ZO-signSGD: signs of the average, and votes of the directions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

K, D, RADIUS = 5, 8, 0.3
U = np.random.default_rng(3).normal(size=(K, D)).astype(np.float32)
SCALES = np.linspace(1, 3, D).astype(np.float32)
START = np.linspace(-1, 1.5, D).astype(np.float32)


def bowl(x):
    return jnp.sum(SCALES * x**2)


def update(f=bowl, directions=U, **options):
    optimizer = zo.zo_signsgd(
        0.5,
        num_directions=len(directions),
        radius=RADIUS,
        key=jax.random.key(0),
        directions=zo.directions.explicit(jnp.asarray(directions)),
        **options,
    )
    x = jnp.asarray(START[: directions.shape[1]])
    step = jax.jit(lambda s: optimizer.update(None, s, x, value_fn=f))
    updates, state = step(optimizer.init(x))
    return np.asarray(updates), int(zo.num_queries(state))


def slopes():
    """(F_k − f0)/μ of each direction."""
    values = [float(bowl(START + RADIUS * u)) - float(bowl(START)) for u in U]
    return np.array(values) / RADIUS


def votes(keep):
    return np.sum(np.sign(slopes()[keep, None]) * np.sign(U[keep]), 0)


def test_sign_of_the_average():
    updates, queries = update()
    np.testing.assert_array_equal(updates, -0.5 * np.sign(slopes() @ U))
    assert queries == K + 1


@pytest.mark.parametrize("size", [None, 1, 3])
def test_majority_vote(size):
    evaluate = zo.evaluators.chunked(size) if size else zo.evaluators.vmapped()
    updates, queries = update(majority_vote=True, evaluate=evaluate)
    np.testing.assert_array_equal(updates, -0.5 * np.sign(votes(range(K))))
    assert queries == K + 1
    assert np.any(updates != update()[0])  # this data tells the two apart


def test_central_votes():
    updates, queries = update(majority_vote=True, stencil=zo.stencils.central())
    slopes = [float(bowl(START + RADIUS * u)) - float(bowl(START - RADIUS * u)) for u in U]
    expected = np.sum(np.sign(slopes)[:, None] * np.sign(U), 0)
    np.testing.assert_array_equal(updates, -0.5 * np.sign(expected))
    assert queries == 2 * K


def test_one_direction_has_one_vote():
    voted, _ = update(directions=U[:1], majority_vote=True)
    np.testing.assert_array_equal(voted, update(directions=U[:1])[0])


def test_a_tie_moves_nothing():
    """Up along both directions: they agree on the first coordinate and cancel on the second."""
    updates, _ = update(
        lambda x: x[0], np.array([[1.0, 1.0], [2.0, -1.0]], np.float32), majority_vote=True
    )
    np.testing.assert_array_equal(updates, [-0.5, 0.0])


def test_dropped_queries_do_not_vote():
    first = jnp.asarray(START + RADIUS * U[1])

    def broken(x):
        return jnp.where(jnp.max(jnp.abs(x - first)) < 1e-5, jnp.nan, bowl(x))

    updates, _ = update(broken, majority_vote=True)
    np.testing.assert_array_equal(updates, -0.5 * np.sign(votes([0, 2, 3, 4])))
    updates, _ = update(lambda x: jnp.nan * x[0], majority_vote=True)
    assert not updates.any()
