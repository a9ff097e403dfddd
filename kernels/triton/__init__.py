"""The operations as Triton kernels, for CUDA devices: one module for each, as in compvae_fast.native.

The mathematics are those of csrc/cpu. With TRITON_INTERPRET=1 in the environment before triton is imported, the same
kernels run in Triton's interpreter on CPU tensors: slow, for tests.
"""

import os

_OLDEST = (3, 6)


def is_interpreted() -> bool:
    """Whether the environment asks for Triton's interpreter."""
    return os.environ.get("TRITON_INTERPRET", "").lower() in ("1", "true", "yes", "on", "y", "t")


def device() -> str:
    """The device whose tensors the kernels take."""
    return "cpu" if is_interpreted() else "cuda"


def note() -> str:
    """What there is to know of these kernels where they can be used."""
    return "interpreted, on CPU tensors, when asked for by name" if is_interpreted() else ""


def reason_missing() -> str:
    """Why these kernels cannot be used; empty where they can."""
    if not is_interpreted():
        import torch  # not before it is needed: the choice of a backend serves callers without torch too

        if not torch.cuda.is_available():
            return "torch sees no CUDA device; with TRITON_INTERPRET=1 the kernels run interpreted on the CPU"
        if torch.version.hip:
            return "torch is built for ROCm; these kernels are written for CUDA"
    try:
        import triton
    except Exception as error:
        return f"triton cannot be imported: {error}"
    if tuple(map(int, triton.__version__.split(".")[:2])) < _OLDEST:
        return f"triton {triton.__version__} is older than {'.'.join(map(str, _OLDEST))}"
    if is_interpreted() != triton.knobs.runtime.interpret:
        return "TRITON_INTERPRET was changed after triton had been imported"
    return ""
