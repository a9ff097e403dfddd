"""The CUDA module as it was built: it loads where there is no device and refuses calls, and what ptxas tells of it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import compvae_fast
from compvae_fast import _loading, backends

ROOT = Path(__file__).parents[2]
NO_DEVICE = "no CUDA device"


@pytest.fixture
def library():
    module, reason = _loading.load("_cuda")
    if module is None:
        pytest.skip(f"cuda: {reason}")
    return module


@pytest.fixture
def no_device(library):
    if library.device_count()[0]:
        pytest.skip("there is a CUDA device")


def test_without_a_device_the_backend_says_so(no_device):
    found = compvae_fast.backends()["cuda"]
    assert (found.device, found.available) == ("cuda", False) and found.reason.startswith(NO_DEVICE)
    with pytest.raises(ValueError, match=f"'cuda' is not available: {NO_DEVICE}"):
        compvae_fast.set_backend("cuda")
    assert backends.resolve("multiset_kl", "cuda") == "reference"


def test_without_a_device_a_call_is_refused(no_device, library):
    counter, key = torch.zeros(1, 4, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(RuntimeError, match="^compvae_fast.philox: "):
        library.philox((0, 0, 0), 1, counter.data_ptr(), key.data_ptr(), counter.data_ptr())
    assert not counter.any()


def test_it_is_loaded_when_it_is_asked_for():
    code = "import sys, compvae_fast; from compvae_fast import ops; import torch\n" \
           "ops.multiset_kl(*[torch.zeros(1, 2, 3)] * 5); print('compvae_fast._cuda' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr


@pytest.mark.parametrize("files, expected", [
    ({"_cuda_build_failure.txt": "built without nvcc\n"}, "built without nvcc"),
    ({}, f"no CUDA module was built for {sys.implementation.cache_tag}"),
])
def test_why_there_is_no_module(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert _loading.why_absent(tmp_path, "_cuda") == expected


def reported():
    """What ptxas told of the newest build: (kernel, architecture, spilled bytes, registers)."""
    folders = sorted(ROOT.glob("build/*/csrc/cuda/reports"), key=lambda folder: folder.stat().st_mtime)
    entry = re.compile(r"Compiling entry function '(\S+)' for '(\S+)'.*?(\d+) bytes spill stores, (\d+) bytes spill "
                       r"loads.*?Used (\d+) registers", re.DOTALL)
    return [(kernel, architecture, int(stores) + int(loads), int(registers))
            for file in folders[-1].glob("*.txt") for kernel, architecture, stores, loads, registers
            in entry.findall(file.read_text())] if folders else []


def test_hot_kernels_spill_no_registers(library):
    """Those that read whole quads of float32, bfloat16 or float16; the others read one number at a time."""
    kernels = reported()
    if not kernels:
        pytest.skip("the build left no report of ptxas here")
    hot = [k for k in kernels if re.search("6AccessE[01]", k[0])]
    missing = {"sm_80", "sm_90"} - {architecture for _, architecture, _, _ in kernels}
    if missing:
        pytest.skip(f"what was built here has no code for {' and '.join(sorted(missing))}")
    assert len(hot) > 50
    assert not [k for k in hot if k[2]]
