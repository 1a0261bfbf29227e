"""Frozen leaves of any dtype beside perturbed ones of any shape: objective, updates, state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import base_key

import zovh_jax as zo

PARAMS = {
    "bool": jnp.array([True, False]),
    "float8": jnp.array([0.5, 2.0], jnp.float8_e4m3fn),
    "int8": jnp.array([[1, -2, 3]], jnp.int8),
    "keys": jax.random.split(jax.random.key(5), 2),
    "number": 0.5,
    "uint32": jnp.array([2**24 + 1, 2**32 - 1], jnp.uint32),
    "w": jnp.array([0.4, -1.0, 0.3, 0.8]),
    "x": jnp.array([[1.0], [0.5]], jnp.bfloat16),
    "zero": jnp.zeros((0, 3)),
}
ACTIVE = ("number", "w", "x", "zero")
MASK = {name: name in ACTIVE for name in PARAMS}
FROZEN = {"directions": zo.directions.masked(zo.directions.gaussian(), MASK)}
ROUND = {"num_directions": 8, "radius": 0.1, "key": base_key()}
OPTIMISERS = {
    "zo_sgd": lambda: zo.zo_sgd(0.05, **ROUND, **FROZEN),
    "zoar": lambda: zo.zoar(0.05, **ROUND, **FROZEN, history_size=2),
    "zoar-importance": lambda: zo.zoar(
        0.05, **ROUND, **FROZEN, history_size=2, reuse=zo.reuse.importance(), store_directions=True
    ),
    "zovh": lambda: zo.zovh(0.05, **ROUND, **FROZEN, damping=50.0, history_size=2),
    "hizoo": lambda: zo.hizoo(0.05, **ROUND, **FROZEN),
    "scalar_newton": lambda: zo.scalar_newton(**ROUND, **FROZEN),
    "diagonal_newton": lambda: zo.diagonal_newton(**ROUND, **FROZEN),
    "low_rank_newton": lambda: zo.low_rank_newton(**ROUND, mask=MASK),
    "quasi_newton": lambda: zo.quasi_newton(**ROUND, mask=MASK),
    "radazo": lambda: zo.radazo(0.05, **ROUND, **FROZEN),
    "zo_adamm": lambda: zo.zo_adamm(0.05, **ROUND, **FROZEN),
    "zo_signsgd": lambda: zo.zo_signsgd(0.05, **ROUND, **FROZEN, majority_vote=True),
    "rspg": lambda: zo.rspg(0.05, **ROUND, **FROZEN),
    "mezo": lambda: zo.mezo(0.05, **ROUND, **FROZEN),
    "spsa": lambda: zo.spsa(0.05, **ROUND, mask=MASK),
    "spsa2": lambda: zo.spsa2(0.05, **ROUND, mask=MASK),
    "scale_by_inverse_hessian": lambda: zo.scale_by_inverse_hessian(**ROUND, **FROZEN, damping=5.0),
}


def plain(x):
    """What can be compared: a key as its integers."""
    return jax.random.key_data(x) if is_key(x) else jnp.asarray(x)


def assert_frozen(params):
    for name in set(PARAMS) - set(ACTIVE):
        x, y = plain(params[name]), plain(PARAMS[name])
        assert params[name].dtype == PARAMS[name].dtype, name
        np.testing.assert_array_equal(np.asarray(x).astype(float), np.asarray(y).astype(float))


def f(p):
    """Uses every leaf as what it is; NaN as soon as a frozen one has moved."""
    still = jnp.all(p["bool"] == PARAMS["bool"]) & jnp.all(p["int8"] == PARAMS["int8"])
    still &= jnp.all(plain(p["keys"]) == plain(PARAMS["keys"])) & jnp.all(
        p["uint32"] == PARAMS["uint32"]
    )
    still &= jnp.all(p["float8"].astype(float) == jnp.array([0.5, 2.0]))
    assert p["int8"].dtype == jnp.int8 and p["float8"].dtype == jnp.float8_e4m3fn
    scale = jnp.abs(p["int8"].astype(float)).sum() / 6 + jax.random.uniform(p["keys"][0]) / 10
    moving = [jnp.asarray(p[name], float) for name in ACTIVE]
    return jnp.where(still, sum(scale * jnp.sum(jnp.square(x - 0.1)) for x in moving), jnp.nan)


def is_key(x):
    return jnp.issubdtype(jnp.result_type(x), jax.dtypes.prng_key)


def zero(x):
    return jnp.zeros(()) if is_key(x) else jnp.zeros_like(x)


def after(params, updates):
    """The step; a key has nothing that can be added to it, and its update is a scalar zero."""
    for name, u in updates.items():
        assert u.shape == (() if is_key(params[name]) else jnp.shape(params[name])), name
        assert u.dtype == params[name].dtype or name not in ACTIVE, name
    numbers = [{k: x for k, x in t.items() if k != "keys"} for t in (params, updates)]
    return {**params, **optax.apply_updates(*numbers)}


OTHERS = [
    "zo_sgd",
    "zoar",
    "zovh",
    "scalar_newton",
    "quasi_newton",
    "radazo",
    "zo_signsgd",
    "rspg",
    "mezo",
    "spsa",
]
"""Those with a state like that of another one here."""
TRACED = ["zo_adamm", "spsa2", "scale_by_inverse_hessian", "diagonal_newton"]
"""Those whose steps freeze leaves as another one's here do."""


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] if n in OTHERS + TRACED else []) for n in OPTIMISERS],
)
def test_optimisers(name):
    """Three steps in a scan: the state keeps its types, frozen leaves stay, the others move.

    Of `TRACED` by default only that: the types, which need no compilation.
    """
    check(name)


@pytest.mark.parametrize("name", TRACED)
def test_types_of_optimisers(name):
    check(name, only_types=True)


def check(name, only_types=False):
    optimiser = OPTIMISERS[name]()
    params = {**PARAMS, "number": jnp.asarray(0.5)}
    eager = optimiser.init(PARAMS)
    assert jax.tree.structure(eager) == jax.tree.structure(optimiser.init(params))

    def step(carry, _):
        params, state = carry
        incoming = {k: jnp.ones_like(x) if MASK[k] else zero(x) for k, x in params.items()}
        updates, state = optimiser.update(incoming, state, params, value_fn=f)
        assert jax.tree.structure(updates) == jax.tree.structure(params)
        return (after(params, updates), state), updates

    scan = jax.jit(lambda carry: jax.lax.scan(step, carry, length=3))
    if only_types:
        scan.eval_shape((params, eager))
        return
    (last, state), updates = scan((params, eager))
    assert_frozen(last)
    for leaf in set(PARAMS) - set(ACTIVE):
        assert not np.any(np.asarray(updates[leaf]).astype(float)), leaf
    for leaf in ("number", "w"):
        assert np.all(np.isfinite(updates[leaf])) and np.any(updates[leaf] != 0), leaf
    assert sum(n for _, n in optax.tree.get_all_with_path(state, "num_nonfinite")) == 0


@pytest.mark.parametrize(
    "evaluate",
    [pytest.param(zo.evaluators.vmapped(), marks=pytest.mark.slow), zo.evaluators.chunked(2)],
)
def test_queries_and_plans(evaluate):
    """Python numbers and empty leaves are perturbed as arrays are; what is frozen draws zeros."""

    @jax.jit
    def ask(key):
        queries = zo.query(
            f, PARAMS, key, num_directions=5, radius=0.1, evaluate=evaluate, **FROZEN
        )
        return queries, queries.plan.draw(PARAMS), zo.estimators.gradient(queries, PARAMS)

    queries, drawn, gradient = ask(base_key())
    assert np.all(np.isfinite(queries.values)) and np.std(queries.values) > 0
    for name, u in drawn.items():
        assert u.shape == (5, *np.shape(PARAMS[name]))
        assert np.any(u != 0) == (MASK[name] and u.size > 0), name
    assert gradient["number"].shape == () and gradient["zero"].shape == (0, 3)
    assert gradient["int8"].dtype == jnp.int8


@pytest.mark.parametrize(
    "directions",
    ["gaussian", "sphere", "rademacher", "orthogonal", "hadamard"],
)
def test_empty_leaves_and_numbers(directions):
    """In every family; nothing but zero-size leaves has no value, and no NaN."""
    family = getattr(zo.directions, directions)()
    tree = {"n": 1.0, "none": jnp.zeros((3, 0)), "v": jnp.ones(3)}

    @jax.jit
    def ask(key):
        plan = zo.Plan(key, family, num_directions=3)
        layout = plan.layout(tree)
        return plan.draw(tree), plan.squared_norms(layout), plan.gram(layout).sum(-1)

    drawn, squares, gram = ask(base_key())
    assert drawn["none"].shape == (3, 3, 0) and drawn["n"].shape == (3,)
    u = np.concatenate([drawn["n"][:, None], drawn["v"]], 1)
    np.testing.assert_allclose(squares, np.sum(u**2, 1), rtol=1e-5)
    np.testing.assert_allclose(gram, u @ u.T, rtol=1e-4, atol=1e-5)


def test_frozen_leaves_are_named_when_they_are_not():
    for leaf in ("bool", "int8", "keys", "uint32"):
        mask = {**MASK, leaf: True}
        directions = zo.directions.masked(zo.directions.gaussian(), mask)
        with pytest.raises(TypeError, match=rf"params\['{leaf}'\] has dtype"):
            zo.zo_sgd(0.05, **ROUND, directions=directions).init(PARAMS)
