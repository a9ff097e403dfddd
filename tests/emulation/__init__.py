"""The CUDA kernels compiled for the host and run by an emulation of threads, blocks, barriers and warps, so that the
backend's whole way is tested where there is no GPU, from the public function to the kernels. It serves CPU tensors."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import compvae_fast
from compvae_fast import _loading, backends, cuda

ROOT = Path(__file__).parents[2]
NAME = "_cuda_emulated"
# Products and sums are fused into one rounding, as nvcc does by default: GNU C++ does, standard C++ does not.
OPTIONS = ["-std=gnu++17", "-O1", "-fPIC", "-fvisibility=hidden", "-mavx2", "-mfma", "-mf16c", "-Wno-unknown-pragmas",
           f"-DCOMPVAE_MODULE={NAME}"]


@cache
def why_not() -> str:
    """Why the emulation cannot run here; empty where it can."""
    if not shutil.which("g++"):
        return "the emulation of CUDA needs g++"
    try:
        flags = Path("/proc/cpuinfo").read_text().partition("flags")[2].partition("\n")[0].split()
    except OSError:
        return "the emulation of CUDA is for Linux"
    if missing := {"fma", "avx2", "f16c"} - set(flags):
        return f"the emulation of CUDA needs a processor with {', '.join(sorted(missing))}"
    return "" if importlib.util.find_spec("pybind11") else "the emulation of CUDA needs pybind11"


@cache
def module() -> ModuleType:
    """The emulated kernels, compiled where their sources have changed."""
    path = _built()
    spec = importlib.util.spec_from_file_location(NAME, path)
    assert spec and spec.loader
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def _built() -> Path:
    import pybind11

    include = Path(__file__).parent / "include"
    csrc = ROOT / "csrc"  # of its headers those that the CUDA sources read
    headers = [csrc / "bindings.h", *(csrc / "common").glob("*.h"), *(csrc / "cuda").glob("*.h"), *include.glob("*.h")]
    sources = [*sorted((ROOT / "csrc/cuda").glob("*.cu")), ROOT / "csrc/cuda_bindings.cpp"]
    common = hashlib.sha256(repr((OPTIONS, sys.version, pybind11.__version__)).encode())
    for header in sorted(headers):
        common.update(header.read_bytes())
    folder = ROOT / "build" / "cuda-emulated"
    folder.mkdir(parents=True, exist_ok=True)
    includes = [f"-I{include}", f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]

    def compiled(source: Path) -> Path:
        digest = common.copy()
        digest.update(source.read_bytes())
        made = folder / f"{source.stem}-{digest.hexdigest()[:16]}.o"
        if not made.exists():
            for old in folder.glob(f"{source.stem}-*.o"):
                old.unlink(missing_ok=True)
            _run("g++", *OPTIONS, *includes, "-x", "c++", "-c", source, "-o", made.with_suffix(".part"))
            os.replace(made.with_suffix(".part"), made)
        return made

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compiled, sources))
    digest = hashlib.sha256("".join(o.name for o in objects).encode()).hexdigest()[:16]
    made = folder / f"{NAME}-{digest}{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not made.exists():
        _run("g++", "-shared", "-o", made.with_suffix(".part"), *objects)
        os.replace(made.with_suffix(".part"), made)
    return made


def _run(*command) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@contextmanager
def emulated():
    """The backend "cuda" serves CPU tensors, by the emulation, and calls go to it."""
    library = module()
    load, known = _loading.load, backends._KNOWN["cuda"]
    _loading.load = lambda name="_native": (library, "") if name == "_cuda" else load(name)
    backends._KNOWN["cuda"] = ("cpu", lambda: "", known[2])
    caches = backends._reason, backends._fastest, cuda._report
    for cached in caches:
        cached.cache_clear()
    try:
        with compvae_fast.use_backend("cuda"):
            yield library
    finally:
        _loading.load, backends._KNOWN["cuda"] = load, known
        for cached in caches:
            cached.cache_clear()
