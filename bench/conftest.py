"""Options of the benchmarks: which shapes, which backend."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("compvae_fast")
    group.addoption("--quick", action="store_true", help="small shapes in place of those of the published table")
    group.addoption("--backend", help="the backend to time; none: the fastest that serves each operation")
