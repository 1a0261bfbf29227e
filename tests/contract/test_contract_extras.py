"""What all have from their door: extras, a key, diagnostics, packing; one trace a transformation.

The whole runs under ``jax.debug_nans``, which nothing here may set off.
"""

import functools
import io
import pickle
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from registry import BY_ID, assert_equal, make_params, objective, ones_like

import zovh_jax as zo

DOORS = (
    *("gradient", "gradient-masked-stored-reuse", "gradient-three-chunked-reuse"),
    *("gradient-importance-masked-stored", "gradient-explicit-reuse"),
    *("precondition-woodbury-chunked-reuse", "zoar-adaptive", "zovh-chunked-reuse"),
    *("signsgd-votes-masked-mean", "mezo", "rspg-prox", "adamm-box-central"),
    *(
        "radazo-chunked-reuse",
        "hizoo-masked-chunked",
        "spsa2-ragged",
        "subspaces-coupled-chunked",
        "scalar",
    ),
    *("diagonal-masked-chunked", "spikes-three-masked-ragged"),
)
every_door = pytest.mark.parametrize("name", DOORS)
WITH_NAN = ("subspaces-coupled-chunked",)
"""Whose state marks with NaN what is not known."""


class Run(NamedTuple):
    case: Any
    params: Any
    states: list[Any]
    updates: list[Any]
    step: Any
    calls: list[Any]


@functools.cache
def run(name: str) -> Run:
    """Three steps from the same point, of an objective with an extra and a key."""
    case, params, calls = BY_ID[name], make_params(), []
    transformation = case.make()

    def noisy(params, weight, *, key):
        calls.append(1)
        return objective(params) + weight * jax.random.normal(key)

    @jax.jit
    def step(state, weight):
        return transformation.update(
            ones_like(params), state, params, value_fn=noisy, weight=weight, other=jnp.ones(3)
        )

    states, updates = [transformation.init(params)], []
    with jax.debug_nans(name not in WITH_NAN):
        for _ in range(3):
            update, state = step(states[-1], jnp.asarray(0.0))
            updates.append(update)
            states.append(state)
    return Run(case, params, states, updates, step, calls)


@every_door
def test_extras_are_passed_and_traced_once(name):
    """The objective gets what its signature names, and the same key for a whole round."""
    this = run(name)
    with jax.debug_nans(name not in WITH_NAN):
        _, moved = this.step(this.states[0], jnp.asarray(1e4))
        _, again = this.step(this.states[1], jnp.asarray(1e4))
    assert len(this.calls) == this.case.traces
    shifts = []
    for state, before in ((moved, this.states[1]), (again, this.states[2])):
        noisy, plain = zo.diagnostics(state), zo.diagnostics(before)
        shifts.append(float(noisy.value - plain.value))
        # Other keys within the round would spread the values by 1e4.
        assert abs(float(noisy.spread - plain.spread)) < 1
    assert abs(shifts[0]) > 1 and abs(shifts[0] - shifts[1]) > 1


@every_door
def test_diagnostics(name):
    this = run(name)
    for t, state in enumerate(this.states):
        d = zo.diagnostics(state)
        counts = [int(x) for x in d[4:]]
        assert counts == [this.case.spent(t) if t < 3 else counts[0], 0, 0, counts[3], 0]
        assert all(x.shape == () for x in d)
        if t:
            assert d.best_value <= d.value < jnp.inf and d.spread > 0
            assert jnp.isinf(d.origin) or jnp.allclose(d.origin, objective(this.params))
        else:
            assert all(jnp.isinf(x) for x in d[:3]) and d.spread == 0


def npz(arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    file.seek(0)
    return dict(np.load(file))


FORMATS = {
    "npz": lambda arrays, like: npz(arrays),
    "flax": lambda arrays, like: flax.serialization.from_bytes(
        like, flax.serialization.to_bytes(arrays)
    ),
    "pickle": lambda arrays, like: pickle.loads(pickle.dumps(arrays)),
}


@every_door
def test_resuming_from_a_file(name):
    """To the bit: what was packed goes on as if nothing had happened."""
    this = run(name)
    like = this.states[0]
    for round_trip in FORMATS.values():
        state = zo.unpack(like, round_trip(zo.pack(this.states[2]), zo.pack(like)))
        assert jax.tree.structure(state) == jax.tree.structure(this.states[2])
        assert_equal(state, this.states[2])
    updates, state = this.step(state, jnp.asarray(0.0))
    assert_equal(updates, this.updates[2])
    assert_equal(state, this.states[3])
    assert len(this.calls) == this.case.traces  # no other shapes, dtypes or weak types
