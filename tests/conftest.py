"""Shared fixtures."""

import jax
import pytest


@pytest.fixture
def x64():
    """Double precision inside a test, for closed forms and golden numbers."""
    with jax.enable_x64(True):
        yield
