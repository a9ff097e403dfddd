"""One OpenMP runtime serves torch and the native kernels, whichever is imported first."""

import subprocess
import sys
from pathlib import Path

import pytest

import compvae_fast

CALLS = """
import torch, compvae_fast
from pathlib import Path
torch.set_num_threads(2)
torch.randn(1 << 20).exp().sum()
with compvae_fast.use_backend("cpu"):
    compvae_fast.ops.posterior_sum_and_kl(*[torch.zeros(8, 4, 512)] * 5, seed=0)
paths = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/" in line}
print(*sorted(p for p in paths if Path(p).name.startswith(("libgomp", "libomp", "libiomp"))), sep="\\n")
"""


@pytest.mark.parametrize("first", ["import torch", "from compvae_fast import _native"])
def test_one_runtime_is_in_the_process(first):
    if not Path("/proc/self/maps").exists():
        pytest.skip("no /proc/self/maps on this system")
    if reason := compvae_fast.backends()["cpu"].reason:
        pytest.skip(f"cpu: {reason}")
    done = subprocess.run([sys.executable, "-c", f"{first}\n{CALLS}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 1, done.stdout
