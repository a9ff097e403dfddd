"""Benchmarks of the registry's operations: checked, timed beside plain PyTorch and established libraries, reported."""

from compvae_fast.bench.suite import Case, Row, Settings, cases, run

__all__ = ["Case", "Row", "Settings", "cases", "run"]
