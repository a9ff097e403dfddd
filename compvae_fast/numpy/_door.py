"""Where arrays come in: NumPy's as they are, others through DLPack."""

from __future__ import annotations

import ctypes
from typing import Any, TypeAlias

import numpy as np

try:
    from ml_dtypes import bfloat16
except ImportError:  # arrays of this dtype then come through DLPack alone, and are refused there
    BFLOAT16: np.dtype | None = None
else:
    BFLOAT16 = np.dtype(bfloat16)

# A NumPy array, or anything with __dlpack__ in CPU memory.
ArrayLike: TypeAlias = Any

_CPU, _BFLOAT, _UNSIGNED = 1, 4, 1  # of dlpack.h: kDLCPU, kDLBfloat, kDLUInt


class _DLTensor(ctypes.Structure):
    """The head of dlpack.h's DLTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
    ]


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


class _Capsule:
    """A DLPack capsule as an object that offers it."""

    def __init__(self, capsule, device: tuple[int, int]):
        self.capsule, self.device = capsule, device

    def __dlpack__(self, **_):
        return self.capsule

    def __dlpack_device__(self):
        return self.device


def array(name: str, value: ArrayLike) -> np.ndarray:
    """The argument as a NumPy array that shares its memory.

    Raises TypeError for what is no array, or holds bfloat16 without ml_dtypes; ValueError for memory of another device.
    """
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, np.generic):
        return np.asarray(value)
    if not hasattr(value, "__dlpack__"):
        raise TypeError(f"{name}: expected a NumPy array or an object with __dlpack__, got {type(value).__name__}")
    return _exchanged(name, value)


def arrays(**values: ArrayLike) -> dict[str, np.ndarray]:
    return {name: array(name, value) for name, value in values.items()}


def optional(name: str, value: ArrayLike | None) -> np.ndarray | None:
    return None if value is None else array(name, value)


def _exchanged(name: str, value) -> np.ndarray:
    """Through DLPack; NumPy knows no bfloat16, so that it is told of unsigned integers of its size."""
    device = value.__dlpack_device__()
    if device[0] != _CPU:
        raise ValueError(f"{name}: expected an array in CPU memory, got DLPack device {tuple(map(int, device))}")
    try:
        capsule = value.__dlpack__()
    except (BufferError, RuntimeError) as error:  # of a torch.Tensor that requires a gradient, among others
        raise ValueError(f"{name}: expected an array that can be exported: {error}") from None
    tensor = _DLTensor.from_address(_pointer_of(capsule, b"dltensor"))
    is_bfloat16 = tensor.code == _BFLOAT and tensor.bits == 16
    if is_bfloat16:
        if BFLOAT16 is None:
            raise TypeError(f"{name}: expected float32, float64 or float16, or ml_dtypes installed; got bfloat16")
        tensor.code = _UNSIGNED
    taken = np.from_dlpack(_Capsule(capsule, device))
    return taken if BFLOAT16 is None or not is_bfloat16 else taken.view(BFLOAT16)
