"""Shared fixtures."""

import os

# Two workers on two cores: the threads of OpenBLAS, which LAPACK comes from, would wait for each
# other, up to a hundred times longer than the work takes. Set before JAX loads it.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402


def pytest_collection_modifyitems(items):
    """Notebooks first: the longest, at the end one worker would wait for the other's."""
    items.sort(key=lambda item: "test_notebooks" not in item.nodeid)


@pytest.fixture
def x64():
    """Double precision inside a test, for closed forms and golden numbers."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="module")
def fast_compilation():
    """For tests of structure and counts: compiled fast, not well."""
    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", before)
