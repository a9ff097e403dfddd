"""The operations as operators of tritonbench (github.com/meta-pytorch/tritonbench).

    python -c "from compvae_fast.plugins import tritonbench; tritonbench.write_operators('tritonbench/operators')"
    python run.py --op posterior_sum_and_kl --mode fwd --device cpu --metrics latency,speedup,accuracy,gbps

An operator's inputs are the shapes and options of the registry's record; its baseline is plain PyTorch in eager mode.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from compvae_fast.bench.checks import errors
from compvae_fast.bench.contestants import COMPILED, EAGER, PREFIX, Contestant, contestants
from compvae_fast.bench.suite import CHECKED, Case, cases_of
from compvae_fast.plugins._files import leave
from compvae_fast.registry import RECORDS, Record

_OPERATOR = """from compvae_fast.plugins.tritonbench import make_operator

Operator = make_operator({name!r}, __name__)
"""


def write_operators(folder: str | Path) -> list[Path]:
    """Give each record of the registry a package in tritonbench's folder of operators.

    Args:
        folder: .../tritonbench/operators.

    Returns:
        The files.

    Raises:
        ValueError: the folder is not there, or holds another operator of that name.
    """
    files = {}
    for name in RECORDS:
        files[f"{name}/__init__.py"] = "from .operator import Operator\n"
        files[f"{name}/operator.py"] = _OPERATOR.format(name=name)
    return leave(folder, files)


def make_operator(name: str, module: str) -> type:
    """The BenchmarkOperator of a record.

    Args:
        name: of the record, as in `compvae_fast.registry.RECORDS`.
        module: the name of the module it is made for, by which tritonbench tells operators apart.

    Returns:
        A subclass of tritonbench's BenchmarkOperator.

    Raises:
        KeyError: no such record.
    """
    from tritonbench.utils.triton_op import BenchmarkOperator, Mode, register_benchmark, register_metric, register_x_val

    record = RECORDS[name]
    cases = cases_of(record)

    class Operator(BenchmarkOperator):
        """Inputs are dictionaries of the public function's arguments."""

        DEFAULT_PRECISION = "fp32"
        DEFAULT_METRICS = ["latency", "speedup", "accuracy", "gbps"]
        is_compute_bound = False

        def case(self) -> Case:
            return cases[self._cur_input_id]

        def arguments(self, case: Case, requires_grad: bool) -> dict[str, Any]:
            return record.arguments(case.shape, dtype=self.dtype or torch.float32, device=self.device,
                                    requires_grad=requires_grad, **case.options)

        def get_available_num_inputs(self) -> int:
            return len(cases)

        def get_input_iter(self) -> Iterator[dict[str, Any]]:
            for case in cases:
                yield self.arguments(case, self.mode != Mode.FWD_NO_GRAD)

        def get_bwd_fn(self, fwd_fn: Callable) -> Callable:
            """Backward from all outputs; tritonbench's own starts at the first alone."""
            leaves = [t for t in self.example_inputs.values() if isinstance(t, Tensor) and t.requires_grad]
            made: list[Tensor] = []

            def backward() -> list[Tensor]:
                for leaf in leaves:
                    leaf.grad = None
                if not made:
                    made.extend(output for output in fwd_fn() if output.requires_grad)
                torch.autograd.backward(made, [torch.ones_like(output) for output in made], retain_graph=True)
                return leaves

            return backward

    def get_x_val(self, example_inputs) -> str:
        return str(self.case())

    def gbps(self, fn, example_inputs, metrics) -> float:
        """1e9 bytes that must be moved a second."""
        with torch.no_grad():
            outputs = record.fused(example_inputs)
        forward, backward = record.traffic(example_inputs, outputs)
        traffic = {Mode.BWD: backward, Mode.FWD_BWD: forward + backward}.get(self.mode, forward)
        return 1e-9 * traffic / (metrics.latency * 1e-3)

    def accuracy(self, fn, baseline_fn) -> bool | None:
        """Whether outputs and gradients keep to the registry's tolerances; None for those with noise of their own."""
        case = self.case()
        contestant = _contestant(case, self.device, fn._name)
        if contestant.check is None:
            return None
        small = Case(record, record.reduced(case.shape, CHECKED), case.options)
        return max(errors(record, self.arguments(small, False), contestant.check).values()) <= 1

    def benchmark(identifier: str) -> Callable:
        def prepared(self, **arguments) -> Callable:
            contestant = _contestant(self.case(), self.device, identifier)
            return lambda: contestant.run(arguments)

        prepared.__name__ = identifier
        return prepared

    def register(decorator: Callable, function: Callable) -> None:
        # tritonbench finds an operator's name in the module of what it decorates.
        function.__module__ = module
        setattr(Operator, function.__name__, decorator(function))

    Operator.__module__, Operator.__qualname__ = module, "Operator"
    register(register_x_val(label=record.operation), get_x_val)
    register(register_metric(), gbps)
    register(register_metric(skip_baseline=True), accuracy)
    for label in _labels(record):
        decorator = register_benchmark(operator_name=name, baseline=label == EAGER, label=label)
        register(decorator, benchmark(_identifier(label)))
    return Operator


def _labels(record: Record) -> list[str]:
    """The contestants that some input may have."""
    served = dict.fromkeys((*record.backends("cpu"), *record.backends("cuda")))
    return [EAGER, *(f"{PREFIX}:{backend}" for backend in served), COMPILED, *(a.name for a in record.alternatives)]


def _identifier(label: str) -> str:
    """
    >>> _identifier("compvae_fast:cpu")
    'compvae_fast_cpu'
    """
    return "".join(c if c.isalnum() else "_" for c in label)


def _contestant(case: Case, device: str, identifier: str) -> Contestant:
    """A contestant by its identifier; NotImplementedError, which tritonbench tells, where it cannot serve."""
    device = torch.device(device).type
    found = contestants(case.record, case.shape, backends=case.record.backends(device),
                        compiled=identifier == _identifier(COMPILED), alternatives=True)
    for contestant in found:
        if _identifier(contestant.name) == identifier:
            return contestant
    raise NotImplementedError(f"{identifier} does not serve {case} on {device}")
