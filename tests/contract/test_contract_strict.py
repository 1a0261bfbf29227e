"""No implicit promotion, no derivative of the objective."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import base_key, make_params, objective, trajectory, update_once

import zovh_jax as zo


@pytest.mark.parametrize("factory", [zo.zo_sgd, zo.zoar])
def test_narrow_parameters_under_strict_promotion(factory):
    optimizer = factory(0.1, num_directions=4, radius=0.1, key=base_key())
    params = {**make_params(), "b": jnp.ones(3, jnp.bfloat16)}
    with jax.numpy_dtype_promotion("strict"):
        jax.eval_shape(lambda p: update_once(optimizer, p, optimizer.init(p)), params)


SOLVERS = [
    zo.solvers.woodbury(),
    zo.solvers.gram_diagonal(),
    zo.solvers.gram_diagonal(guard=False),
    zo.solvers.cg(),
    zo.solvers.neumann(num_terms=3),
    zo.solvers.neumann(num_terms=3, truncation="random"),
]


BASELINES = ("none", "origin", "mean", "leave_one_out", "variance_optimal")


@pytest.mark.parametrize(
    ("stencil", "baseline"),
    [
        *(("forward", baseline) for baseline in BASELINES),
        ("three_point", "variance_optimal"),
        *(pytest.param("three_point", b, marks=pytest.mark.slow) for b in BASELINES[:-1]),
    ],
)
def test_estimators_under_strict_settings(baseline, stencil):
    """Every estimator, solver and operator, with importance weights."""
    params = make_params()
    baseline = getattr(zo.baselines, baseline)()

    def estimates(key):
        queries = zo.query(
            objective,
            params,
            key,
            num_directions=4,
            radius=0.1,
            stencil=getattr(zo.stencils, stencil)(),
            origin=True,
        )
        weighted = {"baseline": baseline, "weights": jnp.ones(4), "self_normalized": True}
        operator = zo.estimators.hessian(queries, params, **weighted)
        return (
            zo.estimators.gradient(queries, params, **weighted),
            zo.estimators.newton_direction(queries, params, damping=1.0, **weighted),
            operator.mv(params),
            operator.diagonal(),
            operator.trace(),
            operator.as_matrix(),
            [zo.solve(operator, params, damping=1.0, solver=s, key=key) for s in SOLVERS],
        )

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(estimates, base_key())


def test_function_transformations_under_strict_settings():
    options = {"num_directions": 4, "radius": 0.1}
    params = make_params()

    def everything(key):
        return (
            zo.value_and_grad(objective, baseline=zo.baselines.origin(), **options)(
                params, key=key
            ),
            zo.hvp(objective, **options)(params, params, key=key),
            zo.neumann_solve(lambda x: jax.tree.map(jnp.multiply, x, x), params, num_terms=2),
        )

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        jax.eval_shape(everything, base_key())


@functools.partial(jax.custom_jvp)
def underivable(params):
    return objective(params)


@underivable.defjvp
def _(primals, tangents):
    raise AssertionError("a derivative of value_fn was taken")


def test_no_derivative_is_taken_by_functions():
    options = {"num_directions": 4, "radius": 0.1}
    params = make_params()
    with pytest.raises(AssertionError, match="was taken"):  # the guard works
        jax.grad(underivable)(params)
    for call in (
        lambda key: zo.grad(underivable, **options)(params, key=key),
        lambda key: zo.value_and_grad(underivable, **options)(params, key=key),
        lambda key: zo.hvp(underivable, **options)(params, params, key=key),
    ):
        jax.eval_shape(call, base_key())


@pytest.mark.parametrize("evaluate", [zo.evaluators.vmapped(), zo.evaluators.chunked(2)], ids=repr)
def test_an_objective_outside_jax(evaluate):
    """A simulator behind a callback, evaluated in batches, with no derivative to be had."""
    batches = []

    def simulate(x):
        x = np.asarray(x)
        batches.append(x.shape[:-1])
        return np.sum(np.square(x), -1).astype(np.float32)

    def value_fn(x):
        shape = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.pure_callback(simulate, shape, x, vmap_method="expand_dims")

    x = jnp.array([1.0, -2.0, 0.5])
    optimizer = zo.zo_sgd(0.05, num_directions=8, radius=0.01, key=base_key(), evaluate=evaluate)
    step = jax.jit(lambda p, s: optimizer.update(None, s, p, value_fn=value_fn))
    steps = trajectory(step, optimizer, x, 3)
    assert sum(int(np.prod(batch)) for batch in batches) == int(zo.num_queries(steps[-1][2])) == 27
    assert all(float(optax.tree.norm(updates)) > 0 for updates, _, _ in steps)
