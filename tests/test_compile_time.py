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
KEY = jax.random.key(0)
ROUND = {"num_directions": 4, "radius": 0.1, "key": KEY}
FAMILIES = {
    "gaussian": zo.directions.gaussian(),
    "fast": zo.directions.gaussian(fast=True),
    "rademacher": zo.directions.rademacher(),
    "hadamard": zo.directions.hadamard(),
}
OPTIMIZERS = {
    name: zo.zoar(0.1, **ROUND, directions=u, history_size=1) for name, u in FAMILIES.items()
} | {
    "zo_sgd": zo.zo_sgd(0.1, **ROUND),
    "zo_signsgd": zo.zo_signsgd(0.1, **ROUND),
    "zo_adamm": zo.zo_adamm(0.1, **ROUND),
    "zovh": zo.zovh(0.1, damping=1.0, **ROUND),
    "radazo": zo.radazo(0.1, **ROUND),
    "rspg": zo.rspg(0.1, **ROUND),
    "mezo": zo.mezo(0.1, radius=0.1, key=KEY),
    "fzoo": zo.fzoo(0.1, **ROUND),
    "poem": zo.poem(**ROUND),
    "zo_hizoo": zo.zo_hizoo(16, 0.1, key=KEY),
    "scalar_newton": zo.scalar_newton(16, 0.1, key=KEY),
    "diagonal_newton": zo.diagonal_newton(16, 0.1, key=KEY),
    "quasi_newton": zo.quasi_newton(16, 0.1, key=KEY),
    "low_rank_newton": zo.low_rank_newton(16, 0.1, key=KEY),
}
MOST = {"poem": 6, "zo_adamm": 6, "zo_hizoo": 6, "zovh": 7}
MOST |= {"diagonal_newton": 6, "quasi_newton": 7, "low_rank_newton": 9}
"""How many times as long a hundred leaves may take: 4 where nothing is said."""


def objective(params):
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(params))


def compile_seconds(params, optimizer):
    """CPU seconds of all threads, from nothing."""
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
        for name in OPTIMIZERS
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
    assert many < MOST.get(name, 4) * one, (one, many)


if __name__ == "__main__":  # a process of its own: XLA as users have it
    chosen = OPTIMIZERS[sys.argv[1]]
    compile_seconds(ONE, chosen)  # what JAX itself does once
    print(*(compile_seconds(params, chosen) for params in (ONE, MANY)))
