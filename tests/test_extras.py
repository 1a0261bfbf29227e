"""The door of the transformations: extras, misspellings, wrappers, other states, derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

X = jnp.ones(6)


def f(x, l2=0.0):
    return jnp.sum(jnp.square(x - 2)) + l2 * jnp.sum(jnp.square(x))


def key():
    return jax.random.key(0)


def zoar(**options):
    return zo.zoar(
        **{"learning_rate": 0.1, "num_directions": 4, "radius": 0.1, "key": key(), **options}
    )


def plain(**options):
    return zoar(history_size=1, **options)


def update(optimizer, value_fn=f, params=X, state=None, **extra):
    state = optimizer.init(params) if state is None else state
    step = jax.jit(lambda s: optimizer.update(None, s, params, value_fn=value_fn, **extra))
    return step(state)


def traced(optimizer, value_fn=f, state=None, **extra):
    """As `update`, in shapes: for what is refused or not."""
    state = optimizer.init(X) if state is None else state
    return jax.eval_shape(lambda s: optimizer.update(None, s, X, value_fn=value_fn, **extra), state)


# Extras.


@functools.cache
def far():
    return update(plain(), lambda x: f(x, 100.0))[0]


@functools.cache
def near():
    return update(plain())[0]


@pytest.mark.parametrize(
    "value_fn",
    [
        f,
        jax.jit(f),
        lambda x, *rest, l2: f(x, l2),
        functools.partial(f, l2=1.0),
        lambda x, other=1.0, *, l2=1.0: f(x, l2),
    ],
    ids=["function", "jitted", "keyword", "partial", "two"],
)
def test_extras_reach_the_objective(value_fn):
    got, _ = update(plain(), value_fn, l2=100.0)
    np.testing.assert_allclose(got, far(), rtol=1e-5)


def test_extras_that_it_does_not_name_are_ignored():
    got, _ = update(plain(), lambda x, **rest: f(x, **rest), l2=100.0, grad=X, temperature=1.0)
    np.testing.assert_array_equal(got, near())


def test_params_are_not_an_extra():
    """The first parameter is θ, whatever its name."""
    got, _ = update(plain(), lambda weights: f(weights), weights=3.0)
    np.testing.assert_array_equal(got, near())


def keys_seen(value_fn_of, num_steps=2, **extra):
    """The keys that an objective got, a set for each step."""
    optimizer, seen, steps = plain(stencil=zo.stencils.three_point()), [], []
    value_fn = value_fn_of(lambda k: seen.append(tuple(np.asarray(k).tolist())))
    step = jax.jit(lambda s: optimizer.update(None, s, X, value_fn=value_fn, **extra)[1])
    state = optimizer.init(X)
    for _ in range(num_steps):
        seen.clear()
        state = step(state)
        jax.effects_barrier()
        steps.append(set(seen))
    return steps, state


def reporting(note):
    def value_fn(x, key):
        jax.debug.callback(note, jax.random.key_data(key))
        return f(x)

    return value_fn


def test_a_key_for_each_round():
    """One for all queries of a round, another in the next, and never one of the directions'."""
    (first, second), state = keys_seen(reporting)
    assert len(first) == len(second) == 1 and first != second
    own = jax.random.key_data(
        jax.vmap(lambda t: jax.random.fold_in(state[0].key, t))(jnp.arange(9))
    )
    assert not (first | second) & set(map(tuple, np.asarray(own).tolist()))


def test_a_key_of_the_callers_comes_first():
    mine = jax.random.key(5)
    steps, _ = keys_seen(reporting, key=mine)
    expected = tuple(np.asarray(jax.random.key_data(mine)).tolist())
    assert steps == [{expected}] * 2


def test_a_key_that_is_bound_already_stays():
    mine = jax.random.key(5)

    def bound(note):
        return functools.partial(reporting(note), key=mine)

    steps, _ = keys_seen(bound, 1)
    assert steps == [{tuple(np.asarray(jax.random.key_data(mine)).tolist())}]


@pytest.mark.parametrize(
    ("extra", "meant"), [("values", "value"), ("l_2", "l2"), ("val", "value"), ("batchs", "batch")]
)
def test_misspellings(extra, meant):
    with pytest.raises(TypeError, match=rf"{extra}=.*did you mean {meant}=\?"):
        update(plain(), lambda x, l2=0.0, batch=None: f(x), **{extra: 1.0})


def test_a_parameter_that_nothing_fills():
    with pytest.raises(TypeError, match=r"zo_gradient: value_fn has a parameter batch.*batch=…"):
        traced(plain(), lambda x, batch: f(x, batch))


def test_a_misspelt_objective():
    with pytest.raises(TypeError, match=r"value_func=.*did you mean value_fn=\?"):
        plain().update(None, plain().init(X), X, value_func=f)


def test_no_misspelling():
    """What it looks like was passed too, or optax knows it."""
    traced(plain(), lambda x, alpha=0.0, grads=None: f(x), alpha=1.0, alpha2=1.0, grad=X)
    traced(plain(), value=f(X), values=X)


# Wrappers.


def test_multi_steps_around_the_whole_raises_and_its_remedy_works():
    around = optax.MultiSteps(zo.zo_sgd(0.1, num_directions=8, radius=0.1, key=key()), 3)
    with pytest.raises(TypeError, match=r"MultiSteps around zo_gradient.*optax.chain\(zo.zo_grad"):
        around.init(X)
    estimator = zo.zo_gradient(8, 0.1, key=key())
    inside = optax.MultiSteps(optax.sgd(0.1), 3).gradient_transformation()
    optimizer = optax.chain(estimator, inside)
    state, total, inner = optimizer.init(X), 0.0, estimator.init(X)
    step, estimate_of = (
        jax.jit(lambda s, o=o: o.update(None, s, X, value_fn=f)) for o in (optimizer, estimator)
    )
    for _ in range(3):
        updates, state = step(state)
        estimate, inner = estimate_of(inner)
        total += np.asarray(estimate)
    np.testing.assert_allclose(updates, -0.1 * total / 3, rtol=1e-5)
    # A state that was made elsewhere doesn't help.
    bad = optax.MultiSteps(plain(), 3)
    made = optax.MultiSteps(optax.sgd(0.1), 3).init(X)._replace(inner_opt_state=plain().init(X))
    with pytest.raises(TypeError, match="MultiSteps around zo_gradient"):
        bad.update(X, made, X, value_fn=f)


WRAPPERS = {
    "apply_if_finite": lambda o: optax.apply_if_finite(o, 3),
    "conditionally_mask": lambda o: optax.transforms.conditionally_mask(o, lambda step: step >= 0),
    "conditionally_transform": lambda o: optax.transforms.conditionally_transform(
        o, lambda step: step >= 0
    ),
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_wrappers_that_compare_updates(name):
    """They look at the incoming updates themselves: zeros work, and None names the remedy."""
    optimizer = WRAPPERS[name](plain())
    state = optimizer.init(X)
    got, _ = jax.jit(lambda s: optimizer.update(jnp.zeros(6), s, X, value_fn=f))(state)
    np.testing.assert_allclose(got, near(), rtol=1e-5)
    with pytest.raises(TypeError, match=rf"{name} around zo_gradient.*optax.tree.zeros_like"):
        optimizer.update(None, state, X, value_fn=f)


def test_none_works_in_a_cond_of_ones_own():
    optimizer = plain()
    state = optimizer.init(X)

    @jax.jit
    def step(state, on):
        zeros = optax.tree.zeros_like(X)
        return jax.lax.cond(on, lambda s: update(optimizer, state=s), lambda s: (zeros, s), state)

    assert step(state, True)[0].any() and not step(state, False)[0].any()


# States of other things, and one of the same by other names.


def test_flax_optimizer():
    """It passes variables to ``init``, and their values to ``update``."""
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    graph, _ = nnx.split(model)
    optimizer = nnx.Optimizer(model, zoar(), wrt=nnx.Param)
    batch = jax.random.normal(key(), (8, 3))

    def loss(params, batch):
        return jnp.mean(jnp.square(nnx.merge(graph, params)(batch) - 1.0))

    step = nnx.jit(lambda model, optimizer, batch: optimizer.update(
        model, None, value_fn=loss, batch=batch
    ))  # fmt: skip
    first = loss(nnx.state(model), batch)
    for _ in range(3):
        step(model, optimizer, batch)
    assert loss(nnx.state(model), batch) < first
    assert int(optimizer.step[...]) == 3


def other_params(shape=(7,)):
    return jnp.ones(shape)


STATES = {
    "shape": (zoar(), lambda: zoar().init(other_params()), r"shape \(6,\).*made for \(7,\)"),
    "no history": (
        zoar(history_size=1), lambda: zoar(history_size=1).init(other_params()),
        r"shape \(6,\).*made for \(7,\)",
    ),
    "structure": (
        zoar(), lambda: zoar().init({"a": X}), r"params is not among the leaves",
    ),
    "more leaves": (zoar(), lambda: zoar().init([X, X]), r"params is not among the leaves"),
    "directions": (
        zoar(), lambda: zoar(num_directions=8).init(X),
        r"rounds.values should have shape \(4, 4\) and has shape \(4, 8\)",
    ),
    "rounds": (zoar(), lambda: zoar(history_size=3).init(X), r"should have shape \(4,\)"),
    "no reuse": (zoar(), lambda: zoar(history_size=1).init(X), "no such array"),
    "reuse": (zoar(history_size=1), lambda: zoar().init(X), "should have no such array"),
    "stencil": (
        zoar(), lambda: zoar(stencil=zo.stencils.central()).init(X), r"has shape \(4, 4, 2\)",
    ),
    "another transformation": (
        zo.zo_gradient(4, 0.1, key=key()), lambda: optax.scale(1.0).init(X), "not its state",
    ),
}  # fmt: skip


@pytest.mark.parametrize("jitted", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", STATES)
def test_a_state_of_something_else_is_refused(name, jitted):
    optimizer, make, message = STATES[name]
    state = make()

    def step(state):
        return optimizer.update(None, state, X, value_fn=f)

    with pytest.raises(ValueError, match=message):
        (jax.jit(step) if jitted else step)(state)


def test_a_newton_state_of_another_k_is_refused():
    of_8, of_4 = (zo.scalar_newton(k, 0.1, key=key()) for k in (8, 4))
    with pytest.raises(ValueError, match=r"scalar_newton: .*coefficients should have shape \(4,\)"):
        update(of_4, state=of_8.init(X))


def test_a_history_of_another_round_is_refused():
    history = zo.History.init(X, size=2, num_directions=4)
    with pytest.raises(ValueError, match=r"num_directions=4.*num_directions=3"):
        history.push(zo.query(f, X, key(), num_directions=3, radius=0.1))


def test_shapes_pass_what_states_pass():
    """Copies, stacks, other evaluators: a state is refused for its parameters and sizes alone."""
    state = update(zoar())[1]
    traced(zoar(evaluate=zo.evaluators.chunked(1)), state=state)
    stacked = jax.tree.map(lambda *x: jnp.stack(x), state, state)
    updates, _ = jax.eval_shape(jax.vmap(lambda s: update(zoar(), state=s)), stacked)
    assert updates.shape == (2, 6)
    optax.tree.map_params(zoar(), lambda x: x, state)
    assert hash(state[0].shapes) == hash(zoar().init(other_params())[0].shapes)
    assert state[0].shapes != zoar().init(other_params())[0].shapes
    assert state[0].shapes != 1


# Autodiff.


def test_values_are_constants_to_autodiff():
    """No derivative of an update is one of the objective; the learning rate's is right."""

    @jax.custom_jvp
    def no_derivative(x):
        return jnp.sum(jnp.square(x))

    @no_derivative.defjvp
    def _(primals, tangents):
        raise AssertionError("value_fn was differentiated")

    def after(params, rate, radius, weight):
        optimizer = zoar(learning_rate=rate, radius=radius, reuse=zo.reuse.importance())
        updates, _ = optimizer.update(
            None, optimizer.init(params), params, value_fn=lambda x: weight * no_derivative(x)
        )
        return jnp.sum(optax.apply_updates(params, updates))

    after = jax.jit(after)
    slopes = jax.jit(jax.grad(after, (0, 1, 2, 3)))(X, 0.1, 0.1, 1.0)
    for_params, for_rate, for_radius, for_weight = slopes
    np.testing.assert_array_equal(for_params, jnp.ones(6))  # those of params + updates
    moved = after(X, 0.2, 0.1, 1.0) - after(X, 0.1, 0.1, 1.0)
    np.testing.assert_allclose(for_rate, moved / 0.1, rtol=1e-4)
    assert for_radius == 0 and for_weight == 0


def test_damping_has_a_derivative():
    @jax.jit
    @jax.value_and_grad
    def step(damping):
        newton = zo.zo_newton(4, 0.1, damping=damping, key=key())
        return jnp.sum(newton.update(None, newton.init(X), X, value_fn=f)[0])

    slope = (step(5.1)[0] - step(4.9)[0]) / 0.2
    np.testing.assert_allclose(step(5.0)[1], slope, rtol=1e-2)


# Numbers.

RATES = {
    "zo_sgd": zo.zo_sgd,
    "zoar": zo.zoar,
    "zovh": functools.partial(zo.zovh, damping=1.0),
    "radazo": zo.radazo,
    "zo_adamm": zo.zo_adamm,
    "zo_signsgd": zo.zo_signsgd,
    "mezo": zo.mezo,
    "rspg": zo.rspg,
    "fzoo": zo.fzoo,
    "hizoo": zo.hizoo,
    "zoha": functools.partial(zo.zoha, damping=1.0),
    "spsa": zo.spsa,
    "spsa2": zo.spsa2,
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rates(name):
    make = functools.partial(RATES[name], num_directions=4, radius=0.1, key=key())
    for rate in (None, float("nan"), float("inf"), -1.0, "0.1", True, np.array(-1.0)):
        with pytest.raises(ValueError, match="learning_rate must be a number in"):
            make(rate)
    for rate in (0, 0.0, 0.1, np.float32(0.1), jnp.asarray(0.1), optax.constant_schedule(0.1)):
        make(rate)


FACTORIES = [
    each
    for name in zo.__all__
    if callable(each := getattr(zo, name)) and "key" in getattr(each, "__annotations__", ())
    if "radius" in each.__annotations__ and each not in (zo.query, zo.laplace)
]
MORE = {"learning_rate": 0.1, "damping": 1.0, "num_directions": 4, "num_subspaces": 2}


def arguments(factory):
    wanted = factory.__annotations__
    return {"radius": 0.1, "key": key()} | {k: v for k, v in MORE.items() if k in wanted}


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda x: x.__name__)
def test_static_args(factory):
    """All that is not static can be injected, and what can vary is."""
    static = zo.static_args(factory)
    make = optax.inject_hyperparams(factory, static_args=static)
    optimizer = make(**arguments(factory))
    state = optimizer.init(X)
    assert {"radius"} <= set(state.hyperparams)
    assert ("learning_rate" in state.hyperparams) == ("learning_rate" in factory.__annotations__)
    assert not {"num_directions", "key", "evaluate", "history_size"} & set(state.hyperparams)
    jax.eval_shape(lambda s: optimizer.update(X, s, X, value_fn=f), state)


def test_static_args_of_something_else():
    with pytest.raises(TypeError, match=r"one of the library's factories.*got 3"):
        zo.static_args(3)


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda x: x.__name__)
def test_what_all_factories_take(factory):
    assert {"evaluate", "key", "radius"} <= set(factory.__annotations__)
    for number in (float("nan"), 0.0, -1.0, float("inf"), None):
        with pytest.raises(ValueError, match="radius"):
            factory(**{**arguments(factory), "radius": number})
    if {"history_size", "directions"} <= set(factory.__annotations__):
        assert {"reuse", "store_directions"} <= set(factory.__annotations__)


# Leaves.

LEAVES = {
    "numpy": np.array([0.5, 2.0, 1.0]),
    "matrix": np.ones((2, 2)),
    "python": 0.5,
    "empty": jnp.zeros((0, 3)),
    "x": jnp.ones(6),
}


@pytest.mark.parametrize("factory", FACTORIES, ids=lambda x: x.__name__)
def test_leaves_of_other_kinds(factory):
    """Float64 of numpy without a warning, Python floats, no elements: in loops too."""
    optimizer = factory(**arguments(factory))

    def value_fn(params):
        return sum(jnp.sum(jnp.square(x)) for x in jax.tree.leaves(params))

    updates = jax.tree.map(jnp.ones_like, LEAVES)

    def body(state, _):
        return optimizer.update(updates, state, LEAVES, value_fn=value_fn)[::-1]

    state = optimizer.init(LEAVES)
    after, emitted = jax.eval_shape(lambda s: jax.lax.scan(body, s, length=2), state)
    assert jax.tree.structure(after) == jax.tree.structure(state)
    assert jax.tree.map(lambda x: x.shape[1:], emitted) == jax.tree.map(jnp.shape, LEAVES)


def test_steps_on_leaves_of_other_kinds():
    optimizer = zo.zovh(0.1, num_directions=4, radius=0.1, damping=1.0, key=key(), history_size=2)
    step = jax.jit(lambda s: optimizer.update(None, s, LEAVES, value_fn=lambda p: f(p["x"])))
    updates, state = step(optimizer.init(LEAVES))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(updates))
    assert int(zo.num_queries(state)) == 4
