"""Updates have the parameters' dtypes; everything that adds up is float32 or wider."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import FEW, base_key, compiled_case, jitted_step, make_params, objective, update_once

import zovh_jax as zo


def mixed_params():
    return {**make_params(), "b": make_params(jnp.bfloat16)["b"]}


def check_step(case, params):
    """Abstractly: the updates' dtypes, and a state that stays as it is."""
    transformation = case.make()
    state = jax.eval_shape(transformation.init, params)
    updates, new_state = jax.eval_shape(
        lambda p, s: update_once(transformation, p, s), params, state
    )
    for u, p in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert (u.shape, u.dtype) == (p.shape, p.dtype)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True):
        assert (old.shape, old.dtype) == (new.shape, new.dtype)
    return new_state


def float_dtypes(state):
    """Of all that adds up: an iterate that is only kept has the parameters' own."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    numbers = [x for path, x in leaves if "random_iterate" not in jax.tree_util.keystr(path)]
    return [x.dtype for x in numbers if jnp.issubdtype(x.dtype, jnp.floating)]


@compiled_case
def test_mixed_dtypes(case):
    state = check_step(case, mixed_params())
    assert all(dtype == jnp.float32 for dtype in float_dtypes(state))


@compiled_case
def test_double_precision(case, x64):
    if "explicit" in case.id:
        pytest.skip("its directions are float32 arrays")
    state = check_step(case, make_params(jnp.float64))
    assert all(dtype == jnp.float64 for dtype in float_dtypes(state))


@pytest.mark.parametrize("case", FEW, ids=lambda case: case.id)
@pytest.mark.parametrize("dtype", [pytest.param(jnp.float16, marks=pytest.mark.slow), jnp.float32])
def test_narrow_parameters_under_x64(case, dtype, x64):
    check_step(case, make_params(dtype))


@pytest.mark.parametrize(
    ("factory", "dtype"),
    [
        (zo.zo_gradient, jnp.float16),
        (zo.zo_newton, jnp.bfloat16),
        pytest.param(zo.zo_gradient, jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param(zo.zo_newton, jnp.float16, marks=pytest.mark.slow),
    ],
)
def test_narrow_parameters_only_round(factory, dtype):
    """The same directions and nearly the same update as with float32 parameters."""
    options = {"damping": 100.0} if factory is zo.zo_newton else {}
    transformation = factory(8, 0.5, key=base_key(), **options)
    wide, narrow = make_params(dtype), make_params(dtype)
    wide = jax.tree.map(lambda x: x.astype(jnp.float32), wide)
    step = jitted_step(transformation)
    expected, _ = step(wide, transformation.init(wide))
    updates, state = step(narrow, transformation.init(narrow))
    assert updates["w"].dtype == dtype
    assert int(optax.tree.get(state, "num_nonfinite")) == 0
    u, v = (
        np.concatenate([np.asarray(x, np.float32).ravel() for x in jax.tree.leaves(tree)])
        for tree in (updates, expected)
    )
    assert np.linalg.norm(u - v) < 0.05 * np.linalg.norm(v)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_objectives_of_any_float_dtype(dtype):
    """Values are widened before anything is subtracted from them; narrow ones are warned of."""
    narrow = pytest.warns(UserWarning, match=r"Compute the loss in float32")
    with contextlib.nullcontext() if dtype == jnp.float32 else narrow:
        queries = zo.query(
            lambda p: objective(p).astype(dtype),
            make_params(),
            base_key(),
            num_directions=4,
            radius=0.1,
            origin=True,
        )
    assert queries.values.dtype == queries.origin.dtype == jnp.float32
    expected = objective(make_params()).astype(dtype).astype(jnp.float32)
    assert queries.origin == expected


def test_small_radius_survives_narrow_parameters():
    """θ + μu is formed in float32: only the final rounding loses what bfloat16 cannot hold."""
    theta = jnp.full((64,), 1.0, jnp.bfloat16)
    queries = zo.query(
        lambda x: jnp.sum(x.astype(jnp.float32)),
        theta,
        base_key(),
        num_directions=1,
        radius=2.0**-6,
        directions=zo.directions.explicit(jnp.full((1, 64), 1.25, jnp.float32)),
    )
    # 1 + 1.25/64 lies between the bfloat16 neighbours 1 + 2/128 and 1 + 3/128.
    assert float(queries.values[0]) in (64 * (1 + 2 / 128), 64 * (1 + 3 / 128))
