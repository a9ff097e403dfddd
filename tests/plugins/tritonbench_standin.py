"""What tritonbench does with an operator, in little: names out of modules, registers, inputs one by one, modes."""

from __future__ import annotations

import enum
import sys
import time
import types
from collections import defaultdict
from dataclasses import dataclass, field

import torch

PATH = "tritonbench.operators."
BUILTIN = {"latency", "speedup", "accuracy"}


class Mode(enum.Enum):
    FWD = "fwd"
    BWD = "bwd"
    FWD_BWD = "fwd_bwd"
    FWD_NO_GRAD = "fwd_no_grad"


@dataclass
class Registered:
    label: str
    baseline: bool


@dataclass
class Metrics:
    latency: float | None = None
    accuracy: bool | None = None
    speedup: float | None = None
    error_msg: str | None = None
    extra_metrics: dict = field(default_factory=dict)


def operator_name(module: str) -> str:
    assert PATH in module, f"expected {PATH}<operator>, got {module}"
    return module.partition(PATH)[2].split(".")[0]


def install(monkeypatch) -> types.SimpleNamespace:
    """Put tritonbench.utils.triton_op into sys.modules; gives its registers."""
    benchmarks, metrics, x_labels = defaultdict(dict), defaultdict(list), {}

    def forwarding(function):
        # tritonbench hands back a wrapper without the name.
        def inner(self, *args, **kwargs):
            return function(self, *args, **kwargs)

        return inner

    def register_benchmark(operator_name=None, func_name=None, baseline=False, enabled=True, fwd_only=False,
                           label=None):
        def decorator(function):
            name = operator_name or globals()["operator_name"](function.__module__)
            benchmarks[name][func_name or function.__name__] = Registered(label, baseline)
            return forwarding(function)

        return decorator

    def register_metric(skip_baseline=False, x_only=False):
        def decorator(function):
            if function.__name__ not in BUILTIN:
                metrics[operator_name(function.__module__)].append(function.__name__)
            return forwarding(function)

        return decorator

    def register_x_val(label="x_val"):
        def decorator(function):
            x_labels[operator_name(function.__module__)] = label
            return forwarding(function)

        return decorator

    class BenchmarkOperator:
        DEFAULT_PRECISION = "bypass"
        DEFAULT_METRICS = ["latency"]

        def __init__(self, mode="fwd", device="cpu"):
            self.mode, self.device = Mode(mode), device
            self.name = operator_name(type(self).__module__)
            self.dtype = {"fp32": torch.float32}.get(self.DEFAULT_PRECISION)
            self.available = self.get_available_num_inputs()

        def run(self, only=None):
            """[(x value, {benchmark: metrics})]"""
            rows, examples = [], self.get_input_iter()
            for index in range(self.available):
                self._cur_input_id = index
                self.example_inputs = next(examples)
                x_val = self.get_x_val(self.example_inputs)
                names = sorted(benchmarks[self.name], key=lambda n: not benchmarks[self.name][n].baseline)
                self.baseline_fn, self.baseline_metrics, row = None, None, {}
                for name in (n for n in names if only is None or n in only):
                    row[name] = self.measure(name, benchmarks[self.name][name].baseline)
                rows.append((x_val, row))
            return rows

        def measure(self, name, baseline):
            found = Metrics()
            try:
                fn = self.prepared(name)
                if baseline:
                    self.baseline_fn = fn
                fn()
                start = time.perf_counter()
                fn()
                found.latency = 1e3 * (time.perf_counter() - start)
                if baseline:
                    self.baseline_metrics = found
                elif self.baseline_fn:
                    found.speedup = self.baseline_metrics.latency / found.latency
                    found.accuracy = self.accuracy(fn, self.baseline_fn)
                for metric in metrics[self.name]:
                    found.extra_metrics[metric] = getattr(self, metric)(fn, self.example_inputs, found)
            except NotImplementedError as error:
                found.error_msg = str(error)
            return found

        def prepared(self, name):
            forward = getattr(self, name)(**self.example_inputs)
            if self.mode == Mode.BWD:
                fn = self.get_bwd_fn(forward)
            elif self.mode == Mode.FWD_BWD:
                backward = self.get_bwd_fn(forward)

                def fn():
                    return forward(), backward()
            elif self.mode == Mode.FWD_NO_GRAD:
                fn = torch.no_grad()(lambda: forward())
            else:
                fn = forward
            fn._name = name
            return fn

    module = types.ModuleType("tritonbench.utils.triton_op")
    module.__dict__.update(BenchmarkOperator=BenchmarkOperator, Mode=Mode, register_benchmark=register_benchmark,
                           register_metric=register_metric, register_x_val=register_x_val)
    for name in ("tritonbench", "tritonbench.utils"):
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return types.SimpleNamespace(benchmarks=benchmarks, metrics=metrics, x_labels=x_labels)
