"""Chains with optax's own transformations."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import assert_close, base_key, make_params, ones_like

import zovh_jax as zo

PAIRS = {"stencil": zo.stencils.central()}


def bowl(params):
    return sum(jnp.sum(jnp.square(x - 0.5)) for x in jax.tree.leaves(params))


def estimator(num_directions=16, **options):
    return zo.zo_gradient(num_directions, 0.01, key=base_key(), **PAIRS, **options)


def descend(optimizer, num_steps, value_fn=bowl, updates=ones_like, extra=lambda params: {}):
    """(first updates, final params, final state) of a jitted run."""
    params = make_params()

    @jax.jit
    def step(params, state):
        updates_, state = optimizer.update(
            updates(params), state, params, value_fn=value_fn, **extra(params)
        )
        return updates_, optax.apply_updates(params, updates_), state

    state = optimizer.init(params)
    first, params, state = step(params, state)
    for _ in range(num_steps - 1):
        _, params, state = step(params, state)
    return first, params, state


def test_clipping_bounds_the_norm():
    updates, _, _ = descend(optax.chain(estimator(), optax.clip_by_global_norm(0.125)), 1)
    assert float(optax.tree.norm(updates)) == pytest.approx(0.125, rel=1e-5)


@pytest.mark.parametrize(
    "downstream",
    [
        optax.adam(0.1),
        pytest.param(optax.chain(optax.trace(0.5), optax.scale(-0.1)), marks=pytest.mark.slow),
        pytest.param(
            optax.chain(optax.scale_by_rms(), optax.scale_by_learning_rate(0.05)),
            marks=pytest.mark.slow,
        ),
        optax.chain(
            zo.scale_by_inverse_hessian(4, 0.1, damping=20.0, key=jax.random.key(1)),
            optax.scale(-2.0),
        ),
    ],
    ids=["adam", "momentum", "rms", "inverse-hessian"],
)
def test_descends_with(downstream):
    _, params, state = descend(optax.chain(estimator(), downstream), 30)
    assert bowl(params) < 0.1 * bowl(make_params())
    assert int(zo.num_queries(state)) >= 30 * 32


def test_weight_decay_reads_the_parameters():
    plain, _, _ = descend(estimator(), 1)
    decayed, _, _ = descend(optax.chain(estimator(), optax.add_decayed_weights(0.5)), 1)
    expected = jax.tree.map(lambda u, p: u + 0.5 * p, plain, make_params())
    assert_close(decayed, expected)


def test_momentum_sums_past_estimates():
    optimizer = optax.chain(estimator(), optax.trace(1.0))
    estimates, params = estimator(), make_params()
    state, inner = optimizer.init(params), estimates.init(params)
    total = jax.tree.map(jnp.zeros_like, params)

    @jax.jit
    def both(state, inner):
        alone = estimates.update(None, inner, params, value_fn=bowl)
        return optimizer.update(None, state, params, value_fn=bowl), alone

    for _ in range(2):
        (updates, state), (estimate, inner) = both(state, inner)
        total = jax.tree.map(jnp.add, total, estimate)
    assert_close(updates, total)


@pytest.mark.parametrize(
    "linesearch",
    [
        pytest.param(
            optax.scale_by_backtracking_linesearch(max_backtracking_steps=12),
            marks=pytest.mark.slow,
        ),
        optax.scale_by_zoom_linesearch(max_linesearch_steps=12),
    ],
    ids=["backtracking", "zoom"],
)
def test_line_searches_get_their_value_grad_and_value_fn(linesearch):
    """They share ``value`` with the estimator, and ``grad``, which it ignores, may come from zo."""
    value_and_grad = zo.value_and_grad(bowl, num_directions=32, radius=0.01, **PAIRS)

    def extra(params):
        value, gradient = value_and_grad(params, key=jax.random.key(5))
        return {"value": value, "grad": gradient}

    optimizer = optax.chain(estimator(num_directions=32), optax.scale(-1.0), linesearch)
    _, params, state = descend(optimizer, 10, extra=extra)
    assert bowl(params) < 0.1 * bowl(make_params())
    assert float(optax.tree.get(state, "value")) == pytest.approx(float(bowl(params)), abs=1e-5)


def test_apply_if_finite_rejects_a_bad_incoming_update():
    optimizer = optax.apply_if_finite(optax.chain(estimator(), optax.scale(-0.1)), 3)

    def bad(params):
        return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)

    first, _, state = descend(optimizer, 2, updates=bad)
    assert float(optax.tree.norm(first)) == 0 and int(zo.num_queries(state)) == 0
    _, params, state = descend(optimizer, 20)
    assert bowl(params) < 0.1 * bowl(make_params()) and int(zo.num_queries(state)) == 20 * 32


def test_multi_steps_averages_the_estimates():
    """Downstream of the estimator, where accumulation means something: mean of three rounds."""
    every_third = optax.MultiSteps(optax.identity(), 3).gradient_transformation()
    accumulated, estimates = optax.chain(estimator(), every_third), estimator()
    params, total = make_params(), 0.0
    state, inner = accumulated.init(params), estimates.init(params)
    step = jax.jit(lambda s: accumulated.update(ones_like(params), s, params, value_fn=bowl))
    single = jax.jit(lambda s: estimates.update(None, s, params, value_fn=bowl))
    for t in range(3):
        updates, state = step(state)
        estimate, inner = single(inner)
        total = total + estimate["w"] / 3
        assert t == 2 or float(optax.tree.norm(updates)) == 0
    np.testing.assert_allclose(updates["w"], total, rtol=1e-4, atol=1e-5)
    assert int(zo.num_queries(state)) == 3 * 32


@pytest.mark.parametrize("name", ["zo_gradient", "zo_newton", "zovh"])
def test_masked_and_partition_name_the_remedy(name):
    options = {"num_directions": 4, "radius": 0.1, "key": base_key()}
    if name != "zo_gradient":
        options["damping"] = 1.0
    if name == "zovh":
        options["learning_rate"] = 0.1
    inner, params = getattr(zo, name)(**options), make_params()
    message = r"params\['w'\] is an optax.MaskedNode.*zo.directions.masked\(directions, mask\)"
    with pytest.raises(TypeError, match=message):
        optax.masked(inner, {"b": True, "w": False}).init(params)
    labels = {"b": "ours", "w": "theirs"}
    with pytest.raises(TypeError, match=message):
        optax.partition({"ours": inner, "theirs": optax.set_to_zero()}, labels).init(params)


def test_masked_directions_freeze_leaves_instead():
    """The remedy works: value_fn sees all leaves, one of them gets exact zeros."""
    mask = {"b": False, "w": True}
    frozen = estimator(directions=zo.directions.masked(zo.directions.gaussian(), mask))
    first, params, _ = descend(optax.chain(frozen, optax.scale(-0.1)), 30)
    assert not first["b"].any() and first["w"].all()
    assert_close(params["b"], make_params()["b"], rtol=0, atol=0)
    np.testing.assert_allclose(params["w"], 0.5, atol=0.1)


def test_masked_is_fine_downstream():
    """optax.masked around what does not query: weight decay on one leaf."""
    decay = optax.masked(optax.add_decayed_weights(0.5), {"b": False, "w": True})
    updates, _, _ = descend(optax.chain(estimator(), decay), 1)
    plain, _, _ = descend(estimator(), 1)
    assert_close(updates["b"], plain["b"])
    assert_close(updates["w"], plain["w"] + 0.5 * make_params()["w"])
