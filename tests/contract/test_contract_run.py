"""Three compiled steps of a case, and all that they tell without another compilation.

That is: queries, traces, extras, a key, diagnostics, packing. All of it under ``jax.debug_nans``.
"""

import io
import pickle

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
from registry import assert_equal, compiled_case, make_params, objective, ones_like

import zovh_jax as zo

WITH_NAN = (
    "subspaces-coupled-chunked",
    "subspaces-of-3-ragged",
    "sah",
    "newton-decoupled-discounted",
)
"""Whose state marks with NaN what is not known."""


class Run:
    """Three steps from the same point, of an objective with an extra and a key."""

    def __init__(self, case):
        self.case, self.params, self.traces, self.asked = case, make_params(), 0, 0
        transformation = case.make()

        def count(value):
            self.asked += np.size(value)

        def noisy(params, weight, *, key):
            self.traces += 1
            value = objective(params) + weight * jax.random.normal(key)
            jax.debug.callback(count, value)  # when the program runs, once for each element
            return value

        def step(state, weight):
            updates = ones_like(self.params)
            extras = {"weight": weight, "other": jnp.ones(3)}
            return transformation.update(updates, state, self.params, value_fn=noisy, **extras)

        self.compiled = jax.jit(step)
        self.states, self.updates = [transformation.init(self.params)], []
        self.num_asked = [0]
        for _ in range(3):
            update, state = self.step(self.states[-1])
            self.updates.append(update)
            self.states.append(state)
            self.num_asked.append(self.asked)

    def step(self, state, weight=0.0):
        with jax.debug_nans(self.case.id not in WITH_NAN):
            result = self.compiled(state, jnp.asarray(weight))
        jax.effects_barrier()
        return result


@compiled_case
def test_steps(case):
    run = Run(case)
    check_queries(run)
    check_updates(run)
    check_extras(run)
    check_diagnostics(run)
    check_resuming(run)
    assert run.traces == case.traces  # and so all of these steps were one program


def check_queries(run):
    """What was charged is what was asked."""
    for t in range(4):
        assert int(zo.num_queries(run.states[t])) == run.num_asked[t]
        assert t == 3 or run.num_asked[t] == run.case.spent(t)


def check_updates(run):
    """Steps move, and each its own way."""
    first, second = (
        np.concatenate([x.ravel() for x in jax.tree.leaves(u)]) for u in run.updates[:2]
    )
    assert np.isfinite([first, second]).all() and first.any() and second.any()
    assert np.any(first != second)
    assert float(optax.tree.norm(run.updates[2])) < np.inf


def check_extras(run):
    """The objective gets what its signature names, and the same key for a whole round."""
    shifts = []
    for before, plain in zip(run.states[:2], run.states[1:], strict=False):
        noisy, plain = zo.diagnostics(run.step(before, 1e4)[1]), zo.diagnostics(plain)
        shifts.append(float(noisy.value - plain.value))
        # Other keys within the round would spread the values by 1e4.
        assert abs(float(noisy.spread - plain.spread)) < 1
    assert abs(shifts[0]) > 1 and abs(shifts[0] - shifts[1]) > 1


def check_diagnostics(run):
    for t, state in enumerate(run.states):
        d = zo.diagnostics(state)
        counts = [int(x) for x in d[4:]]
        assert counts == [run.num_asked[t], 0, 0, counts[3], 0, 0]
        assert all(x.shape == () for x in d)
        if t:
            assert d.best_value <= d.value < jnp.inf and d.spread > 0
            known = ~jnp.isinf(d.origin) & (run.case.id != "boxed-chunked")  # around z, not θ
            assert not known or jnp.allclose(d.origin, objective(run.params))
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


def check_resuming(run):
    """To the bit: what was packed goes on as if nothing had happened."""
    like = run.states[0]
    for round_trip in FORMATS.values():
        state = zo.unpack(like, round_trip(zo.pack(run.states[2]), zo.pack(like)))
        assert jax.tree.structure(state) == jax.tree.structure(run.states[2])
        assert_equal(state, run.states[2])
    updates, state = run.step(state)
    assert_equal(updates, run.updates[2])
    assert_equal(state, run.states[3])
