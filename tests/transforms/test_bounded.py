"""An optimiser in a box: where it asks, where it goes, and that it finds corners."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers import compiled_run

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

D, STEPS = 12, 600
LOW, HIGH = 0.1, 0.7
ODD = jnp.arange(D) % 2 == 1
CORNER = jnp.where(ODD, np.float32(HIGH), np.float32(LOW))
KEY = jax.random.key(0)


def strictly_inside(x):
    """In exact arithmetic: the float32 of 0.1 is above it, that of 0.7 below."""
    return jnp.all((x >= np.float32(LOW)) & (x <= np.float32(HIGH)))


def sloping(x):
    """The least value in the box is in a corner; there is none outside."""
    bowl = jnp.mean(jnp.geomspace(1, 10, D) * jnp.square(x - jnp.where(ODD, 1.2, -0.4))) / 2
    return jnp.where(strictly_inside(x), bowl, jnp.nan)


def decaying(rate):
    return optax.exponential_decay(rate, STEPS, 1e-3)


OPTIMIZERS = {
    "zo_sgd": lambda: zo.zo_sgd(decaying(0.2), num_directions=8, radius=1e-2, key=KEY),
    "zoar": lambda: zo.zoar(decaying(0.1), num_directions=8, radius=3e-2, key=KEY),
    "adam": lambda: optax.chain(zo.zo_gradient(8, 1e-2, key=KEY), optax.adam(decaying(0.03))),
    "scalar": lambda: zo.scalar_newton(8, 0.05, key=KEY),
    "diagonal": lambda: zo.diagonal_newton(8, 0.05, key=KEY),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=[pytest.mark.slow] if n in ("diagonal", "zoar") else [])
        for n in OPTIMIZERS
    ],
)
def test_a_corner_is_found_from_inside(name):
    """To 1e-3, with no query outside, which would count as not finite, and no iterate outside."""
    optimizer = zo.bounded(OPTIMIZERS[name](), LOW, HIGH)
    path, state = compiled_run(optimizer, sloping, jnp.full(D, 0.4), STEPS)
    assert strictly_inside(path)
    assert int(zo.diagnostics(state).num_nonfinite) == 0
    np.testing.assert_allclose(path[-1], CORNER, atol=1e-3)


@pytest.mark.parametrize(
    ("how", "dtype"),
    [
        ("clip", jnp.float32),
        ("reflect", jnp.bfloat16),
        pytest.param("clip", jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param("reflect", jnp.float32, marks=pytest.mark.slow),
    ],
)
def test_all_that_is_asked_and_reached_is_inside(how, dtype):
    """Bounds that the dtype doesn't have, one-sided and none; recorded, with long steps."""
    low = {"a": 0.1, "b": None, "c": jnp.array([-0.3, 0.0]), "n": None}
    high = {"a": 0.7, "b": None, "c": None, "n": 0}
    asked, extras = [], []

    def f(x, weight, *, key):
        jax.debug.callback(lambda x: asked.append(x), x)
        extras.append((weight, key))
        return weight * sum(jnp.sum(x[name].astype(jnp.float32)) for name in ("a", "b", "c"))

    directions = zo.directions.masked(
        zo.directions.gaussian(), {"a": True, "b": True, "c": True, "n": False}
    )
    inner = zo.zo_sgd(0.2, num_directions=4, radius=0.3, key=KEY, directions=directions)
    optimizer = zo.bounded(inner, low, high, how=how)
    x = {
        "a": jnp.full(5, 0.4, dtype),
        "b": jnp.zeros((), dtype),
        "c": jnp.array([-5.0, 2.0], dtype),
        "n": jnp.asarray(3, jnp.int32),
    }
    step = jax.jit(lambda s, x: optimizer.update(None, s, x, value_fn=f, weight=1.0))
    state, first, visited = optimizer.init(x), np.asarray(x["b"], np.float64), []
    for _ in range(12):
        updates, state = step(state, x)
        x = optax.apply_updates(x, updates)
        visited.append(x)
    jax.effects_barrier()
    assert len(extras) == 1 and len(asked) == int(zo.num_queries(state)) == 12 * 5
    for point in [*asked, *visited]:
        a, c = (np.asarray(point[name], np.float64) for name in ("a", "c"))
        assert np.all((a >= 0.1) & (a <= 0.7)) and np.all(c >= [np.float32(-0.3), 0])
        assert int(point["n"]) == 3
    assert abs(np.asarray(x["b"], np.float64) - first) > 0.5  # no bound, and downhill


def test_an_interior_minimiser_is_found_as_ever():
    """While nothing leaves the box, the run is that of the optimiser inside, to the last digit."""
    f = lambda x: jnp.sum(jnp.square(x - 0.4))  # noqa: E731
    inner = zo.zo_sgd(0.05, num_directions=4, radius=1e-3, key=KEY)

    def run(optimizer):
        return compiled_run(optimizer, f, jnp.full(3, 0.5), 20)[0][-1]

    np.testing.assert_allclose(run(zo.bounded(inner, -5.0, 5.0)), run(inner), rtol=1e-6)
    np.testing.assert_allclose(run(zo.bounded(inner, None, None, how="reflect")), run(inner))


def test_bounds_that_make_no_sense():
    inner, x = zo.zo_sgd(0.1, num_directions=2, radius=0.1, key=KEY), {"a": jnp.ones(2)}
    with pytest.raises(ValueError, match="how must be"):
        zo.bounded(inner, 0.0, 1.0, how="project")
    with pytest.raises(ValueError, match=r"box of params\['a'\] is empty.*lower=2.*upper=1"):
        zo.bounded(inner, 2.0, 1.0).init(x)
    with pytest.raises(ValueError, match=r"lower must be .* prefix of params"):
        zo.bounded(inner, {"b": 0.0}, 1.0).init(x)
    with pytest.raises(ValueError, match="bounded: this is not its state"):
        zo.bounded(inner, 0.0, 1.0).update(None, inner.init(x), x, value_fn=lambda x: 0.0)
    with pytest.raises(TypeError, match="bounded needs the parameters"):
        optimizer = zo.bounded(inner, 0.0, 1.0)
        optimizer.update(None, optimizer.init(x), value_fn=lambda x: 0.0)
