"""Tensors that are more than the numbers in their memory: a call that passes the dispatcher by must know them."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import pytest
import torch

from compvae_fast import _loading, native
from compvae_fast.ops import _checks
from compvae_fast.ops._checks import Plainness

from .calls import CALLS
from .test_torch import Recorder


class Subclass(torch.Tensor):
    pass


def negated(x: torch.Tensor) -> torch.Tensor:
    """The same numbers, but the memory holds their negatives: the imaginary part of a conjugate."""
    view = torch.complex(torch.zeros_like(x), -x).conj().imag
    assert view.is_neg() and torch.equal(view, x)
    return view


def left_by(transform) -> torch.Tensor:
    """What a transform, now ended, made of a tensor."""
    seen = []
    transform(lambda x: (seen.append(x), x.sum())[1])(torch.ones(2, 3))
    return seen[0]


WRAPPED = {
    "a subclass": lambda: torch.ones(3).as_subclass(Subclass),
    "negated": lambda: negated(torch.ones(3)),
    "of torch.func.grad": lambda: left_by(torch.func.grad),
    "of torch.vmap": lambda: left_by(torch.vmap),
    "of torch.func.functionalize": lambda: left_by(torch.func.functionalize),
    "sparse": lambda: torch.eye(3).to_sparse(),
}
WITHOUT_MEMORY = {
    "meta": lambda: torch.ones(3, device="meta"),
    "zeros that are not there": lambda: torch._efficientzerotensor(3),
}
PLAIN = {
    "a tensor": lambda: torch.ones(3),
    "an empty one": lambda: torch.ones(0, 3),
    "a strided view": lambda: torch.ones(4, 3)[::2].t(),
    "a parameter that is fixed": lambda: torch.nn.Parameter(torch.ones(3), requires_grad=False),
    "labels": lambda: torch.arange(3),
}


@pytest.fixture(params=["with the native module", "without"])
def module(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr(_loading, "load", lambda name="_native": (None, "for a test"))


@pytest.mark.parametrize("kind", WRAPPED)
def test_wrapped_tensors_are_known(module, kind):
    assert _checks.plainness((torch.ones(3), None, WRAPPED[kind](), "scaled", True)) is Plainness.WRAPPED


@pytest.mark.parametrize("kind", WITHOUT_MEMORY)
def test_tensors_without_memory_are_known(kind):
    assert _checks.plainness((WITHOUT_MEMORY[kind](),)) is Plainness.WRAPPED


@pytest.mark.parametrize("kind", PLAIN)
def test_plain_tensors_are_known(module, kind):
    assert _checks.plainness((PLAIN[kind](), None, "scaled", True)) is Plainness.PLAIN
    wanting = torch.ones(3, requires_grad=True)
    assert _checks.plainness((PLAIN[kind](), wanting, None)) is Plainness.WANTS_GRADIENT


@pytest.mark.parametrize("kind", [*WRAPPED, *WITHOUT_MEMORY])
def test_no_wrapped_tensor_passes_for_plain_ones(kind):
    other = {**WRAPPED, **WITHOUT_MEMORY}[kind]()
    assert not _checks.plainly_alike({"first": torch.ones(other.shape), "second": other}) or kind == "negated"


@pytest.mark.parametrize("where", ["inputs", "gradients"])
@pytest.mark.parametrize("call", CALLS, ids=str)
def test_negated_numbers(call, where):
    """As inputs, and as gradients of outputs of plain ones."""

    def results(of_inputs, of_gradients):
        inputs = [x.requires_grad_() for x in call.inputs(2, 4)]
        outputs = call(*map(of_inputs, inputs), **call.indices(2, 4))
        upstream = [of_gradients(torch.linspace(1, 2, o.numel(), dtype=o.dtype).reshape(o.shape)) for o in outputs]
        return [*outputs, *torch.autograd.grad(outputs, inputs, upstream)]

    kinds = (negated, torch.clone) if where == "inputs" else (torch.clone, negated)
    for plain, turned in zip(results(torch.clone, torch.clone), results(*kinds)):
        assert torch.equal(plain, turned)


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_a_mode_of_the_backward_pass_alone_sees_it(call):
    """Else what traces it keeps unwritten memory for the gradients."""
    inputs = [x.requires_grad_() for x in call.inputs(2, 4)]
    outputs = call(*inputs, **call.indices(2, 4))
    upstream = [torch.ones_like(o) for o in outputs]
    with Recorder() as recorder:
        torch.autograd.grad(outputs, inputs, upstream)
    backward = getattr(torch.ops.compvae_fast, f"{call.name}_backward")
    assert [function for function, _ in recorder.calls] == [backward.default]


@pytest.mark.parametrize("call", CALLS, ids=str)
def test_saved_tensors_that_come_back_wrapped(call):
    def results(pack, unpack):
        inputs = [x.requires_grad_() for x in call.inputs(2, 4)]
        with torch.autograd.graph.saved_tensors_hooks(pack, unpack):
            outputs = call(*inputs, **call.indices(2, 4))
        return torch.autograd.grad(outputs, inputs, [torch.ones_like(o) for o in outputs])

    plain = results(torch.clone, torch.clone)
    turned = results(torch.clone, lambda x: negated(x) if x.is_floating_point() else x)
    assert all(map(torch.equal, plain, turned))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_the_native_module_describes_tensors_as_python_does(dtype, monkeypatch):
    base = torch.zeros(4, 5, 6, dtype=dtype)
    parts = (base, base[::2, :, 1::2], base.transpose(0, 2), base[1], base[:0], None, torch.nn.Parameter(base[:, 1]))
    sets = (base[:, 0], base[:, 0].t(), base[0, 0], base[:, 1, 2], base[:0, 0], None)
    packed = [one if one is None else struct.unpack("qi4xqqq", one)
              for one in (*native.rows(*parts), *native.per_set(*sets))]
    monkeypatch.setattr(native, "_in_its_place", SimpleNamespace(get=object))
    numbers = native.rows(*parts), native.per_set(*sets)
    monkeypatch.setattr(_loading, "load", lambda name="_native": (None, "for a test"))
    assert numbers == (native.rows(*parts), native.per_set(*sets))
    assert packed == [one for ones in numbers for one in ones]


@pytest.mark.parametrize("offsets", (None, torch.tensor([0, 2, 2, 4])))
@pytest.mark.parametrize("seed", (None, torch.tensor(3), torch.arange(4)))
def test_the_native_module_describes_sets_as_python_does(offsets, seed, monkeypatch):
    index = torch.arange(8, dtype=torch.int32)[::2]
    arguments = (torch.zeros((4, 5, 6) if offsets is None else (4, 6)).shape, offsets, None, index, index.long(), seed)
    described = native.Sets(*arguments)
    packed = struct.unpack("10qi4x", described.arguments)
    monkeypatch.setattr(native, "_in_its_place", SimpleNamespace(get=object))
    numbers = native.Sets(*arguments)
    # the int32 index is converted to another tensor each time
    assert packed[:5] + packed[6:] == numbers.arguments[:5] + numbers.arguments[6:]
    assert (described.count, described.width) == packed[0:3:2] == ((4 if offsets is None else 3), 6)
