"""What the tests need before anything is imported, and what is left out where a package is not installed."""

import os
import re

import pytest
import torch

from compvae_fast import _loading

# Triton looks at this when it is first imported: without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

collect_ignore_glob = ["compvae_fast/numpy/*"] if _loading.reason_missing() else []

# Of the packages in the extras of pyproject.toml, those that files cannot be imported without.
EXTRAS = {"PIL", "bokeh", "jinja2", "jsonargparse", "matplotlib", "mpmath", "pandas", "pyarrow", "pyro", "safetensors",
          "torch_geometric", "tqdm", "yaml"}


def _skipped(report, missing: str | None, place) -> None:
    if missing in EXTRAS:
        report.outcome, report.longrepr = "skipped", (str(place), 0, f"Skipped: {missing} is not installed")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """A file that needs what is not installed is skipped."""
    report = yield
    told = re.findall(r"No module named '(\w+)", str(report.longrepr)) if report.failed else ()
    _skipped(report, told[-1] if told else None, collector.path)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """So is a test."""
    report = yield
    if call.excinfo and isinstance(call.excinfo.value, ModuleNotFoundError):
        _skipped(report, call.excinfo.value.name, item.path)
    return report
