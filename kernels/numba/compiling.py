"""How the functions of the kernels are compiled, and where the compiled ones are kept.

Numba's cache looks only at the file of the function that it keeps, and reads what an older version of the package has
left; so the kernels' cache is a folder of its own for each state of their sources.
"""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from numba import config, njit
from numba.misc.appdirs import AppDirs

_OPTIONS = {"error_model": "numpy"}  # a division by 0 gives what IEEE 754 says

inlined = njit(forceinline=True, **_OPTIONS)
plain = njit(**_OPTIONS)


def _fingerprint() -> str:
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()[:16]


def cache_folder() -> str:
    """The first of these folders that can be written: NUMBA_CACHE_DIR if that is set, else the __pycache__ beside the
    sources, else the user's cache; empty where none can."""
    if config.CACHE_DIR:
        candidates = [Path(config.CACHE_DIR)]
    else:
        user = AppDirs(appname="compvae_fast", appauthor=False).user_cache_dir
        candidates = [Path(__file__).parent / "__pycache__", Path(user)]
    for candidate in candidates:
        folder = candidate / f"compvae_fast-{_fingerprint()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return str(folder)
    return ""


_folder = cache_folder()


def kernel(function):
    """A compiled function that releases the GIL, kept on disk where there is a place for that."""
    if not _folder:
        return njit(nogil=True, **_OPTIONS)(function)
    before, config.CACHE_DIR = config.CACHE_DIR, _folder
    try:
        return njit(nogil=True, cache=True, **_OPTIONS)(function)
    finally:
        config.CACHE_DIR = before
