"""The registry of methods: what a step costs, and where its learning rates start."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import zovh_jax as zo
from benchmarks.common.methods import BASELINES, CONTROLS, METHODS, Setting, gradient, zovh

pytestmark = pytest.mark.usefixtures("fast_compilation")
EVERY = METHODS | {f"gradient, {name}": gradient(b, "") for name, b in BASELINES.items()}
D = 40
# Other settings of a method beside them.
SECOND = (
    *("zo_sgd_sphere", "zo_sgd_near", "zo_sgd_hadamard", "radazo", "zoar_1", "zoar_hadamard"),
    *("zovh_1", "zovh_exact", "hizoo_zovh", "zo_sah_1", "poem", "scalar_newton"),
    "diagonal_newton",  # another curvature in the walk of the other two
    *("gradient, mean", "gradient, leave one out", "gradient, none"),
)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SECOND else []) for n in EVERY]
)
def test_a_step_spends_at_most_what_is_declared_and_the_first_exactly_that(name):
    method, setting = EVERY[name], Setting(history_size=2)
    optimizer = method.make(1e-3, jax.random.key(0), setting)
    params = jnp.ones(D)

    @jax.jit
    def step(params, state):
        return optimizer.update(None, state, params, value_fn=lambda x: jnp.sum(jnp.square(x)))

    state = optimizer.init(params)
    updates, state = step(params, state)
    first = int(zo.num_queries(state))
    assert first == method.queries(setting)
    _, state = step(params + updates, state)
    assert 0 < int(zo.num_queries(state)) - first <= first
    assert method.output(params, state).shape == params.shape


def test_the_centre_is_charged_where_it_is_asked_for():
    setting = Setting(num_directions=5)
    assert METHODS["zo_sgd"].queries(setting) == 6
    assert METHODS["zoar"].queries(setting) == 5
    assert zovh("", history=True, baseline=zo.baselines.origin()).queries(setting) == 6


def test_rates_start_where_their_scale_says():
    setting = Setting(num_directions=10, damping=0.01)
    # 10/(1000 · 1) = 1e-2 is half decade −4; damped by 1e-2 it is −8.
    assert METHODS["zoar"].centre(setting, 1000, 1.0) == -4
    assert METHODS["zoar"].centre(setting, 1000, 100.0) == -8
    assert METHODS["zovh"].centre(setting, 1000, 1.0) == -8
    assert METHODS["zo_sah"].centre(setting, 1000, 1.0) == 0


def test_controls_differ_in_the_product_alone():
    assert set(CONTROLS) <= set(METHODS) and set(CONTROLS.values()) <= set(METHODS)
    for of, control in CONTROLS.items():
        for setting in (Setting(), dataclasses.replace(Setting(), num_directions=4)):
            assert METHODS[of].queries(setting) == METHODS[control].queries(setting)


def test_a_huge_damping_makes_zovh_its_control():
    setting, x = Setting(damping=1e6, history_size=2), jnp.ones(D)
    steps = []
    for name, rate in (("zovh", 1e-3), ("zoar", 1e-9)):
        optimizer = METHODS[name].make(rate, jax.random.key(1), setting)
        step = jax.jit(lambda s, o=optimizer: o.update(None, s, x, value_fn=lambda x: x @ x))
        update, _ = step(optimizer.init(x))
        steps.append(np.asarray(update))
    np.testing.assert_allclose(steps[0], steps[1], atol=1e-3 * np.abs(steps[1]).max())
