"""Every operation of the registry, forward and with its backward pass, beside plain PyTorch in eager mode.

Each is first held to the float64 reference. `compvae_fast bench` times the same examples in turns, beside more rivals.
"""

from __future__ import annotations

import pytest
import torch

from compvae_fast import backends
from compvae_fast.bench.checks import errors
from compvae_fast.bench.contestants import EAGER, PREFIX, contestants, one_pass
from compvae_fast.bench.suite import CHECKED, cases_of
from compvae_fast.bench.timing import free_memory
from compvae_fast.registry import RECORDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    quick = metafunc.config.getoption("--quick")
    found = [case for record in RECORDS.values() for case in cases_of(record, quick)]
    metafunc.parametrize("case", found, ids=[str(case).replace(" ", "-") for case in found], scope="module")


@pytest.mark.parametrize("implementation", ["compvae_fast", EAGER])
@pytest.mark.parametrize("direction", ["forward", "full"])
def test_operation(benchmark, request, case, direction, implementation):
    record = case.record
    backend = request.config.getoption("--backend") or backends.resolve(record.operation, "cpu")
    ours, plain = contestants(record, case.shape, backends=(backend,), compiled=False, alternatives=False)
    contestant = ours if implementation == PREFIX else plain
    # Plain PyTorch holds some ten tensors of the size of its parts.
    needed, free = 4 * 12 * record.elements(case.shape), free_memory(torch.device("cpu"))
    if contestant is plain and free is not None and needed > free:
        pytest.skip(f"eager mode would take about {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free")
    if contestant is ours:
        small = record.arguments(record.reduced(case.shape, CHECKED), **case.options)
        wrong = {name: error for name, error in errors(record, small, ours.check).items() if error > 1}
        assert not wrong, f"errors over what is allowed: {wrong}"
    benchmark.group = f"{case} {direction}"
    benchmark.extra_info["implementation"] = contestant.name
    arguments = record.arguments(case.shape, **case.options)
    benchmark(one_pass(contestant.run, arguments, record.differentiable, direction))
