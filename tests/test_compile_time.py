"""What compiling a step costs, in CPU seconds, against what is like it: ratios of one run."""

import os
import pathlib
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

import zovh_jax as zo

ONE = {"x": jax.ShapeDtypeStruct((40_000,), jnp.float32)}
MANY = {f"{i:03d}": jax.ShapeDtypeStruct((20 + i % 5, 20), jnp.float32) for i in range(100)}
FAMILIES = {
    "gaussian": zo.directions.gaussian(),
    "fast": zo.directions.gaussian(fast=True),
    "rademacher": zo.directions.rademacher(),
    "hadamard": zo.directions.hadamard(),
}


def objective(params):
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


def compile_seconds(params, directions):
    """CPU seconds of all threads, from nothing."""
    optimizer = zo.zoar(
        0.1,
        num_directions=4,
        radius=0.1,
        key=jax.random.key(0),
        history_size=1,
        directions=directions,
    )
    state = jax.eval_shape(optimizer.init, params)
    jax.clear_caches()
    start = time.process_time()
    step = jax.jit(lambda p, s: optimizer.update(None, s, p, value_fn=objective))
    step.lower(params, state).compile()
    return time.process_time() - start


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == "hadamard" else [pytest.mark.slow])
        for name in FAMILIES
    ],
)
def test_a_hundred_leaves_compile_like_a_few(name):
    """Not like a hundred: leaves of one shape share their programs."""
    env = {
        **os.environ,
        "XLA_FLAGS": "",
        "JAX_ENABLE_COMPILATION_CACHE": "0",
        "PYTHONPATH": str(pathlib.Path(__file__).parents[1]),
    }
    printed = subprocess.check_output([sys.executable, __file__, name], env=env, text=True)
    one, many = map(float, printed.split())
    assert many < 4 * one, (one, many)


if __name__ == "__main__":  # a process of its own: XLA as users have it
    family = FAMILIES[sys.argv[1]]
    compile_seconds(ONE, family)  # what JAX itself does once
    print(*(compile_seconds(params, family) for params in (ONE, MANY)))
