"""Shared fixtures."""

import importlib.metadata
import os

# Set before JAX is loaded. Two workers on two cores: the threads of OpenBLAS, which LAPACK comes
# from, would wait for each other, up to a hundred times longer than the work takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if importlib.metadata.version("jaxlib").startswith("0.10."):
    # Compilation is most of the suite, and takes a third of the time so. An empty XLA_FLAGS, as in
    # `make test-slow`, keeps XLA as users have it.
    FASTER = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
    os.environ.setdefault("XLA_FLAGS", FASTER)

# Lowering takes less without the tracebacks of each operation, which only profilers read.
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("JAX_INCLUDE_FULL_TRACEBACKS_IN_LOCATIONS", "0")

import jax
import pytest


def pytest_collection_modifyitems(items):
    """The longest files first: at the end the other worker would wait for one of them.

    A file is one worker's, as in `make test`: what its tests compile, they share.
    """
    long = ("test_notebooks", "test_devices", "test_attack")
    items.sort(key=lambda item: not any(name in item.nodeid for name in long))


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
