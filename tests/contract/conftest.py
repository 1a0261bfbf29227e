"""The contract is about structure and counts: compile it fast, not well."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def fast_compilation():
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
