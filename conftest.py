"""Doctests are about what is computed, as most tests are: compiled fast, not well."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _compile_doctests_fast(request):
    doctest = isinstance(request.node, pytest.DoctestItem)
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", before or doctest)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
