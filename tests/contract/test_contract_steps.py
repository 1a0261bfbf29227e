"""One step and the next: tracing, counting, compiling, and the transformations of JAX."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import (
    BY_ID,
    CASES,
    SECOND,
    assert_close,
    assert_equal,
    base_key,
    descend,
    each_of,
    every_case,
    jitted_step,
    make_params,
    objective,
    ones_like,
    trajectory,
    update_once,
)

import zovh_jax as zo

KNOWN = ("sgd", "hizoo", "subspaces-coupled-chunked", "spikes-three-masked-ragged")
"""One of each way to ask for f(θ)."""
LONGEST = "spikes-three-masked-ragged"
"""Takes extras as "diagonal-masked-chunked" does."""
NOTING = ("poem-masked-chunked", "zovh-chunked-reuse")
"""Those that keep a value for the diagnostics, and save no query."""


def cases(*names, slow=()):
    return each_of([BY_ID[name] for name in (*names, *slow)], names)


class Counter:
    """Counts the Python calls of an objective (how often it is traced) and its evaluations."""

    def __init__(self, evaluations=False):
        self.calls, self.values, self.evaluations = 0, [], evaluations

    def __call__(self, params):
        self.calls += 1
        value = objective(params)
        if self.evaluations:  # once for each element of a batch, when the program runs
            jax.debug.callback(lambda v: self.values.extend(np.ravel(v)), value)
        return value


def program(transformation, f, updates, **extra):
    """(what a step is compiled from, what it returns), without a promotion."""

    def step(p, s):
        return transformation.update(updates, s, p, value_fn=f, **extra)

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        params = make_params()
        state = jax.eval_shape(transformation.init, params)
        return jax.make_jaxpr(step, return_shape=True)(params, state)


LESS_PRECISE = re.compile(
    r"dot_general\[\s*dimension_numbers=[^=]*\)\s+(?!precision=\(Precision\.HIGHEST)\w"
)
"""A product that accelerators may make in less than the precision of its numbers."""


def checked_abstractly(case, **extra):
    """The program of a step: one trace of f, no derivative, no promotion, a state as it was."""
    transformation, params, count = case.make(num_directions=64), make_params(), Counter()
    steps, result = program(transformation, underivable(count), ones_like(params), **extra)
    updates, new_state = result
    state = jax.eval_shape(transformation.init, params)
    assert count.calls == case.traces
    assert not LESS_PRECISE.search(str(steps))
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(new_state), strict=True):
        assert (old.shape, old.dtype, old.weak_type) == (new.shape, new.dtype, new.weak_type)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    for u, p in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert (u.shape, u.dtype, u.weak_type) == (p.shape, p.dtype, False)
    return steps


def underivable(f):
    """The function, of which no derivative can be taken."""
    plain = jax.custom_jvp(lambda params: f(params))

    @plain.defjvp
    def _(primals, tangents):
        raise AssertionError("a derivative of value_fn was taken")

    return plain


def without_addresses(jaxpr):
    return re.sub(r"0x[0-9a-f]+", "", str(jaxpr))


@every_case
def test_a_step_in_the_abstract(case):
    """As `checked_abstractly`; extras, None and other updates change nothing of the program.

    Of second settings there is one trace, and of the longest program.
    """
    expected = checked_abstractly(case)
    if case.id in (*SECOND, LONGEST):
        return
    updates = None if case.ignores_updates else ones_like(make_params())
    extra = {"batch": jnp.ones(3), "loss_scale": 2.0, "grad": None}
    transformation = case.make(num_directions=64)
    again, _ = program(transformation, underivable(Counter()), updates, **extra)
    assert without_addresses(again) == without_addresses(expected)


@each_of(CASES, KNOWN + NOTING)
def test_a_step_with_a_value_in_the_abstract(case):
    checked_abstractly(case, value=np.float32(1))


def query_64(count, stencil, size, origin):
    return zo.query(
        count,
        jnp.ones(3),
        base_key(),
        num_directions=64,
        radius=0.1,
        stencil=getattr(zo.stencils, stencil)(),
        evaluate=zo.evaluators.chunked(size) if size else zo.evaluators.vmapped(),
        origin=origin,
    )


@pytest.mark.parametrize("origin", [False, True])
@pytest.mark.parametrize("size", [None, 1, 24, 64])
@pytest.mark.parametrize("stencil", ["forward", "central", "three_point"])
def test_a_round_is_traced_once(stencil, size, origin):
    """In a batch, in blocks, in a last and smaller block, and at θ."""
    count = Counter()
    jax.eval_shape(lambda: query_64(count, stencil, size, origin).values)
    assert count.calls == 1


@pytest.mark.parametrize("stencil", ["forward", "three_point"])
def test_a_round_is_traced_once_without_jit(stencil):
    count = Counter()
    queries = query_64(count, stencil, 24, True)
    assert count.calls == 1
    assert queries.values.shape == ((64,) if stencil == "forward" else (64, 2))
    assert float(queries.origin) == pytest.approx(float(objective(jnp.ones(3))))


@each_of([case for case in CASES if case.known != case.queries], KNOWN)
def test_value_saves_the_origins_query(case):
    transformation, params, count = case.make(), make_params(), Counter(evaluations=True)
    state = transformation.init(params)
    updates, state = jitted_step(transformation, count, value=objective(params))(params, state)
    jax.effects_barrier()
    assert int(zo.num_queries(state)) == len(count.values) == case.known
    assert optax.tree.norm(updates) > 0


@pytest.mark.parametrize("factory", [zo.zo_gradient, zo.zo_newton])
def test_value_is_used_as_the_origin(factory):
    """The same update from value=f(θ), and another one from another value."""
    options = {"damping": 0.7} if factory is zo.zo_newton else {}
    transformation = factory(4, 0.1, key=base_key(), baseline=zo.baselines.origin(), **options)
    params = make_params()
    state, value = transformation.init(params), objective(params)
    step = jax.jit(lambda extra: update_once(transformation, params, state, **extra)[0])
    assert_close(step({"value": value}), step({}), rtol=1e-4)
    assert not np.allclose(step({"value": value + 1})["w"], step({})["w"], rtol=0.01)


@cases("precondition-woodbury-chunked-reuse", slow=["gradient-three-chunked-reuse"])
def test_scan_and_cond(case):
    """Steps in lax.scan, one of them skipped by lax.cond, agree with steps in a Python loop."""
    transformation, params = case.make(), make_params()

    def body(carry, skip):
        params, state = carry

        def step():
            updates, new_state = update_once(transformation, params, state)
            return descend(params, updates), new_state

        return jax.lax.cond(skip, lambda: (params, state), step), None

    skips = jnp.array([False, True, False])
    carry, _ = jax.jit(lambda p: jax.lax.scan(body, (p, transformation.init(p)), skips))(params)
    _, *expected = trajectory(jitted_step(transformation), transformation, params, 2)[-1]
    assert_close(carry, tuple(expected), rtol=2e-4, atol=2e-4)


@cases("gradient-origin", slow=["precondition-woodbury-chunked-reuse"])
def test_jit_changes_nothing(case):
    transformation, params = case.make(), make_params()
    state = transformation.init(params)
    actual = update_once(transformation, params, state)
    assert_close(actual, jitted_step(transformation)(params, state), rtol=2e-4, atol=2e-4)


@cases("newton-reuse", slow=["gradient-central-chunked-reuse"])
def test_vmap_over_keys(case):
    params = make_params()
    keys = jnp.stack([jax.random.key(3), base_key()])

    def step(key):
        transformation = case.make(key=key)
        return update_once(transformation, params, transformation.init(params))[0]

    updates = jax.jit(jax.vmap(step))(keys)
    assert_close(jax.tree.map(lambda u: u[1], updates), jax.jit(step)(keys[1]), 2e-4, 2e-4)
    assert not np.allclose(updates["w"][0], updates["w"][1])


def test_steps_do_not_depend_on_their_past_directions():
    """Same key, same step count: same directions; another step count: others."""
    transformation, params = zo.zo_gradient(4, 0.1, key=base_key()), make_params()
    step, state = jitted_step(transformation), transformation.init(params)
    first, after = step(params, state)
    again, _ = step(params, state)
    second, _ = step(params, after)
    assert_equal(again, first)
    assert not np.allclose(first["w"], second["w"])
