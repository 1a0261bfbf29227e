"""Shared fixtures."""

import jax
import pytest


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
