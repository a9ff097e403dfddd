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
    """Compiles every kernel for one architecture ("90") and puts the module into the package; its path. What an earlier
    call compiled of the same sources is kept."""
    import pybind11

    folder.mkdir(parents=True, exist_ok=True)
    module = ROOT / "compvae_fast" / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    # An earlier build's module would hide that this one failed.
    module.unlink(missing_ok=True)
    note = ROOT / "compvae_fast" / "_cuda_build_failure.txt"
    note.write_text("gpu-check could not build the CUDA kernels\n")
    options = ["-O3", "-std=c++17", "-Xcompiler", "-fPIC,-fvisibility=hidden",
               f"-gencode=arch=compute_{architecture},code=sm_{architecture}"]
    includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    sources = [*sorted((ROOT / "csrc/cuda").glob("*.cu")), ROOT / "csrc/cuda_bindings.cpp"]
    changed = max(file.stat().st_mtime for file in (*(ROOT / "csrc").rglob("*.*"), Path(__file__)))

    def one(source: Path) -> Path:
        made = folder / f"{source.stem}-{sys.implementation.cache_tag}-sm_{architecture}.o"
        part = made.with_suffix(".part")
        if not made.exists() or made.stat().st_mtime < changed:
            headers = includes if source.suffix == ".cpp" else ()
            run("nvcc", *options, *headers, "-DCOMPVAE_MODULE=_cuda", "-c", source, "-o", part)
            os.replace(part, made)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(one, sources))
    run("nvcc", "-shared", "-cudart=static", *objects, "-o", module.with_suffix(".part"))
    os.replace(module.with_suffix(".part"), module)
    note.unlink()
    return module


def run(*command) -> None:
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
