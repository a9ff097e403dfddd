"""The machine and the software that numbers were made with."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import numpy
import torch

import compvae_fast
from compvae_fast.backends import backends

FEATURES = ("avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512_bf16", "amx_bf16", "asimd", "sve")


def facts() -> dict[str, str]:
    """Versions, processor, threads and device."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "compvae_fast": compvae_fast.__version__,
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "NumPy": numpy.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor_name(),
        "features": " ".join(processor_features()) or "unknown",
        "vector code of torch": torch.backends.cpu.get_cpu_capability(),
        "processors": str(os.cpu_count()),
        "threads": str(torch.get_num_threads()),
        "GPU": gpu,
    }


def processor_name() -> str:
    """As Linux names it, or what Python knows."""
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def processor_features() -> list[str]:
    """Those of FEATURES that the processor has; none where the system does not tell."""
    cpuinfo = _cpuinfo()
    has = set((cpuinfo.get("flags") or cpuinfo.get("Features") or "").split())
    return [feature for feature in FEATURES if feature in has]


def _cpuinfo() -> dict[str, str]:
    """The first processor of Linux's list."""
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return {}
    first = path.read_text().split("\n\n")[0]
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}


def info_text() -> str:
    """The facts and the backend table, as ``compvae_fast info`` prints them."""
    known = facts()
    width = max(map(len, known))
    lines = [f"{name.ljust(width)}  {value}" for name, value in known.items()]
    table = [("backend", "device", "there", "why not, or how")]
    table += [(b.name, b.device, "yes" if b.available else "no", b.reason or b.note) for b in backends().values()]
    widths = [max(map(len, column)) for column in zip(*table)]
    lines.append("")
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in table]
    return "\n".join(lines)
