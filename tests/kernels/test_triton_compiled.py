"""The Triton kernels through Triton's compiler and the CUDA assembler that comes with it; no GPU is needed.

What the interpreter accepts the compiler may not; and a kernel that keeps its numbers in registers must not spill them.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("compile_triton.py")
OPERATIONS = ("posterior_sum_and_kl", "multiset_kl", "posterior_sum_and_log_ratio", "correlated_normal_rsample",
              "correlated_normal_log_prob", "sum_minus_self", "product_of_experts", "prior_sum", "diag_normal_kl",
              "gaussian_nll", "discretized_logistic_nll", "noise")

pytestmark = [
    pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed"),
    pytest.mark.skipif(sys.platform != "linux", reason="Triton's assembler is a program for Linux"),
]


@pytest.mark.parametrize(("architecture", "operations"), [
    (90, OPERATIONS),
    (90, ("posterior_sum_and_kl:long", "sum_minus_self:long", "shards:long")),
    (90, ("posterior_sum_and_kl:float64", "diag_normal_kl:float64")),
    (90, ("multiset_kl:ragged", "sum_minus_self:ragged", "product_of_experts:padded")),
    (80, ("posterior_sum_and_kl",)),
], ids=["sm_90", "sm_90-long-sets", "sm_90-float64", "sm_90-layouts", "sm_80"])
def test_they_compile_and_spill_nothing(architecture, operations, tmp_path):
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path),
                   "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "bench")))}
    done = subprocess.run([sys.executable, SCRIPT, str(architecture), *operations], env=environment,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(told) >= 2 * len(operations)
    # a choice that leaves float64 room has fewer coordinates to a thread; these have those of float32
    assert not [k for k in told if k["stack"] and k["constants"].get("T") != "fp64"], "spilled registers"
