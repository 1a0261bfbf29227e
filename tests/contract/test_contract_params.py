"""Parameters of every shape: containers, scalars, empty sub-trees, flax modules."""

import flax.linen as nn
import flax.nnx as nnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import REUSE, base_key, update_once

import zovh_jax as zo


def bowl(params):
    return sum((jnp.sum(jnp.square(x - 0.5)) for x in jax.tree.leaves(params)), jnp.zeros(()))


TREES = {
    "array": lambda: jnp.ones((2, 3)),
    "scalar": lambda: jnp.ones(()),
    "dict": lambda: {"a": jnp.ones(2), "b": {"c": jnp.ones((2, 2))}},
    "tuple": lambda: (jnp.ones(2), [jnp.ones(()), jnp.ones((1, 2))]),
    "empty-subtrees": lambda: {"a": jnp.ones(2), "none": None, "list": [], "dict": {"x": ()}},
    "empty-leaf": lambda: {"a": jnp.ones(2), "b": jnp.ones((0, 3))},
    "numpy": lambda: {"a": np.ones(2, np.float32)},
    "linen": lambda: nn.Dense(2).init(jax.random.key(0), jnp.ones((1, 3))),
    "nnx": lambda: nnx.state(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.Param),
}
TRANSFORMATIONS = {
    "gradient": lambda: zo.zo_gradient(8, 0.01, key=base_key(), **REUSE),
    "sphere": lambda: zo.zo_gradient(8, 0.01, key=base_key(), directions=zo.directions.sphere()),
    "rademacher": lambda: zo.zo_gradient(
        8, 0.01, key=base_key(), directions=zo.directions.rademacher()
    ),
    "orthogonal": lambda: zo.zo_gradient(
        8, 0.01, key=base_key(), directions=zo.directions.orthogonal()
    ),
    "newton": lambda: zo.zo_newton(8, 0.01, damping=1.0, key=base_key(), **REUSE),
    "leaf": lambda: zo.zo_newton(8, 0.01, damping=1.0, key=base_key(), structure="leaf"),
    "scale": lambda: zo.scale_by_inverse_hessian(
        8, 0.01, damping=1.0, key=base_key(), solver=zo.solvers.woodbury()
    ),
}


@pytest.mark.parametrize(
    ("name", "tree"),
    [
        pytest.param(
            name, tree, marks=[] if name == "gradient" or tree == "all" else [pytest.mark.slow]
        )
        for name in TRANSFORMATIONS
        for tree in (*TREES, "all")
    ],
)
def test_updates_are_trees_like_params(tree, name):
    """Every tree with one of them; all trees as one, traced once, with each."""
    params = {name: make() for name, make in TREES.items()} if tree == "all" else TREES[tree]()
    transformation = TRANSFORMATIONS[name]()

    def two_steps(params):
        state = transformation.init(params)
        _, state = update_once(transformation, params, state, bowl)
        return update_once(transformation, params, state, bowl)[0]

    updates = jax.eval_shape(two_steps, params)
    assert jax.tree.structure(updates) == jax.tree.structure(params)
    for u, p in zip(jax.tree.leaves(updates), jax.tree.leaves(params), strict=True):
        assert (u.shape, u.dtype) == (p.shape, p.dtype)


@pytest.mark.parametrize(
    "tree",
    [
        *("scalar", "nnx"),
        pytest.param("tuple", marks=pytest.mark.slow),
        pytest.param("empty-leaf", marks=pytest.mark.slow),
    ],
)
def test_descends_on(tree):
    params = TREES[tree]()
    optimizer = zo.zo_sgd(
        0.05, num_directions=16, radius=0.01, key=base_key(), stencil=zo.stencils.central()
    )
    step = jax.jit(lambda p, s: optimizer.update(None, s, p, value_fn=bowl))
    start, state = bowl(params), optimizer.init(params)
    for _ in range(20):
        updates, state = step(params, state)
        params = optax.apply_updates(params, updates)
    assert bowl(params) < 0.1 * start


INPUTS = jnp.linspace(-1, 1, 24).reshape(8, 3)
TARGETS = jnp.stack([INPUTS.sum(-1), INPUTS[:, 0] - INPUTS[:, 2]], -1)


def fit(loss, params, num_steps=150):
    """Loss before and after, all steps in one scan."""
    optimizer = optax.chain(
        zo.zo_gradient(16, 0.01, key=base_key(), stencil=zo.stencils.central()), optax.adam(0.05)
    )

    def body(carry, _):
        params, state = carry
        updates, state = optimizer.update(None, state, params, value_fn=loss)
        return (optax.apply_updates(params, updates), state), None

    carry = (params, optimizer.init(params))
    (fitted, _), _ = jax.jit(lambda c: jax.lax.scan(body, c, length=num_steps))(carry)
    return float(loss(params)), float(loss(fitted))


def test_trains_a_linen_module():
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.Dense(2)(nn.tanh(nn.Dense(4)(x)))

    net = Net()

    def loss(params):
        return jnp.mean(jnp.square(net.apply(params, INPUTS) - TARGETS))

    before, after = fit(loss, net.init(jax.random.key(0), INPUTS))
    assert after < 0.1 * before


def test_trains_an_nnx_module():
    """Only nnx.Param is optimised; the other state stays outside, closed over by value_fn."""
    model = nnx.Sequential(
        nnx.Linear(3, 4, rngs=nnx.Rngs(0)),
        nnx.BatchNorm(4, rngs=nnx.Rngs(1)),
        jnp.tanh,
        nnx.Linear(4, 2, rngs=nnx.Rngs(2)),
    )
    model.eval()
    graph, params, rest = nnx.split(model, nnx.Param, ...)

    def loss(params):
        return jnp.mean(jnp.square(nnx.merge(graph, params, rest)(INPUTS) - TARGETS))

    before, after = fit(loss, params)
    assert after < 0.1 * before
