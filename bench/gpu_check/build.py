"""The CUDA module by nvcc alone, for this machine's device: no CMake and no network are needed."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[2]


def compiled(folder: Path, architecture: str) -> Path:
    """Compiles every kernel for one architecture ("90") and puts the module into the package; its path."""
    import pybind11

    folder.mkdir(parents=True, exist_ok=True)
    options = ["-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden",
               f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    sources = [*sorted((ROOT / "csrc/cuda").glob("*.cu")), ROOT / "csrc/cuda_bindings.cpp"]

    def one(source: Path) -> Path:
        made = folder / f"{source.stem}.o"
        run("nvcc", *options, *(includes if source.suffix == ".cpp" else ()), "-DCOMPVAE_MODULE=_cuda", "-c", source,
            "-o", made)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(one, sources))
    module = ROOT / "compvae_fast" / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    run("nvcc", "-shared", "-cudart=static", *objects, "-o", module.with_suffix(".part"))
    os.replace(module.with_suffix(".part"), module)
    (ROOT / "compvae_fast" / "_cuda_build_failure.txt").unlink(missing_ok=True)
    return module


def run(*command) -> None:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"gpu-check: {command[0]} failed:\n{done.stdout}")
