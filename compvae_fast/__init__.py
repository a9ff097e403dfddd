"""Fused kernels and models for variational auto-encoders over multisets of latent parts."""

import importlib
from pathlib import Path

__version__ = "0.1.0"

# kernels/ is installed inside this package; in a source tree it lies beside it.
if not Path(__file__).with_name("kernels").exists():
    __path__.append(str(Path(__file__).parent.parent))

# name -> module it lives in, imported when first asked for
_LAZY = {
    "CompVAE": "compvae_fast.models",
    "set_backend": "compvae_fast.backends",
    "use_backend": "compvae_fast.backends",
}
# `backends` is a module that may be called, as the function of its name
_MODULES = ("backends", "distributions", "numpy", "ops", "random", "reference")

__all__ = ["__version__", *_LAZY, *_MODULES]


def __getattr__(name: str):
    if name in _MODULES:
        return importlib.import_module(f"compvae_fast.{name}")
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'compvae_fast' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
