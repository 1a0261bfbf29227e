"""ZO-SAH's isotropy switch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planes import KEY, costs, run

import zovh_jax as zo
from zovh_jax.transforms.sah.couplings import couple

pytestmark = pytest.mark.usefixtures("fast_compilation")


def test_isotropy_saves_the_curvature_queries():
    """Not evaluated, not charged; and steps are g over the mean curvature."""
    newton = zo.zo_sah_direction(
        4, 0.125, key=KEY, switch_every=2, isotropy_tolerance=0.1, num_probes=1
    )
    x = jnp.linspace(-1, 1, 10)
    steps = run(newton, lambda x: 2 * jnp.sum(x**2), x, 6)
    full, ordinary, probing = 1 + 8 + 12, 1 + 8, 1 + 8 + 3
    assert costs(steps) == [full, ordinary, probing, ordinary, probing, ordinary]
    for direction, state, _ in steps:
        moved = np.asarray(state.coordinates).ravel()
        np.testing.assert_allclose(direction[moved], x[moved], atol=1e-4)


@pytest.mark.slow
def test_anisotropy_is_measured_in_full():
    scales = jnp.arange(1.0, 11.0)
    newton = zo.zo_sah_direction(
        4, 0.1, key=KEY, switch_every=1, isotropy_tolerance=0.1, num_probes=2
    )
    steps = run(newton, lambda x: jnp.sum(scales * x**2), jnp.ones(10), 3)
    assert costs(steps) == [21] * 3
    plain = run(
        zo.zo_sah_direction(4, 0.1, key=KEY, switch_every=1),
        lambda x: jnp.sum(scales * x**2),
        jnp.ones(10),
        3,
    )
    for (direction, *_), (expected, *_) in zip(steps, plain, strict=True):
        np.testing.assert_allclose(direction, expected, rtol=1e-2)


def test_a_probe_ends_isotropy():
    """Curvature that changes is seen by the probe, and measured in full in the same step."""
    x = jnp.ones(10)
    newton = zo.zo_sah_direction(4, 0.1, key=KEY, switch_every=1, isotropy_tolerance=0.1)
    step = jax.jit(
        lambda s, scale: newton.update(
            None, s, x, value_fn=lambda x: jnp.sum((1 + scale * jnp.arange(10.0)) * x**2)
        )[1]
    )
    state, charged = newton.init(x), [0]
    for scale in (0.0, 0.0, 1.0):
        state = step(state, scale)
        charged.append(int(zo.num_queries(state)))
    assert np.diff(charged).tolist() == [21, 12, 21]
    assert not bool(state.isotropy.holds)


jitted_couple = jax.jit(couple)
