"""Evaluators, storage and replay change how a round is computed, never what it is."""

import functools

import jax
import jax.numpy as jnp
import pytest
from registry import (
    K,
    assert_close,
    assert_equal,
    base_key,
    jitted_step,
    make_params,
    objective,
    trajectory,
)

import zovh_jax as zo

ULP = 2.5e-7
FAMILIES = {
    "gaussian": zo.directions.gaussian(),
    "fast": zo.directions.gaussian(fast=True),
    "sphere": zo.directions.sphere(),
    "rademacher": zo.directions.rademacher(),
    "orthogonal": zo.directions.orthogonal(),
    "hadamard": zo.directions.hadamard(),
    "masked": zo.directions.masked(zo.directions.gaussian(), {"b": False, "w": True}),
    "explicit": zo.directions.explicit(
        {"b": jnp.arange(12.0).reshape(4, 3), "w": -jnp.arange(16.0).reshape(4, 2, 2)}
    ),
}
KEYS = {
    "threefry": lambda: jax.random.key(7),
    "rbg": lambda: jax.random.key(7, impl="rbg"),
    "unsafe_rbg": lambda: jax.random.key(7, impl="unsafe_rbg"),
    "legacy": lambda: jax.random.PRNGKey(7),
}


def one_coordinate(params):
    """No arithmetic of its own: what it returns is a coordinate of θ + μu, to the last bit."""
    return params["w"][1, 0]


def ask(evaluate, f=one_coordinate, key=None, **options):
    key = base_key() if key is None else key

    @jax.jit
    def run(params):
        queries = zo.query(
            f, params, key, num_directions=K, radius=0.1, evaluate=evaluate, **options
        )
        return queries.values, queries.origin

    return run(make_params())


@functools.cache
def in_one_batch(family):
    return ask(zo.evaluators.vmapped(), directions=FAMILIES[family])


@pytest.mark.parametrize("family", FAMILIES)
def test_ragged_blocks_see_the_same_points(family):
    """To the rounding of one multiply-add, which XLA fuses or not."""
    chunked = ask(zo.evaluators.chunked(3), directions=FAMILIES[family])
    assert_close(chunked, in_one_batch(family), rtol=ULP, atol=ULP)


@pytest.mark.parametrize("size", [1, 2 * K])
@pytest.mark.parametrize(
    "family",
    [pytest.param(f, marks=[] if f == "gaussian" else [pytest.mark.slow]) for f in FAMILIES],
)
def test_other_blocks_see_the_same_points(family, size):
    chunked = ask(zo.evaluators.chunked(size), directions=FAMILIES[family])
    assert_close(chunked, in_one_batch(family), rtol=ULP, atol=ULP)


@pytest.mark.parametrize("stencil", ["forward", "central", "three_point"])
def test_stencils_agree(stencil):
    options = {"stencil": getattr(zo.stencils, stencil)(), "origin": True}
    expected = ask(zo.evaluators.vmapped(), objective, **options)
    ragged = ask(zo.evaluators.chunked(3), objective, **options)
    assert_close(ragged, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "impl",
    [
        *("threefry", "rbg"),
        pytest.param("unsafe_rbg", marks=pytest.mark.slow),
        pytest.param("legacy", marks=pytest.mark.slow),  # a typed key, as tested below
    ],
)
def test_every_prng_replays_the_directions_it_queried(impl):
    """Blocks of any size, at query time and at replay, see the same directions."""
    params, key = make_params(), KEYS[impl]()
    values, _ = ask(zo.evaluators.vmapped(), key=key)
    chunked, _ = ask(zo.evaluators.chunked(3), key=key)
    assert_close(chunked, values, rtol=ULP, atol=ULP)

    @jax.jit
    def replayed(key):
        queries = zo.query(
            one_coordinate,
            params,
            key,
            num_directions=K,
            radius=0.1,
            evaluate=zo.evaluators.chunked(2),
        )
        return params["w"][1, 0] + 0.1 * queries.plan.draw(params)["w"][:, 1, 0]

    assert_close(replayed(key), values, rtol=ULP, atol=ULP)
    assert len(set(values.tolist())) == K


def test_legacy_keys_are_typed_keys():
    typed, legacy = (ask(zo.evaluators.vmapped(), key=KEYS[k]()) for k in ("threefry", "legacy"))
    assert_equal(legacy, typed)


def run(transformation):
    """The updates of three steps: a ring of two rounds wraps around."""
    steps = trajectory(jitted_step(transformation), transformation, make_params(), 3)
    return [updates for updates, _, _ in steps]


ORTHOGONAL = {"directions": FAMILIES["orthogonal"], "baseline": zo.baselines.origin()}


@pytest.mark.parametrize(
    ("factory", "impl", "options"),
    [
        pytest.param(zo.zo_gradient, "rbg", {}, marks=pytest.mark.slow),
        pytest.param(zo.zo_newton, "threefry", {"damping": 50.0}, marks=pytest.mark.slow),
        (zo.zo_newton, "threefry", {"damping": 50.0} | ORTHOGONAL),
    ],
    ids=["gradient-rbg", "newton", "newton-orthogonal"],
)
def test_replay_from_a_history(factory, impl, options):
    """In blocks of any size, replayed or stored, the same updates."""

    def updates(**more):
        return run(factory(K, 0.1, key=KEYS[impl](), history_size=2, **options, **more))

    expected = updates()
    for more in ({"evaluate": zo.evaluators.chunked(3)}, {"store_directions": True}):
        assert_close(updates(**more), expected, rtol=1e-3, atol=1e-4)
