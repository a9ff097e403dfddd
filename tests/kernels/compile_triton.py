"""Compiles Triton kernels for a GPU that is not there, and prints what the assembler tells of each.

Usage: compile_triton.py ARCHITECTURE OPERATION[:long][:float64][:ragged|:padded]..., with TRITON_INTERPRET=0; the
architecture is 80 or the like, "shards" stands for those of all operations that have them, "noise" for
compvae_fast.random. Every launch that a call of the operation would make becomes a compilation; a line of JSON for each
has the kernel, its options, registers and the bytes of its stack frame, where spilled registers go.
"""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from compvae_fast.kernels.triton import errors, launch
from compvae_fast.reference.shards import Shard

WIDTH, PARTS, LONG = 1024, 16, 512
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Absent:
    """A device to compile for."""

    def __init__(self, architecture: int):
        self._target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self):
        return self._target

    def get_current_device(self):
        return 0

    def get_current_stream(self, device=None):
        return 0


def compile_only(kernel, programs, like, arguments, constants, **options):
    compiled = kernel.warmup(*arguments, **constants, **options, enable_fp_fusion=True, grid=(1,))
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        told = subprocess.run([CUOBJDUMP, "--dump-resource-usage", file.name], capture_output=True, text=True,
                              check=True)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", told.stdout).groups()
    name = f"{kernel.__module__.rpartition('.')[2]}.{kernel.__name__}"
    print(json.dumps({"kernel": name, "constants": {k: str(v) for k, v in constants.items()},
                      "registers": int(registers), "stack": int(stack)}), flush=True)


def calls(operation: str, parts: int, dtype: torch.dtype):
    """Arguments of an operation, but for `save`, on sets of so many parts."""
    seed, none = torch.tensor(3), (None, None)

    def tensors(count, *shape, dtype=dtype):
        return [torch.zeros(shape or (2, parts, WIDTH), dtype=dtype) for _ in range(count)]

    couplings = ("scaled", "unit")
    if operation in ("posterior_sum_and_kl", "multiset_kl"):
        draws = (seed, *none) if operation == "posterior_sum_and_kl" else ()
        return [(*tensors(5), *none, *draws, c) for c in couplings]
    if operation == "posterior_sum_and_log_ratio":
        return [(*tensors(5), *none, seed, *none, "scaled", False), (*tensors(5), *none, seed, *none, "unit", True)]
    if operation == "correlated_normal_rsample":
        return [(*tensors(3), *none, seed, *none, c, True) for c in couplings]
    if operation == "correlated_normal_log_prob":
        return [(*tensors(4), *none, c) for c in couplings]
    if operation == "sum_minus_self":
        return [(*tensors(1, dtype=torch.bfloat16), *none, *how) for how in (("", "", "sum"), ("elu", "tanh", "mean"))]
    if operation == "product_of_experts":
        return [(*tensors(2), *none, torch.ones(2, parts, dtype=torch.bool), True)]
    if operation == "prior_sum":
        labels, counts = torch.zeros(2, parts, dtype=torch.int64), torch.ones(2, 10, dtype=torch.int64)
        tables = tensors(2, 10, WIDTH)
        return [(*tables, labels, None, *none, seed, *none, False), (*tables, None, counts, *none, seed, *none, True)]
    return [tuple(tensors(4 if operation == "diag_normal_kl" else 3, 2, 5000))]


def laid_out(record, arguments: tuple, how: list[str]) -> tuple:
    """Arguments of dense sets as those of ragged or padded ones."""
    values, kinds = dict(zip(record.names, arguments)), {a.name: a.kind for a in record.all_arguments}
    parts = arguments[0].shape[1]
    if "ragged" in how:
        values = {name: value.flatten(0, 1) if value is not None and "part" in kinds[name] else value
                  for name, value in values.items()}
        values["offsets"] = torch.tensor([0, parts, 2 * parts])
    if "padded" in how:
        values["lengths"] = torch.tensor([parts, 1])
    return tuple(values.values())


def compile_shards(parts: int, dtype: torch.dtype) -> None:
    from gpu_check.exercise import exercise_shard

    start, counts = torch.tensor([0, 0]), torch.tensor([parts, parts])
    exercise_shard("triton", [torch.zeros(2, parts, WIDTH, dtype=dtype) for _ in range(5)],
                   Shard(None, None, "unit", torch.tensor(3), None, start, counts))


def compile_noise() -> None:
    from compvae_fast.kernels.triton import noise

    place = torch.arange(8)
    noise.philox4x32_10(torch.zeros(8, 4, dtype=torch.int64), torch.zeros(2, dtype=torch.int64))
    for draw in (noise.normal, noise.uniform):
        draw(torch.tensor(3), place, place, place)


def main(architecture: str, *operations: str) -> None:
    driver.set_active(Absent(int(architecture)))
    launch.submit = compile_only
    launch._choice = lambda *_: launch.Choice(512, 4)
    errors.raise_noted = lambda interpreted: None
    errors.record = lambda interpreted: torch.zeros(6, 4, dtype=torch.int64)
    for name in operations:
        operation, *how = name.split(":")
        parts, dtype = LONG if "long" in how else PARTS, torch.float64 if "float64" in how else torch.float32
        if operation == "noise":
            compile_noise()
            continue
        if operation == "shards":
            compile_shards(parts, dtype)
            continue
        module = importlib.import_module(f"compvae_fast.kernels.triton.{operation}")
        record = importlib.import_module(f"compvae_fast.ops.{operation}").OPERATION
        for arguments in calls(operation, parts, dtype):
            arguments = laid_out(record, arguments, how)
            outputs = module.forward(*arguments, True)
            gradients, saved = outputs[: len(record.outputs)], outputs[len(record.outputs) :]
            module.backward(*gradients, *arguments, *saved, [True] * len(record.inputs))


if __name__ == "__main__":
    main(*sys.argv[1:])
