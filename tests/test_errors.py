"""Every error that the library raises by name: what it says about the argument and the remedy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import zovh_jax as zo

pytestmark = pytest.mark.usefixtures("fast_compilation")

X = np.ones(3, np.float32)
TREE = {"a": X, "b": {"c": np.ones((2, 2), np.float32)}}


def f(x):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(x))


def key():
    return jax.random.key(0)


def ask(params=X, num_directions=4, radius=0.1, value_fn=f, **options):
    options = {"key": key(), **options}
    return zo.query(
        value_fn,
        params,
        options.pop("key"),
        num_directions=num_directions,
        radius=radius,
        **options,
    )


def tell(values, **options):
    """Queries along the unit vectors, or of a plan."""
    if "plan" not in options:
        options.setdefault("directions", zo.directions.explicit(jnp.eye(3)))
    return zo.Queries.from_values(jnp.asarray(values), radius=0.1, **options)


def hessian(**options):
    return zo.estimators.hessian(ask(), X, **options)


def gradient_transformation(**options):
    arguments = {"num_directions": 4, "radius": 0.1, "key": key()}
    return zo.zo_gradient(**{**arguments, **options})


def newton_transformation(**options):
    arguments = {"num_directions": 4, "radius": 0.1, "damping": 1.0, "key": key()}
    return zo.zo_newton(**{**arguments, **options})


def preconditioner(**options):
    arguments = {"num_directions": 4, "radius": 0.1, "damping": 1.0, "key": key()}
    return zo.scale_by_inverse_hessian(**{**arguments, **options})


def update(transformation, updates=None, params=X, **extra):
    return transformation.update(updates, transformation.init(X), params, **extra)


def raises(kind, call, *parts):
    """The message holds every part, in order."""
    with pytest.raises(kind) as caught:
        call()
    message, start = str(caught.value), 0
    for part in parts:
        assert part in message[start:], f"{part!r} is not in {message[start:]!r} of {message!r}"
        start = message.index(part, start) + len(part)


SIZE = "must be an int of at least 1, got"
POSITIVE = "must be a finite number greater than 0"

CONSTRUCTION = {
    # Sizes.
    "num_directions=0": (
        ValueError, lambda: gradient_transformation(num_directions=0),
        "num_directions", SIZE, "0",
    ),
    "num_directions=2.5": (
        ValueError, lambda: newton_transformation(num_directions=2.5),
        "num_directions", SIZE, "2.5",
    ),
    "num_directions=True": (
        ValueError, lambda: ask(num_directions=True), "num_directions", SIZE, "True",
    ),
    "num_directions=array": (
        TypeError, lambda: preconditioner(num_directions=jnp.array(3)),
        "num_directions must be a Python int", "array 3", "static_args=('num_directions'",
    ),
    "history_size": (
        ValueError, lambda: gradient_transformation(history_size=-1), "history_size", SIZE, "-1",
    ),
    "chunk size": (ValueError, lambda: zo.evaluators.chunked(0), "size", SIZE, "0"),
    "History.init size": (
        ValueError, lambda: zo.History.init(X, size=0, num_directions=2), "size", SIZE, "0",
    ),
    "History.init num_directions": (
        ValueError, lambda: zo.History.init(X, size=2, num_directions="two"),
        "num_directions", SIZE, "'two'",
    ),
    "num_terms": (
        ValueError, lambda: zo.solvers.neumann(num_terms=0), "num_terms", SIZE, "0",
    ),
    "num_power_iterations": (
        ValueError, lambda: zo.solvers.neumann(num_terms=2, num_power_iterations=0),
        "num_power_iterations", SIZE, "0",
    ),
    "max_steps": (ValueError, lambda: zo.solvers.cg(max_steps=0), "max_steps", SIZE, "0"),
    "grad num_directions": (
        ValueError, lambda: zo.grad(f, num_directions=0, radius=0.1), "num_directions", SIZE, "0",
    ),
    # Numbers.
    "radius=0": (
        ValueError, lambda: gradient_transformation(radius=0.0),
        "radius", POSITIVE, "or a schedule", "got 0.0",
    ),
    "radius=nan": (ValueError, lambda: ask(radius=float("nan")), "radius", POSITIVE, "got nan"),
    "radius=inf": (
        ValueError, lambda: zo.grad(f, num_directions=1, radius=float("inf")),
        "radius", POSITIVE, "got inf",
    ),
    "radius=vector": (
        ValueError, lambda: newton_transformation(radius=np.ones(2)),
        "radius", POSITIVE, "array([1., 1.])",
    ),
    "from_values radius": (
        ValueError,
        lambda: zo.Queries.from_values(
            jnp.ones(3), directions=zo.directions.explicit(jnp.eye(3)), radius=-1
        ),
        "radius", POSITIVE, "got -1",
    ),
    "damping=0": (
        ValueError, lambda: newton_transformation(damping=0.0),
        "damping", POSITIVE, "or a schedule", "got 0.0",
    ),
    "damping='1'": (
        ValueError, lambda: preconditioner(damping="1"), "damping", POSITIVE, "got '1'",
    ),
    "solve damping": (
        ValueError, lambda: zo.solve(hessian(), X, damping=-0.5), "damping", POSITIVE, "-0.5",
    ),
    "inverse damping": (
        ValueError, lambda: zo.inverse(hessian(), damping=0), "damping", POSITIVE, "got 0",
    ),
    "newton_direction damping": (
        ValueError, lambda: zo.estimators.newton_direction(ask(), X, damping=None),
        "damping", POSITIVE, "None",
    ),
    "tol": (ValueError, lambda: zo.solvers.cg(tol=0.0), "tol", POSITIVE, "got 0.0"),
    "floor": (
        ValueError, lambda: zo.solvers.gram_diagonal(floor=-1.0), "floor", POSITIVE, "got -1.0",
    ),
    "step_size": (
        ValueError, lambda: zo.solvers.neumann(num_terms=2, step_size=0.0),
        "step_size", POSITIVE, "got 0.0",
    ),
    # Keys.
    "key=int": (
        TypeError, lambda: gradient_transformation(key=0),
        "key must be one PRNG key", "jax.random.key(0)", "got 0",
    ),
    "key=batch": (
        TypeError, lambda: newton_transformation(key=jax.random.split(key(), 2)),
        "key must be one PRNG key", "got key<fry>[2]",
    ),
    "key=floats": (
        TypeError, lambda: ask(key=jnp.ones(2)), "key must be one PRNG key", "got float32[2]",
    ),
    "key=None": (
        TypeError, lambda: ask(key=None), "key must be one PRNG key", "got None",
    ),
    # Kinds of objects.
    "directions": (
        TypeError, lambda: gradient_transformation(directions="gaussian"),
        "directions", "zo.directions", "got 'gaussian'",
    ),
    "directions not called": (
        TypeError, lambda: ask(directions=zo.directions.sphere),
        "directions", "Sphere", "(call it: it is a factory)",
    ),
    "stencil": (TypeError, lambda: ask(stencil="central"), "stencil", "zo.stencils", "'central'"),
    "evaluate": (
        TypeError, lambda: gradient_transformation(evaluate=4),
        "evaluate", "vmapped()", "chunked", "got 4",
    ),
    "baseline": (
        TypeError, lambda: gradient_transformation(baseline=0.0),
        "baseline", "zo.baselines", "got 0.0",
    ),
    "estimator's baseline": (
        TypeError, lambda: zo.estimators.gradient(ask(), X, baseline="mean"),
        "baseline", "zo.baselines", "got 'mean'",
    ),
    "grad's baseline": (
        TypeError, lambda: zo.grad(f, num_directions=2, radius=0.1, baseline=zo.baselines.mean),
        "baseline", "zo.baselines", "call it",
    ),
    "solver": (
        TypeError, lambda: preconditioner(solver=zo.solvers.woodbury),
        "solver", "zo.solvers", "call it",
    ),
    "solve's solver": (
        TypeError, lambda: zo.solve(hessian(), X, damping=1.0, solver="cg"),
        "solver", "zo.solvers", "'cg'",
    ),
    "queries": (
        TypeError, lambda: zo.estimators.gradient(jnp.ones(3), X),
        "queries", "zo.query", "History.queries()",
    ),
    "masked's directions": (
        TypeError, lambda: zo.directions.masked("gaussian", True),
        "directions", "zo.directions", "'gaussian'",
    ),
    # Options that do not go together.
    "truncation": (
        ValueError, lambda: zo.solvers.neumann(num_terms=2, truncation="never"),
        "truncation", "'fixed' or 'random'", "'never'",
    ),
    "structure": (
        ValueError, lambda: newton_transformation(structure="layer"),
        "structure", "'global' or 'leaf'", "'layer'",
    ),
    "iterative solver with correction": (
        ValueError, lambda: newton_transformation(solver=zo.solvers.cg()),
        "solver=ConjugateGradient", "bias_correction=False", "woodbury()",
    ),
    "iterative solver by leaf": (
        ValueError,
        lambda: newton_transformation(
            solver=zo.solvers.neumann(num_terms=2), bias_correction=False, structure="leaf"
        ),
        "solver=Neumann", "structure='global'",
    ),
    "correction with two queries": (
        ValueError, lambda: newton_transformation(num_directions=2),
        "at least 3 directions", "num_directions × history_size = 2", "bias_correction=False",
    ),
    "gradient of one query": (
        ValueError, lambda: gradient_transformation(num_directions=1),
        "baseline=Mean()", "at least 2", "= 1", "zo.baselines.origin()",
    ),
    "newton of one query": (
        ValueError, lambda: newton_transformation(num_directions=1, bias_correction=False),
        "baseline=Mean()", "at least 2", "= 1",
    ),
    "preconditioner of one query": (
        ValueError, lambda: preconditioner(num_directions=1),
        "baseline=Mean()", "at least 2", "= 1",
    ),
    "zoar of one query": (
        ValueError,
        lambda: zo.zoar(0.1, num_directions=1, history_size=1, radius=0.1, key=key()),
        "baseline=Mean()", "at least 2", "= 1",
    ),
    "newton along signs": (
        ValueError, lambda: newton_transformation(directions=zo.directions.rademacher()),
        "rademacher", "diagonal", "zo.directions.gaussian()",
    ),
    "preconditioner on the sphere": (
        ValueError, lambda: preconditioner(directions=zo.directions.sphere()),
        "constant norm", "baseline=Mean()", "trace", "zo.baselines.origin()",
    ),
    "masked explicit": (
        ValueError, lambda: zo.directions.masked(zo.directions.explicit(jnp.eye(3)), True),
        "masked(explicit(tree), mask)", "zeros",
    ),
    "mask of numbers": (
        ValueError, lambda: zo.directions.masked(zo.directions.gaussian(), {"a": 1}),
        "mask must be a tree of Python bools", "{'a': 1}",
    ),
    "hvp argnums": (
        ValueError, lambda: zo.hvp(f, argnums=(0, 1), num_directions=2, radius=0.1),
        "argnums of hvp must be one int", "(0, 1)",
    ),
    "hvp argnums from the right": (
        ValueError, lambda: zo.hvp(f, argnums=-1, num_directions=2, radius=0.1),
        "0 or more", "got -1",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CONSTRUCTION)
def test_arguments(name):
    kind, call, *parts = CONSTRUCTION[name]
    raises(kind, call, *parts)


def masked(mask):
    return zo.directions.masked(zo.directions.gaussian(), mask)


USE = {
    # Objectives.
    "vector": (
        TypeError, lambda: ask(value_fn=lambda x: x),
        "value_fn must return a scalar float", "shape (3,) and dtype float32", "jnp.mean",
    ),
    "integer": (
        TypeError, lambda: ask(value_fn=lambda x: jnp.sum(x).astype(int)),
        "scalar float", "shape () and dtype int32",
    ),
    "complex": (
        TypeError, lambda: ask(value_fn=lambda x: jnp.sum(x) + 1j),
        "scalar float", "shape () and dtype complex64",
    ),
    "bool": (
        TypeError, lambda: ask(value_fn=lambda x: jnp.all(x > 0)),
        "scalar float", "shape () and dtype bool",
    ),
    "python int": (TypeError, lambda: ask(value_fn=lambda x: 1), "scalar float", "got 1"),
    "aux": (
        TypeError, lambda: ask(value_fn=lambda x: (jnp.sum(x), {"aux": x})),
        "value_fn must return a scalar float", "drop auxiliary outputs",
    ),
    "pair": (
        TypeError, lambda: ask(value_fn=lambda x: (jnp.sum(x), jnp.sum(x))),
        "value_fn must return a scalar float", "drop auxiliary outputs",
    ),
    "None": (
        TypeError, lambda: ask(value_fn=lambda x: None),
        "value_fn must return a scalar float", "None",
    ),
    "in a transformation": (
        TypeError, lambda: update(gradient_transformation(), value_fn=lambda x: x[None]),
        "value_fn must return a scalar float", "shape (1, 3) and dtype float32",
    ),
    "in grad": (
        TypeError, lambda: zo.grad(lambda x: x, num_directions=2, radius=0.1)(X, key=key()),
        "value_fn must return a scalar float", "shape (3,)",
    ),
    # Parameters.
    "integer leaf": (
        TypeError, lambda: gradient_transformation().init({**TREE, "n": jnp.arange(2)}),
        "params['n']", "int32", "closing value_fn over it",
    ),
    "nested complex leaf": (
        TypeError, lambda: ask({"a": [X, jnp.ones(2, complex)]}),
        "params['a'][1]", "complex64", "real floating-point",
    ),
    "integer leaf of an estimate": (
        TypeError, lambda: zo.estimators.gradient(ask(), jnp.arange(3)), "params", "int32",
    ),
    "python int leaf": (TypeError, lambda: zo.History.init({"a": 3}, size=2, num_directions=2),
        "params['a']", "int32",
    ),
    "integer argument of hvp": (
        TypeError,
        lambda: zo.hvp(f, num_directions=2, radius=0.1)(jnp.arange(3), X, key=key()),
        "argument 0", "int32",
    ),
    "MaskedNode": (
        TypeError, lambda: newton_transformation().init({"a": X, "b": optax.MaskedNode()}),
        "params['b'] is an optax.MaskedNode", "optax.partition", "zo.directions.masked",
    ),
    # What an update needs.
    "zo_gradient without value_fn": (
        TypeError, lambda: update(gradient_transformation()),
        "zo_gradient needs the objective", "value_fn=value_fn", "scalar float",
    ),
    "zo_newton without value_fn": (
        TypeError, lambda: update(newton_transformation()),
        "zo_newton needs the objective", "value_fn=value_fn",
    ),
    "scale_by_inverse_hessian without value_fn": (
        TypeError, lambda: update(preconditioner(), X),
        "scale_by_inverse_hessian needs the objective", "value_fn=value_fn",
    ),
    "zovh without params": (
        TypeError,
        lambda: update(
            zo.zovh(0.1, num_directions=4, radius=0.1, damping=1.0, key=key()),
            params=None, value_fn=f,
        ),
        "zo_newton needs the parameters", "update(updates, state, params",
    ),
    "scale_by_inverse_hessian without params": (
        TypeError, lambda: update(preconditioner(), X, params=None, value_fn=f),
        "scale_by_inverse_hessian needs the parameters",
    ),
    "stochastic_rounding without params": (
        TypeError, lambda: update(zo.stochastic_rounding(key=key()), X, params=None),
        "stochastic_rounding needs the parameters", "update(updates, state, params)",
    ),
    "stochastic_rounding without updates": (
        ValueError, lambda: update(zo.stochastic_rounding(key=key()), None, params=TREE),
        "updates must be a tree like params", "end of a chain",
    ),
    "scale_by_inverse_hessian without updates": (
        TypeError, lambda: update(preconditioner(), None, value_fn=f),
        "scale_by_inverse_hessian", "None", "Chain it after a gradient",
    ),
    # Directions and parameters.
    "explicit of another length": (
        ValueError, lambda: ask(directions=zo.directions.explicit(jnp.eye(3))),
        "explicit(tree)", "num_directions=4", "[(4, 3)]", "[(3, 3)]",
    ),
    "explicit of another structure": (
        ValueError, lambda: ask(TREE, directions=zo.directions.explicit({"a": jnp.ones((4, 3))})),
        "explicit(tree)", "num_directions=4", "[(4, 3), (4, 2, 2)]", "[(4, 3)]",
    ),
    "explicit and another tree": (
        ValueError, lambda: zo.estimators.gradient(tell(jnp.ones(3)), jnp.ones(2)),
        "explicit(tree)", "num_directions=3", "[(3, 2)]", "[(3, 3)]",
    ),
    "mask of another structure": (
        ValueError, lambda: ask(TREE, directions=masked({"a": True, "z": False})),
        "mask must have the structure of params", "'b'", "prefix", "'z'",
    ),
    "mask without True": (
        ValueError, lambda: ask(TREE, directions=masked(False)),
        "mask freezes every leaf", "at least one must be True",
    ),
    # Queries and histories.
    "values of a forward stencil": (
        ValueError, lambda: tell(jnp.ones((3, 2))), "values must have shape [K]", "[3, 2]",
    ),
    "values of a paired stencil": (
        ValueError, lambda: tell(jnp.ones(3), stencil=zo.stencils.central()),
        "values must have shape [K, 2]", "(plus, minus)", "[3]",
    ),
    "values of a wide stencil": (
        ValueError, lambda: tell(jnp.ones((3, 3)), stencil=zo.stencils.three_point()),
        "values must have shape [K, 2]", "[3, 3]",
    ),
    "values without a plan": (
        TypeError, lambda: tell(jnp.ones(3), directions=zo.directions.gaussian()),
        "directions must be one of", "zo.directions.explicit(tree)", "Gaussian",
    ),
    "values of neither plan nor directions": (
        TypeError, lambda: tell(jnp.ones(3), directions=None),
        "from_values needs the plan=", "directions=zo.directions.explicit(tree)",
    ),
    "values of both plan and directions": (
        TypeError,
        lambda: tell(
            jnp.ones(3),
            plan=zo.Plan(key(), zo.directions.gaussian(), num_directions=3),
            directions=zo.directions.explicit(jnp.eye(3)),
        ),
        "from_values needs the plan=", "in its place",
    ),
    "values of what is no plan": (
        TypeError, lambda: tell(jnp.ones(3), plan=zo.directions.gaussian()),
        "plan must be one of", "Gaussian",
    ),
    "values of a smaller plan": (
        ValueError,
        lambda: tell(
            jnp.ones(3), plan=zo.Plan(key(), zo.directions.gaussian(), num_directions=2)
        ),
        "values has 3 rows", "num_directions=2", "one row for each direction",
    ),
    "plan without a key": (
        ValueError,
        lambda: zo.Plan(None, zo.directions.gaussian(), num_directions=2).draw(X),
        "no key", "give key=",
    ),
    "round of another size": (
        ValueError, lambda: zo.History.init(X, size=2, num_directions=3).push(ask()),
        "does not fit the history", "num_directions=3", "num_directions=4",
    ),
    "round of another stencil": (
        ValueError,
        lambda: zo.History.init(X, size=2, num_directions=4).push(
            ask(stencil=zo.stencils.central())
        ),
        "does not fit the history", "stencil=Forward()", "stencil=Central()",
    ),
    "round with an origin": (
        ValueError,
        lambda: zo.History.init(X, size=2, num_directions=4).push(ask(origin=True)),
        "does not fit the history", "origin=False", "origin=True",
    ),
    "round with stored directions": (
        ValueError,
        lambda: zo.History.init(X, size=2, num_directions=4).push(ask(store_directions=True)),
        "does not fit the history", "store_directions",
    ),
    "round of another family": (
        ValueError,
        lambda: zo.History.init(X, size=2, num_directions=4).push(
            ask(directions=zo.directions.sphere())
        ),
        "does not fit the history", "directions",
    ),
    # Estimators.
    "gradient without an origin": (
        ValueError, lambda: zo.estimators.gradient(ask(), X, baseline=zo.baselines.origin()),
        "gradient with baseline=Origin() needs f(θ)", "origin=True", "zo.stencils.three_point()",
    ),
    "hessian without an origin": (
        ValueError, lambda: hessian(baseline=zo.baselines.origin()),
        "hessian with baseline=Origin() needs f(θ)", "value=f(params)",
    ),
    "gradient of one query": (
        ValueError, lambda: zo.estimators.gradient(ask(num_directions=1), X),
        "gradient with baseline=Mean()", "at least 2", "num_directions=1", "origin()",
    ),
    "hessian of one query": (
        ValueError, lambda: zo.estimators.hessian(ask(num_directions=1), X),
        "hessian with baseline=Mean()", "at least 2", "num_directions=1",
    ),
    "newton_direction of two queries": (
        ValueError,
        lambda: zo.estimators.newton_direction(ask(num_directions=2), X, damping=1.0),
        "at least 3 directions", "= 2", "bias_correction=False",
    ),
    "importance weights": (
        ValueError, lambda: zo.estimators.gradient(ask(), X, weights=jnp.ones(3)),
        "weights must have one importance ratio a direction", "[4]", "[3]",
    ),
    "hessian along signs": (
        ValueError,
        lambda: zo.estimators.hessian(ask(directions=zo.directions.rademacher()), X),
        "rademacher", "diagonal", "zo.directions.gaussian()",
    ),
    "hessian on the sphere": (
        ValueError,
        lambda: zo.estimators.hessian(ask(directions=zo.directions.orthogonal()), X),
        "constant norm", "baseline=Mean()", "identity_term=False", "zo.baselines.origin()",
    ),
    "CD on the sphere": (
        ValueError,
        lambda: zo.estimators.hessian(
            ask(directions=zo.directions.sphere(), stencil=zo.stencils.three_point()),
            X, baseline=zo.baselines.origin(), identity_term=False,
        ),
        "constant norm", "identity_term=False", "trace",
    ),
    "masked signs are signs": (
        ValueError,
        lambda: zo.estimators.hessian(
            ask(TREE, directions=zo.directions.masked(zo.directions.rademacher(), True)), TREE
        ),
        "rademacher", "diagonal",
    ),
    # Operators and solvers.
    "mv of another shape": (
        ValueError, lambda: hessian().mv(jnp.ones(4)),
        "vector must be a tree like params", "[(3,)]", "(4,)",
    ),
    "solve for another structure": (
        ValueError, lambda: zo.solve(hessian(), {"a": X}, damping=1.0),
        "v must be a tree like params", "[(3,)]", "'a'",
    ),
    "direct solver of a matvec": (
        TypeError, lambda: zo.solve(lambda v: v, X, damping=1.0),
        "Woodbury()", "LowRankPlusScaled", "function", "zo.solvers.cg()",
    ),
    "solver of an array": (
        TypeError, lambda: zo.solve(np.eye(2), X, damping=1.0, solver=zo.solvers.cg()),
        "operator must be a zo.Operator or a matvec", "array([[1., 0.]",
    ),
    "matrix of a matvec": (
        TypeError, lambda: zo.inverse(lambda v: v, damping=1.0, solver=zo.solvers.cg()).as_matrix(),
        "knows its products only", "not a bare matvec",
    ),
    "random truncation without a key": (
        ValueError,
        lambda: zo.neumann_solve(lambda v: v, X, num_terms=2, truncation="random"),
        "neumann(truncation='random') needs a key", "key=",
    ),
    # Function transformations.
    "grad of too few arguments": (
        TypeError,
        lambda: zo.grad(f, argnums=(0, 1), num_directions=2, radius=0.1)(X, key=key()),
        "argnums=(0, 1)", "1 arguments",
    ),
    "hvp without a vector": (
        TypeError, lambda: zo.hvp(f, num_directions=2, radius=0.1)(X, key=key()),
        "hvp needs the vector right after argument 0", "got 1 arguments",
    ),
    "hvp with another vector": (
        ValueError,
        lambda: zo.hvp(f, num_directions=2, radius=0.1)(X, jnp.ones(2), key=key()),
        "vector must be a tree like params", "[(3,)]", "(2,)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", USE)
def test_use(name):
    kind, call, *parts = USE[name]
    raises(kind, lambda: jax.eval_shape(call), *parts)


@pytest.mark.parametrize(
    "value", [0.1, 1, np.float32(0.1), np.array(0.1), jnp.float32(0.1), lambda count: 0.1]
)
def test_numbers_and_schedules_pass(value):
    gradient_transformation(radius=value)
    newton_transformation(radius=value, damping=value)
    preconditioner(radius=value, damping=value)


def test_sizes_may_be_numpy_integers():
    assert ask(num_directions=np.int64(2)).values.shape == (2,)


def test_exact_minima_pass():
    """One less is an error above."""
    newton_transformation(num_directions=3)
    newton_transformation(num_directions=1, history_size=3)
    newton_transformation(num_directions=2, bias_correction=False)
    gradient_transformation(num_directions=1, history_size=2)
    gradient_transformation(num_directions=1, baseline=zo.baselines.origin())
    gradient_transformation(num_directions=1, stencil=zo.stencils.central())
    preconditioner(directions=zo.directions.sphere(), baseline=zo.baselines.origin())


def test_an_update_that_fails_under_jit_fails_at_tracing():
    """Nothing waits for run time: the compiled function is never made."""
    transformation = gradient_transformation()
    step = jax.jit(lambda s: transformation.update(None, s, X, value_fn=lambda x: x))
    raises(TypeError, lambda: step.lower(transformation.init(X)), "scalar float", "(3,)")
