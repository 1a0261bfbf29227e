"""Where a round asks, how it is evaluated, what it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import CLOSE, PARAMS, RADIUS, THETA, Waves, ask, f, f_numpy, given, rows
from jax.experimental import io_callback

import zovh_jax as zo
from zovh_jax.directions import masked, rademacher
from zovh_jax.evaluators import chunked, vmapped
from zovh_jax.stencils import central, forward, three_point

pytestmark = pytest.mark.usefixtures("x64", "fast_compilation")


@pytest.mark.parametrize(
    ("evaluate", "directions"),
    [
        (vmapped(), given(7)),
        (chunked(1), given(7)),
        (chunked(3), given(7)),
        (chunked(100), given(7)),
        (chunked(3), Waves()),
        (chunked(3), masked(Waves(), {"a": False, "b": True})),
        (chunked(2), Waves(joint=True)),
    ],
)
@pytest.mark.parametrize("stencil", [forward(), central(), three_point()])
def test_values_are_f_at_the_stencil_points(stencil, evaluate, directions):
    queries = ask(7, directions, stencil=stencil, evaluate=evaluate)
    u = rows(queries.plan.draw(PARAMS))
    plus = np.array([f_numpy(THETA + RADIUS * row) for row in u])
    minus = np.array([f_numpy(THETA - RADIUS * row) for row in u])
    paired = stencil != forward()
    np.testing.assert_allclose(
        queries.values, np.stack([plus, minus], -1) if paired else plus, **CLOSE
    )
    np.testing.assert_allclose(queries.even, (plus + minus) / 2 if paired else plus, **CLOSE)
    np.testing.assert_allclose(queries.odd, (plus - minus) / 2 if paired else plus, **CLOSE)
    if stencil == three_point():
        np.testing.assert_allclose(queries.origin, f_numpy(THETA), **CLOSE)
    else:
        assert queries.origin is None


@pytest.mark.parametrize(
    ("options", "origin"),
    [
        ({"origin": True}, f_numpy(THETA)),
        ({"origin": True, "stencil": central()}, f_numpy(THETA)),
        ({"value": 42.0}, 42.0),  # a value given is believed, not queried
        ({"value": 42.0, "origin": True}, 42.0),
        ({"value": 42.0, "stencil": three_point()}, 42.0),
    ],
)
def test_origin(options, origin):
    np.testing.assert_allclose(ask(2, given(2), **options).origin, origin, rtol=1e-12)


@pytest.mark.parametrize("radius", [1e-3, 0.7])
def test_radius_scales_the_step(radius):
    queries = ask(3, given(3), radius)
    u = rows(given(3).tree)
    np.testing.assert_allclose(queries.values, [f_numpy(THETA + radius * x) for x in u], **CLOSE)
    np.testing.assert_allclose(queries.radii, [radius] * 3)


@pytest.mark.parametrize("directions", [Waves(), masked(rademacher(), {"a": False, "b": True})])
def test_stored_directions_are_the_replayed_ones(directions):
    kept, replayed = (ask(2, directions, store_directions=s) for s in (True, False))
    assert kept.plan.stored is not None and replayed.plan.stored is None
    np.testing.assert_allclose(kept.values, replayed.values, **CLOSE)
    draws = [rows(jax.jit(q.plan.draw)(PARAMS)) for q in (kept, replayed)]
    np.testing.assert_allclose(*draws, **CLOSE)


@pytest.mark.parametrize(
    ("stencil", "redraw"), [(forward(), False), (central(), True), (three_point(), False)]
)
def test_chunks_of_one_call_the_objective_as_it_is(stencil, redraw):
    """Ordered callbacks, in order, and callbacks without a batching rule; no vmap."""
    seen, shapes = [], []

    def simulate(x):
        shapes.append(x.shape)
        return np.float64(np.sum(x**2))

    def ordered(x):
        value = jax.pure_callback(simulate, jax.ShapeDtypeStruct((), jnp.float64), x)
        return io_callback(lambda v: (seen.append(float(v)), v)[1], value, value, ordered=True)

    options = {"num_directions": 3, "radius": 0.5, "stencil": stencil, "directions": rademacher()}
    evaluate, x, key = chunked(1, redraw=redraw), jnp.arange(4.0), jax.random.key(3)
    ask = jax.jit(lambda x: zo.query(ordered, x, key, evaluate=evaluate, **options))
    queries = jax.block_until_ready(ask(x))
    jax.effects_barrier()
    assert set(shapes) == {(4,)}
    expected = [*np.ravel(queries.values), *([float(np.sum(x**2))] if stencil.needs_origin else [])]
    np.testing.assert_allclose(seen, expected)
    alone = zo.query(lambda x: jnp.sum(x**2), x, key, **options)
    np.testing.assert_allclose(queries.values, alone.values, **CLOSE)
    with pytest.raises(NotImplementedError, match="vmap"):
        jax.jit(lambda x: zo.query(ordered, x, key, evaluate=chunked(2), **options))(x)


def test_optimisers_in_chunks_of_one_do_not_vmap():
    shapes = []

    def simulate(x):
        shapes.append(x.shape)
        return np.float64(np.sum(x**2))

    def f(x):
        return jax.pure_callback(simulate, jax.ShapeDtypeStruct((), jnp.float64), x)

    options = {"num_directions": 3, "radius": 0.1, "key": jax.random.key(0)}
    x = jnp.ones(4)
    for make in (zo.zo_sgd, zo.zoar):
        optimizer = make(0.1, **options, evaluate=chunked(1))
        step = jax.jit(lambda s, o=optimizer: o.update(None, s, x, value_fn=f))
        updates, _ = jax.block_until_ready(step(optimizer.init(x)))
        assert np.all(np.isfinite(updates)) and set(shapes) == {(4,)}


@pytest.mark.parametrize("evaluate", [vmapped(), chunked(1), chunked(2), chunked(5)])
def test_the_objective_is_traced_once(evaluate):
    """Wherever it is called from: the origin, whole chunks, the ragged one, plus and minus."""
    calls = []

    def counted(p):
        calls.append(1)
        return f(p)

    options = {"num_directions": 5, "radius": 0.1, "stencil": three_point()}
    ask = jax.jit(lambda key: zo.query(counted, PARAMS, key, evaluate=evaluate, **options))
    ask.trace(jax.random.key(0))
    assert len(calls) == 1


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="counts what only CPUs get")
@pytest.mark.parametrize(
    ("name", "evaluate"),
    [
        *(("gaussian", vmapped()), ("hadamard", vmapped())),
        *(("rademacher", chunked(2)), ("low_rank", chunked(2))),
        *(pytest.param(n, chunked(2), marks=pytest.mark.slow) for n in ("gaussian", "hadamard")),
        *(pytest.param(n, vmapped(), marks=pytest.mark.slow) for n in ("rademacher", "low_rank")),
    ],
)
def test_a_constant_key_is_none_to_the_compiler(name, evaluate):
    """Else draws are unlike each other, and some are drawn while they are compiled."""
    params = {f"{i:02d}": jnp.ones((20, 30)) for i in range(12)}

    def values(params, key):
        return zo.query(
            lambda p: sum(jnp.sum(jnp.square(jnp.ones(20) @ x)) for x in p.values()),
            params,
            key,
            num_directions=4,
            radius=RADIUS,
            directions=getattr(zo.directions, name)(),
            evaluate=evaluate,
        ).values

    key = jax.random.key(0)
    constant, argument = (
        jax.jit(function).lower(*args).compile().as_text()
        for function, args in ((lambda p: values(p, key), (params,)), (values, (params, key)))
    )
    assert constant.count(" conditional(") == argument.count(" conditional(") > 0
    assert constant.count("\n") < 1.2 * argument.count("\n")
