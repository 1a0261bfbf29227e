"""Measures on eight devices; run by test_devices.py in a process of its own, results as JSON."""

import functools
import json
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import zovh_jax as zo

KEY = jax.random.key(0)
SHAPE = (512, 512)
ROUND = {"num_directions": 4, "radius": 1e-2, "key": KEY}
FAST = {"directions": zo.directions.gaussian(fast=True)}
OPTIMISERS = {
    "zo_sgd": lambda: zo.zo_sgd(1e-3, **ROUND),
    "zo_sgd-chunked": lambda: zo.zo_sgd(1e-3, **ROUND, evaluate=zo.evaluators.chunked(2)),
    "zo_sgd-hadamard": lambda: zo.zo_sgd(1e-3, **ROUND, directions=zo.directions.hadamard()),
    "zoar": lambda: zo.zoar(1e-3, **ROUND, **FAST, history_size=3),
    "zovh": lambda: zo.zovh(1e-3, **ROUND, **FAST, damping=1.0, history_size=3),
    "mezo": lambda: zo.mezo(1e-3, radius=1e-2, key=KEY, **FAST),
    "radazo": lambda: zo.radazo(1e-3, **ROUND, **FAST),
    "zo_adamm": lambda: zo.zo_adamm(1e-3, **ROUND, **FAST),
    "zo_signsgd": lambda: zo.zo_signsgd(1e-3, **ROUND, **FAST),
    "rspg": lambda: zo.rspg(1e-3, **ROUND, **FAST),
    "hizoo": lambda: zo.hizoo(1e-3, radius=1e-2, key=KEY, **FAST),
    "spsa": lambda: zo.spsa(1e-3, radius=1e-2, key=KEY),
    "scalar_newton": lambda: zo.scalar_newton(4, 1e-2, key=KEY),
    "diagonal_newton": lambda: zo.diagonal_newton(4, 1e-2, key=KEY),
    "low_rank_newton": lambda: zo.low_rank_newton(4, 1e-2, key=KEY, rank=2),
    "quasi_newton": lambda: zo.quasi_newton(4, 1e-2, key=KEY, num_pairs=2),
}
SPECS = {"rows": P("d", None), "columns": P(None, "d")}


def f(x):
    return jnp.sum(jnp.square(x))


def mesh_of(kind):
    return jax.make_mesh((8,), ("d",), axis_types=(getattr(AxisType, kind),))


def params(kind, spec):
    return jax.device_put(jnp.ones(SHAPE), NamedSharding(mesh_of(kind), SPECS[spec]))


def cost(optimiser, x):
    """Temporary bytes and operations of a step, of one device."""
    state = jax.jit(optimiser.init)(x)
    step = jax.jit(lambda x, s: optimiser.update(None, s, x, value_fn=f))
    compiled = step.lower(x, state).compile()
    analysis = compiled.cost_analysis()
    return compiled.memory_analysis().temp_size_in_bytes, analysis["flops"]


@functools.cache
def alone(name):
    return cost(OPTIMISERS[name](), jnp.ones(SHAPE))


def share(name, kind, spec):
    """What a device has of the temporaries and of the operations of one alone."""
    split = cost(OPTIMISERS[name](), params(kind, spec))
    return [a / b for a, b in zip(split, alone(name), strict=True)]


def state_shares(name, kind, spec):
    """The largest part that a device has of a state leaf like params; eager and compiled init."""
    x, init = params(kind, spec), OPTIMISERS[name]().init
    shares = {}
    for how, state in (("eager", init(x)), ("compiled", jax.jit(init)(x))):
        like = [leaf for leaf in jax.tree.leaves(state) if leaf.shape[-2:] == SHAPE]
        parts = [leaf.addressable_shards[0].data.size / leaf.size for leaf in like]
        shares[how] = max(parts, default=0)
    return shares


def in_shard_map():
    """A query and its gradient, and an optimiser's step, with keys of each device's own."""
    mesh = mesh_of("Auto")

    def gradient(keys, x):
        queries = zo.query(f, x, keys[0], num_directions=4, radius=0.1)
        return jax.lax.pmean(zo.estimators.gradient(queries, x), "d")

    keys, x = jax.random.split(KEY, 8), jnp.arange(5.0)
    mapped = jax.shard_map(gradient, mesh=mesh, in_specs=(P("d"), P()), out_specs=P())

    @jax.jit
    def alone(key):
        return zo.estimators.gradient(zo.query(f, x, key, num_directions=4, radius=0.1), x)

    each = [alone(key) for key in keys]
    np.testing.assert_allclose(jax.jit(mapped)(keys, x), np.mean(each, 0), rtol=1e-4, atol=1e-4)


def step_in_shard_map(make):
    """A step whose objective is the mean over the devices' parts of the data."""
    mesh, data, x = mesh_of("Auto"), jnp.arange(16.0).reshape(8, 2), jnp.ones(2)
    optimiser = make()

    def loss(x, rows):
        return jnp.mean(jnp.square(rows / 8 - x))

    def step(rows, x, state):
        mean = lambda x: jax.lax.pmean(loss(x, rows), "d")  # noqa: E731
        return optimiser.update(None, state, x, value_fn=mean)[0]

    mapped = jax.shard_map(step, mesh=mesh, in_specs=(P("d"), P(), P()), out_specs=P())
    state = optimiser.init(x)
    alone = jax.jit(lambda x, s: optimiser.update(None, s, x, value_fn=lambda x: loss(x, data))[0])
    whole = alone(x, state)
    np.testing.assert_allclose(jax.jit(mapped)(data, x, state), whole, rtol=1e-3, atol=1e-5)


def same_numbers():
    """A split array draws what a whole one draws."""
    for directions in (zo.directions.gaussian(), zo.directions.hadamard()):
        draw = jax.jit(zo.Plan(KEY, directions, num_directions=2).draw)
        whole = np.asarray(draw(jnp.ones((16, 8))))
        for spec in SPECS.values():
            x = jax.device_put(jnp.ones((16, 8)), NamedSharding(mesh_of("Auto"), spec))
            np.testing.assert_allclose(draw(x), whole, rtol=1e-6, atol=1e-7)


def run(call, *args):
    try:
        return {"result": call(*args)}
    except Exception:
        return {"error": traceback.format_exc()[-3000:]}


def main(shard_map, few, many):
    """Measures the methods in ``many`` on both kinds of mesh, and those in ``few`` on one."""
    results = {}
    if shard_map == "shard_map":
        # These are about numbers: compiled fast, not well.
        jax.config.update("jax_disable_most_optimizations", True)
        results["shard_map query"] = run(in_shard_map)
        results["numbers"] = run(same_numbers)
        for name in ("zo_sgd", "zovh"):
            results[f"shard_map {name}"] = run(step_in_shard_map, OPTIMISERS[name])
        jax.config.update("jax_disable_most_optimizations", False)
    for kind, names in (("Auto", few + many), ("Explicit", many)):
        for name in names:
            # Either axis for the first; one after the other for the rest: compiling is what costs.
            specs = list(SPECS) if name == "zo_sgd" else [list(SPECS)[len(results) % 2]]
            for spec in specs:
                results[f"cost {name} {kind} {spec}"] = run(share, name, kind, spec)
            results[f"state {name} {kind}"] = run(state_shares, name, kind, "rows")
    print(json.dumps(results))


if __name__ == "__main__":
    assert jax.device_count() == 8
    what, few, many = sys.argv[1:]
    main(what, few.split(), many.split())
