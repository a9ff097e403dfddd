import pytest

from .pool import Pool


@pytest.fixture(scope="package")
def pool():
    """Processes that run checks together; a check that fails ends them, and the next test starts others."""
    held = [Pool()]

    class Current:
        size = held[0].size

        def run(self, check: str, **arguments):
            if not held[0].alive():
                held[0].end()
                held[0] = Pool()
            return held[0].run(check, **arguments)

    yield Current()
    held[0].end()
