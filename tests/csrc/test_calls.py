"""The driver under the sanitizers calls every kernel that there is."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_kernel_is_called():
    table = (ROOT / "csrc" / "cpu" / "kernels.h").read_text()
    kernels = set(re.findall(r"\bF\((\w+),", table))
    kernels |= {f"{name}_{which}" for name in re.findall(r" COMPVAE_SUM_OF_TERMS\(F, (\w+)\)", table)
                for which in ("forward", "backward") if name != "operation"}
    assert len(kernels) > 20
    calls = "".join((ROOT / "tests" / "csrc" / name).read_text() for name in ("calls.h", "driver.cpp"))
    assert not {kernel for kernel in kernels if not re.search(rf"(\.|K::){kernel}\b", calls)}
