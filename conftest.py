"""What the tests need before anything is imported, and what the collection of docstrings' examples leaves out."""

import os
from importlib.util import find_spec

import torch

from compvae_fast import _loading

# Triton looks at this when it is first imported: without a GPU its kernels are tested in its interpreter.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

collect_ignore = [] if find_spec("pyro") else ["compvae_fast/pyro.py"]
_of_bokeh = ("controls", "curves", "figures", "images", "page", "server")
collect_ignore += [] if find_spec("bokeh") else [f"compvae_fast/explore/{name}.py" for name in _of_bokeh]
collect_ignore_glob = ["compvae_fast/numpy/*"] if _loading.reason_missing() else []
