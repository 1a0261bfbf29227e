"""A step by ask and tell is the step by update."""

import jax
from registry import (
    CASES,
    assert_close,
    descend,
    each_of,
    jitted_step,
    make_params,
    objective,
    ones_like,
)

import zovh_jax as zo

COMPILED = (
    "precondition-woodbury-chunked-reuse",  # two that ask, in loops
    "subspaces-coupled-chunked",  # a branch
    "boxed-chunked",
    "mezo",
)
"""One of each way to ask; the others in `make test-slow`."""


@each_of(CASES, COMPILED)
def test_a_step_by_ask_and_tell_is_the_step(case):
    optimizer, params = case.make(), make_params()
    step, values_of = jitted_step(optimizer), jax.jit(jax.vmap(objective))
    state = told = optimizer.init(params)
    for _ in range(3):
        wanted, state = step(params, state)
        up = ones_like(params)
        while True:
            asked = zo.ask(optimizer, told, params, updates=up)
            values = values_of(asked.points)
            updates, told = zo.tell(optimizer, told, params, asked, values, updates=up)
            if not isinstance(told, zo.Midway):
                break
            assert not any(jax.numpy.any(u) for u in jax.tree.leaves(updates))
        assert_close(updates, wanted, rtol=1e-4, atol=1e-5)
        assert zo.num_queries(told) == zo.num_queries(state)
        params = descend(params, updates)
