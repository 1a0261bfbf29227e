"""Queries spread over eight devices; run by test_sharded_evaluator.py, results as JSON."""

import json
import math
import re
import sys
import traceback

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import zovh_jax as zo

KEY = jax.random.key(0)
SIZE = 32
W = jax.random.normal(jax.random.key(1), (SIZE, SIZE)) / SIZE**0.5
X = {"a": jax.random.normal(jax.random.key(2), (SIZE, 4)), "b": jnp.ones(4)}
gaussian, low_rank = zo.directions.gaussian(), zo.directions.low_rank()
ROUND = {"num_directions": 8, "radius": 0.1, "key": KEY}
OPTIMISERS = {
    "zoar": lambda e: zo.zoar(0.1, **ROUND, history_size=3, evaluate=e),
    "zo_sgd": lambda e: zo.zo_sgd(0.1, **ROUND, baseline=zo.baselines.origin(), evaluate=e),
    "mezo": lambda e: zo.mezo(0.1, radius=0.1, key=KEY, directions=low_rank, evaluate=e),
    "hizoo": lambda e: zo.hizoo(0.1, radius=0.1, key=KEY, evaluate=e),
    "scalar_newton": lambda e: zo.scalar_newton(8, 0.1, key=KEY, evaluate=e),
}
vmapped, chunked = zo.evaluators.vmapped, zo.evaluators.chunked
SECOND = ("zo_sgd", "hizoo", "gaussian", "explicit")
"""What others cover: measured where the script is called with "all"."""


def chosen(by_name):
    return {name: x for name, x in by_name.items() if name not in SECOND or "all" in sys.argv}


def objective(x):
    """A scan whose carry starts as a constant, as objectives have them."""
    h = jnp.tanh(W @ x["a"] + x["b"])
    return jax.lax.scan(lambda c, row: (c + jnp.sum(jnp.sin(row)), ()), 0.0, h)[0] / SIZE


def mesh_of(*shape, kind="Auto"):
    devices = np.array(jax.devices()[: math.prod(shape)]).reshape(shape)
    types = (getattr(AxisType, kind),) * len(shape)
    return Mesh(devices, ("q", "f")[: len(shape)], axis_types=types)


def sharded(*shape, inner=vmapped(), axis="q", reduce="replay"):
    return zo.evaluators.sharded(mesh_of(*shape), axis, inner, reduce)


def families(k):
    """All of them; where each device has several, those that differ in how they are drawn."""
    rows = jax.tree.map(lambda x: jax.random.normal(KEY, (k, *x.shape)), X)
    few = {
        "orthogonal": zo.directions.orthogonal(),
        "low_rank": low_rank,
    }
    if k > 8:
        return few
    more = {
        "explicit": zo.directions.explicit(rows),
        "gaussian": gaussian,
        "hadamard": zo.directions.hadamard(),
        "factored": zo.directions.hadamard(factored=True),
        "masked": zo.directions.masked(gaussian, {"a": True, "b": False}),
        "stored": gaussian,
    }
    return few | chosen(more)


def values(k, evaluate):
    """Of every family, with f(θ)."""

    @jax.jit
    def ask(x, key):
        out = {}
        for name, directions in families(k).items():
            options = {"num_directions": k, "radius": 0.1, "directions": directions}
            options |= {"evaluate": evaluate, "store_directions": name == "stored"}
            q = zo.query(objective, x, key, **options, stencil=zo.stencils.three_point())
            out[name] = (q.values, q.origin)
        return out

    return ask(X, KEY)


def difference(a, b):
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(
        float(np.max(np.abs(x - y) / np.maximum(1, np.abs(y))))
        for x, y in (map(np.asarray, pair) for pair in pairs)
    )


def values_of_families():
    return {
        f"{k} {name}": difference(own, alone[name])
        for k, inner in ((5, vmapped()), (16, chunked(2)))
        for alone in [values(k, inner)]
        for name, own in values(k, sharded(8, inner=inner)).items()
    }


def bitwise():
    """Pairs of examples' losses, with a key of each query's own, in blocks of one."""

    def loss(x, key):
        return objective(x) + jax.random.normal(key, (3,))

    def ask(evaluate):
        options = {"num_directions": 16, "radius": 0.1, "stencil": zo.stencils.central()}
        options |= {"reduce": "mean", "common_key": False, "evaluate": evaluate}
        return jax.jit(lambda x: zo.query(loss, x, KEY, **options).values)(X)

    alone = ask(chunked(1))
    return max(difference(ask(sharded(n, inner=chunked(1))), alone) for n in (1, 2, 8))


def start():
    return {
        name: (jax.tree.map(jnp.copy, X), make(vmapped()).init(X))
        for name, make in chosen(OPTIMISERS).items()
    }


def run_steps(evaluate):
    """A step of all optimisers, in a loop; what is put in is given away."""

    def step(carry, _):
        out = {}
        for name, (x, state) in carry.items():
            update = OPTIMISERS[name](evaluate).update
            updates, state = update(None, state, x, value_fn=objective)
            out[name] = (optax.apply_updates(x, updates), state)
        return out, ()

    loop = jax.jit(lambda carry: jax.lax.scan(step, carry, None, length=1)[0], donate_argnums=0)
    mesh = getattr(evaluate, "mesh", mesh_of(1))
    return lambda carry: loop(jax.device_put(carry, NamedSharding(mesh, P())))


def steps():
    """After two steps: those of the inner evaluator, of eight devices, of one and then eight."""
    one, eight = run_steps(vmapped()), run_steps(sharded(8))
    whole, spread, moved = one(one(start())), eight(eight(start())), eight(one(start()))
    trees = [jax.tree.structure(carry) for carry in (whole, spread, moved)]
    assert trees[0] == trees[1] == trees[2]
    return {
        f"{name} {how}": difference(carry[name][0], whole[name][0])
        for how, carry in (("on 8", spread), ("on 1, then 8", moved), ("at the start", start()))
        for name in whole
    }


COLLECTIVE = r"= (\(?[a-z0-9\[\],{} ]*?\)?) (?:all-\w+|reduce-scatter|collective-\w+)(?:-start)?\("


def exchanged(compiled):
    """Bytes of the results of all collectives in a compiled program."""
    total = 0
    for result in re.findall(COLLECTIVE, compiled.as_text()):
        for bits, shape in re.findall(r"[a-z](\d+)\[([\d,]*)\]", result):
            total += int(bits) // 8 * math.prod(int(n) for n in shape.split(",") if n)
    return total


def heavy(x):
    for _ in range(8):
        x = jnp.tanh(jnp.matmul(x, x))
    return jnp.sum(x)


def compiled_step(evaluate, k, f, x, origin=False):
    baseline = zo.baselines.origin() if origin else zo.baselines.mean()
    fast = zo.directions.gaussian(fast=True)
    options = {"num_directions": k, "radius": 0.1, "key": KEY, "directions": fast}
    optimiser = zo.zo_sgd(0.1, **options, baseline=baseline, evaluate=evaluate)
    step = jax.jit(lambda x, s: optimiser.update(None, s, x, value_fn=f))
    return step.lower(x, jax.jit(optimiser.init)(x)).compile()


def costs():
    """Operations of a device and bytes between devices, of steps of 16 queries."""
    x = jnp.ones((256, 256)) / 256

    def flops(compiled):
        return compiled.cost_analysis()["flops"]

    def reduce(x, values):
        plan = zo.Plan(KEY, zo.directions.gaussian(fast=True), num_directions=16, block_size=16)
        queries = zo.Queries.from_values(values, plan=plan, radius=0.1)
        return zo.estimators.gradient(queries, x)

    step = compiled_step(sharded(8), 16, heavy, x)
    return {
        "alone": flops(compiled_step(vmapped(), 16, heavy, x)),
        "sharded": flops(step),
        "reduction": flops(jax.jit(reduce).lower(x, jnp.ones(16)).compile()),
        "with origin": flops(compiled_step(sharded(8), 15, heavy, x, origin=True)),
        "bytes": exchanged(step),
    }


def added_up():
    """With sums of the devices' sums: two steps of 13 queries."""
    directions = {
        "gaussian": gaussian,
        "low_rank": low_rank,
        "orthogonal": zo.directions.orthogonal(),
    }

    def steps(evaluate):
        out = {}
        for name, family in directions.items():
            options = ROUND | {"num_directions": 13, "directions": family}
            optimiser = zo.zoar(0.1, **options, history_size=2, evaluate=evaluate)

            def step(carry, _, update=optimiser.update):
                x, state = carry
                updates, state = update(None, state, x, value_fn=objective)
                return (optax.apply_updates(x, updates), state), ()

            out[name] = jax.lax.scan(step, (X, optimiser.init(X)), length=2)[0][0]
        return out

    alone = jax.jit(lambda: steps(vmapped()))()
    spread = jax.jit(lambda: steps(sharded(8, inner=chunked(1), reduce="psum")))()
    return {
        "errors": {name: difference(spread[name], alone[name]) for name in directions},
        "moved": difference(alone["gaussian"], X),
    }


def costs_added_up():
    """Of a step of 16 queries, with sums of the devices' sums."""
    x = jnp.ones((256, 256)) / 256
    step = compiled_step(sharded(8, reduce="psum"), 16, heavy, x)
    return {
        "flops": step.cost_analysis()["flops"],
        "bytes": exchanged(step),
        "numbers": x.size,
    }


def with_split_params(kind):
    """On four by two devices: how it differs from the inner evaluator; bytes; the layout."""
    mesh, f = mesh_of(4, 2, kind=kind), lambda x: jnp.sum(jnp.sin(x)) / 64
    layout = NamedSharding(mesh, P(None, "f"))
    x = jnp.arange(64.0 * 64).reshape(64, 64) / 4096

    def run(x, evaluate):
        optimiser = zo.zoar(0.1, **ROUND, history_size=2, evaluate=evaluate)

        def step(x, state):
            updates, state = optimiser.update(None, state, x, value_fn=f)
            return optax.apply_updates(x, updates), state

        state = jax.jit(optimiser.init)(x)
        compiled = jax.jit(step, donate_argnums=(0, 1)).lower(x, state).compile()
        return *compiled(jnp.copy(x), state), compiled

    x = jax.device_put(x, layout)
    alone, *_ = run(x, chunked(1))
    got, _, compiled = run(x, zo.evaluators.sharded(mesh, "q", chunked(1)))
    return {
        "bytes": exchanged(compiled),
        "error": difference(got, alone),
        "moved": difference(got, x),
        "same layout": got.sharding.is_equivalent_to(layout, 2),
    }


def order():
    """Values k of directions k over two axes, in a loop; how often the objective is traced."""
    traces = []

    def f(x):
        traces.append(x)
        return jnp.sum(x)

    def ask(_, x):
        rows = zo.directions.explicit(jnp.arange(11.0)[:, None])
        options = {"num_directions": 11, "radius": 1.0, "directions": rows, "origin": True}
        evaluate = sharded(4, 2, inner=chunked(2), axis=("f", "q"))
        q = zo.query(f, x, None, **options, evaluate=evaluate)
        return (), (q.values, q.origin)

    values, origins = jax.jit(lambda xs: jax.lax.scan(ask, (), xs)[1])(jnp.zeros((2, 1)))
    return {"values": values.tolist(), "origins": origins.tolist(), "traces": len(traces)}


def in_shard_map():
    """Whose objective is the mean over parts of the data, which are split over the other axis."""
    data = jnp.arange(16.0).reshape(8, 2) / 8

    def ask(f, evaluate):
        return zo.query(f, jnp.ones(2), KEY, num_directions=6, radius=0.1, evaluate=evaluate).values

    def part(rows):
        return ask(
            lambda x: jax.lax.pmean(jnp.mean((rows - x) ** 2), "f"),
            zo.evaluators.sharded(mesh_of(4, 2), "q"),
        )

    options = {"in_specs": P("f"), "out_specs": P(), "check_vma": False}
    got = jax.jit(jax.shard_map(part, mesh=mesh_of(4, 2), **options))(data)
    return difference(got, ask(lambda x: jnp.mean((data - x) ** 2), vmapped()))


def whole_on_the_mesh(size, kind):
    """Structure and types of two steps, of an optimiser whose state has as many keys as b numbers.

    The layout of an Explicit mesh is part of all types, which a loop may not change.
    """
    mesh = mesh_of(size, kind=kind)
    x = jax.device_put(X, NamedSharding(mesh, P()))
    for evaluate in (vmapped(), zo.evaluators.sharded(mesh, "q")):
        optimiser = zo.zoar(0.1, **ROUND, history_size=4, evaluate=evaluate)

        def step(carry, _, update=optimiser.update):
            x, state = carry
            updates, state = update(None, state, x, value_fn=lambda x: jnp.sum(x["a"]))
            return (optax.apply_updates(x, updates), state), ()

        jax.eval_shape(lambda c, step=step: jax.lax.scan(step, c, length=2), (x, optimiser.init(x)))


def outside_jit():
    options = {"num_directions": 3, "radius": 0.1}
    q = zo.query(jnp.sum, jnp.ones(2), KEY, **options, evaluate=sharded(4, 2))
    return difference(q.values, zo.query(jnp.sum, jnp.ones(2), KEY, **options).values)


def run(call, *args):
    try:
        return {"result": call(*args)}
    except Exception:
        return {"error": traceback.format_exc()[-3000:]}


def main():
    results = {"costs": run(costs), "costs_added_up": run(costs_added_up)}
    # The rest is about numbers: compiled fast, not well.
    jax.config.update("jax_disable_most_optimizations", True)
    for kind in ("Auto", "Explicit"):
        results[f"split {kind}"] = run(with_split_params, kind)
        results[f"whole {kind}"] = run(whole_on_the_mesh, 8, kind)
    for call in (added_up, values_of_families, bitwise, steps, order, outside_jit, in_shard_map):
        results[call.__name__] = run(call)
    print(json.dumps(results))


if __name__ == "__main__":
    assert jax.device_count() == 8
    main()
