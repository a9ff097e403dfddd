import pytest


@pytest.fixture(autouse=True)
def _poisoned(poisoned_memory):
    """Every test of an operation runs with NaN in memory that nobody has written."""
