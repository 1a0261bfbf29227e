"""The contract is about structure and counts."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def contract(fast_compilation):
    yield
