"""Triton's interpreter as the tests use it: faster, and rounding to bfloat16 as devices do."""

from __future__ import annotations

import inspect

import numpy as np
import torch

from compvae_fast.reference.noise import philox_words


def improve() -> None:
    """Changes to Triton's interpreter, made once for the process.

    It replaces the language's functions at every call of a function in a kernel, though they are replaced already, and
    works through Philox word by word: that takes most of its time. (A test of its own has the kernels' Philox.) It cuts
    float32 numbers off where they become bfloat16, which devices round to nearest. Its float32 functions are exact to
    rounding; here those that devices approximate are off by as much as they may be there. And Triton 3.6 takes int() of
    arrays of one element, which NumPy refuses since 2.4.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    from compvae_fast.kernels.triton import noise, normals  # noise keeps the kernels' own Philox

    if getattr(interpreter, "_compvae_fast_improved", False):
        return
    replace, cast = interpreter._patch_lang, interpreter.InterpreterBuilder.cast_impl

    def replaced_once(function):
        languages = [v for v in function.__globals__.values() if inspect.ismodule(v) and v in (tl, tl.core)]
        if any(tl.core.is_builtin(language.load) for language in languages):
            scope = replace(function)
            tl.core.tensor.__index__ = lambda self: self.handle.data.item()
            return scope
        return interpreter._LangPatchScope()

    def rounded(self, source, to):
        if source.dtype.scalar == tl.float32 and to.scalar == tl.bfloat16:
            data = torch.from_numpy(source.data.copy()).to(torch.bfloat16).view(torch.uint16).numpy()
            return interpreter.TensorHandle(data, tl.bfloat16)
        return cast(self, source, to)

    def words(*given):
        numbers = [t.handle.data.astype(np.int64) for t in given]
        found = np.broadcast_arrays(*philox_words(numbers[:4], numbers[4:]))
        kind = tl.block_type(tl.uint32, list(found[0].shape))
        return tuple(tl.tensor(interpreter.TensorHandle(x.astype(np.uint32), tl.uint32), kind) for x in found)

    def approximate(name, bound):
        exact = getattr(interpreter.InterpreterBuilder, name)

        def inexact(self, *arguments):
            result = exact(self, *arguments)
            if result.dtype.scalar == tl.float32:
                lane = np.arange(result.data.size).reshape(result.data.shape)
                factor = 1 + bound * np.sin(1 + lane)  # up to the bound, of either sign
                factor[np.frexp(result.data)[0] == 0.5] = 1  # powers of two come out exactly, 2^0 above all
                result = interpreter.TensorHandle((result.data * factor).astype(np.float32), result.dtype)
            return result

        setattr(interpreter.InterpreterBuilder, name, inexact)

    # as the PTX manual says of ex2.approx, rsqrt.approx and div.full
    for name, bound in (("create_exp2", 2.0**-22), ("create_rsqrt", 2.0**-22.9), ("create_fdiv", 2.0**-22)):
        approximate(name, bound)
    assert noise._philox is normals.philox4x32_10
    normals.philox4x32_10 = words
    interpreter._patch_lang = replaced_once
    interpreter.InterpreterBuilder.cast_impl = rounded
    for name in ("create_fp_trunc", "create_fp_ext"):
        setattr(interpreter.InterpreterBuilder, name, lambda self, source, to: self.cast_impl(source, to))
    interpreter._compvae_fast_improved = True
