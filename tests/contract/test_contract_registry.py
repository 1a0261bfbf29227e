"""The contracts are only worth what the registry covers: every exported transformation is in it.

That the queries charged are those asked, counted by a callback and not by ``num_queries``, is the
contract of every case in test_contract_steps.py.
"""

import inspect

import jax
import optax
import pytest
from registry import BY_ID, CASES, jitted_step, make_params, objective

import zovh_jax as zo
from zovh_jax import transforms

EXPORTED = {
    name: value
    for name in zo.__all__
    if inspect.isfunction(value := getattr(zo, name))
    and inspect.signature(value).return_annotation is optax.GradientTransformationExtraArgs
}


def factories(case):
    """The case's factory, and the one it wraps, if it does."""
    return {case.factory, *inspect.getclosurevars(case.factory).nonlocals.values()}


def test_the_exports_are_found_by_their_annotation():
    assert {"zo_sgd", "zoar", "zovh", "zo_gradient", "scale_by_inverse_hessian"} <= set(EXPORTED)
    unannotated = [
        name
        for name in transforms.__all__
        if inspect.isfunction(value := getattr(transforms, name))
        and inspect.signature(value).return_annotation is inspect.Signature.empty
    ]
    assert not unannotated
    functions = {
        name for name in transforms.__all__ if inspect.isfunction(getattr(transforms, name))
    }
    assert functions <= set(zo.__all__)


@pytest.mark.parametrize("name", EXPORTED)
def test_every_exported_transformation_is_in_the_registry(name):
    assert any(EXPORTED[name] in factories(case) for case in CASES), (
        f"zo.{name} is in no Case of tests/contract/registry.py: the contracts do not cover it"
    )


def test_every_case_has_a_name_of_its_own():
    assert len(BY_ID) == len(CASES)


def test_the_callback_counts_what_num_queries_does_not(fast_compilation):
    """A transformation that asks once more than it charges is caught by the contract's count."""
    asked = []

    def counted(params):
        value = objective(params)
        jax.debug.callback(asked.append, value)
        return value

    honest, params = BY_ID["zoar"].make(), make_params()

    def update(updates, state, params, *, value_fn, **extra):
        value_fn(params)
        return honest.update(updates, state, params, value_fn=value_fn, **extra)

    greedy = optax.GradientTransformationExtraArgs(honest.init, update)
    _, state = jitted_step(greedy, counted)(params, greedy.init(params))
    jax.effects_barrier()
    assert len(asked) == int(zo.num_queries(state)) + 1
