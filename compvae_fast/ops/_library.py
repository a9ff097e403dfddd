"""How torch meets the kernels: one record for each operation, from which its registrations are made.

An operation `name` becomes two registered ones, torch.ops.compvae_fast.name and name_backward, each with a schema,
a fake implementation, a vmap rule that folds the mapped dimension into the batch of sets, and an implementation that
chooses the backend at run time. Gradients come from an autograd.Function around them, so that torch.compile,
torch.func.grad and torch.func.vmap see through; forward mode and double backward are refused with an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from compvae_fast import backends
from compvae_fast.ops import _checks
from compvae_fast.ops._checks import Plainness

NAMESPACE = "compvae_fast"
_library = torch.library.Library(NAMESPACE, "DEF")

# kind -> schema type; see Argument
_TYPES = {
    "part": "Tensor", "set": "Tensor", "table": "Tensor", "stats": "Tensor", "optional_part": "Tensor?",
    "optional_set": "Tensor?", "offsets": "Tensor?", "index": "Tensor?", "set_index": "Tensor?", "seed": "Tensor",
    "text": "str", "flag": "bool",
}


@dataclass(frozen=True)
class Argument:
    """One argument of a registered operation.

    kind: "part" [B, K, ...] or ragged [N, ...]; "set" [B, ...]; "table" (shared by all sets); "stats" [S, B, ...];
    "offsets" [B + 1]; "index" and "set_index" [B], optional; "seed" 0-d or [B]; "text" and "flag" are options;
    "optional_part" and "optional_set" are what they say.
    """

    name: str
    kind: str


SETS = (Argument("offsets", "offsets"), Argument("lengths", "index"))
DRAWS = (Argument("seed", "seed"), Argument("set_index", "set_index"), Argument("part_start", "index"))
COUPLING = (Argument("coupling", "text"),)


def parts(*names: str) -> tuple[Argument, ...]:
    return tuple(Argument(name, "part") for name in names)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where an input is, else float32."""
    for t in tensors:
        if t.dtype == torch.float64:
            return torch.float64
    return torch.float32


def wide_dtype(t: Tensor) -> torch.dtype:
    """The dtype of sums over a set: float32 for half inputs, else the input's."""
    return torch.float64 if t.dtype == torch.float64 else torch.float32


@dataclass(frozen=True)
class Operation:
    """What the package knows about one operation.

    inputs: the differentiable arguments; arguments: the others, tensors first; outputs: the kinds of what it returns;
    saved: the kinds of what it leaves for the backward pass beside the inputs; describe(values of all arguments, save)
    gives (shape, dtype) of each output and each saved tensor; check_values(**arguments) looks at values of index
    tensors on the CPU, before any memory is touched.
    """

    name: str
    inputs: tuple[Argument, ...]
    arguments: tuple[Argument, ...]
    outputs: tuple[str, ...]
    saved: tuple[str, ...]
    describe: Callable[..., Sequence[tuple[Sequence[int], torch.dtype]]]
    check_values: Callable[..., None] = field(default=lambda **_: None)

    # made from the above: torch.ops.compvae_fast.name (*all_arguments, save, backend), name_backward (*gradients,
    # *all_arguments, *saved, needs, backend), and the autograd.Functions around them and around what they run
    names: tuple[str, ...] = field(init=False)
    count_tensors: int = field(init=False)  # arguments that are tensors or None; after them come options
    index_places: tuple[int, ...] = field(init=False)  # of the tensors whose values are checked
    raw: torch._ops.OpOverload = field(init=False)
    raw_backward: torch._ops.OpOverload = field(init=False)
    function: type[torch.autograd.Function] = field(init=False)
    apply_plainly: Callable[..., tuple[Tensor, ...]] = field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "names", tuple(a.name for a in self.all_arguments))
        tensors = [_TYPES[a.kind].startswith("Tensor") for a in self.all_arguments]
        assert tensors == sorted(tensors, reverse=True), f"{self.name}: options before tensors"
        object.__setattr__(self, "count_tensors", sum(tensors))
        object.__setattr__(self, "index_places", tuple(
            i for i, a in enumerate(self.all_arguments) if i >= len(self.inputs) and tensors[i] and a.kind != "seed"))
        _register(self)
        object.__setattr__(self, "raw", getattr(torch.ops.compvae_fast, self.name).default)
        object.__setattr__(self, "raw_backward", getattr(torch.ops.compvae_fast, self.name + "_backward").default)
        object.__setattr__(self, "function", _make_function(self))
        # Function.apply itself looks for transforms, of which there are none where this is called.
        object.__setattr__(self, "apply_plainly", super(torch.autograd.Function, _make_plain_function(self)).apply)

    @property
    def all_arguments(self) -> tuple[Argument, ...]:
        return self.inputs + self.arguments

    def named(self, values: Sequence) -> dict:
        """The values of all arguments by name."""
        return dict(zip(self.names, values, strict=True))

    def __call__(self, *values) -> tuple[Tensor, ...]:
        """The outputs, differentiable; values of all arguments in order."""
        inputs = values[: len(self.inputs)]
        # Compiled code chooses the backend when it runs; eager code hands the choice on to the backward pass.
        backend = "" if torch.compiler.is_compiling() else _chosen(self, values)
        if backend and _nobody_watches() and (plainness := _checks.plainness(values)):
            if plainness is Plainness.WANTS_GRADIENT and torch.is_grad_enabled():
                return self.apply_plainly(*inputs, values, backend)
            outputs = self.forward(values, False, backend)
        elif _may_be_differentiated(inputs):
            outputs = self.function.apply(*_apart(values), True, backend)
        else:
            outputs = _as_tuple(self.raw(*values, False, backend))
        return outputs[: len(self.outputs)]

    def forward(self, values: Sequence, save: bool, backend: str) -> tuple[Tensor, ...]:
        """The outputs and what is saved, by a backend; values of all arguments in order. Records no gradient."""
        if any([values[i] is not None for i in self.index_places]):
            self.check_values(**self.named(values))
        if backend == "reference":
            return _reference_forward(self, values, save)
        return _as_tuple(backends.implementation(backend, self.name).forward(*values, save))

    def backward(
        self, gradients: Sequence, values: Sequence, saved: Sequence, needs: list[bool], backend: str
    ) -> tuple[Tensor, ...]:
        """The gradients of the inputs; an empty tensor for one that is not needed."""
        if backend == "reference":
            return _reference_backward(self, gradients, values, needs)
        return _as_tuple(backends.implementation(backend, self.name).backward(*gradients, *values, *saved, needs))


def _chosen(operation: Operation, values: Sequence) -> str:
    """The backend for a call."""
    device = "cpu" if values[0].is_cpu else values[0].device.type
    return backends.resolve(operation.name, device, shapes_of(operation, values) if device == "cuda" else "")


def shapes_of(operation: Operation, values: Sequence) -> str:
    """The class of a call's shapes, by which the table of the fastest backends on a GPU is ordered."""
    if any(v.dtype == torch.float64 for v in values[: len(operation.inputs)]):
        return "float64"
    kinds = [(a.kind, v) for a, v in zip(operation.all_arguments, values) if isinstance(v, Tensor)]
    if any(kind == "offsets" for kind, _ in kinds):
        return "ragged"
    parts = next((v for kind, v in kinds if kind in ("part", "optional_part")), None)
    return "rows" if parts is None else "few parts" if parts.shape[1] <= 32 else "many parts"


def _as_tuple(results: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The results of a registered operation, which is a bare tensor where there is one."""
    return results if isinstance(results, tuple) else (results,)


def _as_results(results: Sequence) -> Any:
    return tuple(results) if len(results) > 1 else results[0]


def _nobody_watches() -> bool:
    """Whether a call outside compiled code on plain tensors may pass the dispatcher by: no transform or mode is on."""
    return (torch._C._functorch.peek_interpreter_stack() is None and not torch._C._len_torch_dispatch_stack()
            and not torch._C._len_torch_function_stack() and forward_ad._current_level < 0
            and torch._C._get_tracing_state() is None)


def _may_be_differentiated(inputs: Sequence[Tensor]) -> bool:
    if torch.is_grad_enabled() and any(v.requires_grad for v in inputs):
        return True
    # Inside vmap a tensor does not tell what is wanted of it outside.
    return _forward_mode() or (
        not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None)


def _apart(values: Sequence) -> list:
    """The values, with an alias for a tensor that comes twice: Dynamo takes no such call of an autograd.Function."""
    if not torch.compiler.is_compiling():
        return list(values)
    return [v.view_as(v) if isinstance(v, Tensor) and any(v is other for other in values[:i]) else v
            for i, v in enumerate(values)]


def _forward_mode() -> bool:
    """Whether forward-mode differentiation is under way: the autograd.Function refuses it."""
    return not torch.compiler.is_compiling() and forward_ad._current_level >= 0


def _schema(operation: Operation) -> tuple[str, str]:
    arguments = ", ".join(f"{_TYPES[a.kind]} {a.name}" for a in operation.all_arguments)
    results = ", ".join(["Tensor"] * (len(operation.outputs) + len(operation.saved)))
    gradients = "".join(f"Tensor? grad_{i}, " for i in range(len(operation.outputs)))
    saved = "".join(f", Tensor saved_{i}" for i in range(len(operation.saved)))
    wanted = ", ".join(["Tensor"] * len(operation.inputs))
    return (f"{operation.name}({arguments}, bool save, str backend) -> ({results})",
            f"{operation.name}_backward({gradients}{arguments}{saved}, bool[] needs, str backend) -> ({wanted})")


def _register(operation: Operation) -> None:
    count_out, count_all = len(operation.outputs), len(operation.all_arguments)
    forward_schema, backward_schema = _schema(operation)
    _library.define(forward_schema)
    _library.define(backward_schema)

    def forward(*arguments):
        *values, save, backend = arguments
        return _as_results(operation.forward(values, save, backend or _chosen(operation, values)))

    def backward(*arguments):
        *tensors, needs, backend = arguments
        gradients, values = tensors[:count_out], tensors[count_out : count_out + count_all]
        saved = tensors[count_out + count_all :]
        return _as_results(operation.backward(gradients, values, saved, needs, backend or _chosen(operation, values)))

    def fake(*arguments):
        *values, save, _ = arguments
        device = values[0].device
        return _as_results([torch.empty(shape, dtype=dtype, device=device)
                            for shape, dtype in operation.describe(values, save)])

    def fake_backward(*arguments):
        values = arguments[count_out : count_out + len(operation.inputs)]
        return _as_results([torch.empty(v.shape if need else (0,), dtype=v.dtype, device=v.device)
                            for v, need in zip(values, arguments[-2])])

    plain = tuple(a.kind for a in operation.all_arguments)
    saved = operation.saved
    gradient_kinds = tuple("optional_" + kind for kind in operation.outputs)
    for name, kernel, fake_kernel, kinds, out_kinds in (
        (operation.name, forward, fake, plain + ("flag", "text"), operation.outputs + saved),
        (operation.name + "_backward", backward, fake_backward,
         gradient_kinds + plain + saved + ("flags", "text"), tuple(a.kind for a in operation.inputs)),
    ):
        _library.impl(name, kernel, "CompositeExplicitAutograd")
        _library.impl(name, _make_guard(operation.name, name), "Autograd")
        torch.library.register_fake(f"{NAMESPACE}::{name}", fake_kernel, lib=_library)
        torch.library.register_vmap(f"{NAMESPACE}::{name}", _make_vmap_rule(name, kinds, out_kinds), lib=_library)


def _make_guard(operation: str, name: str):
    """Refuses calls that want a gradient of the bare operation, so that nobody gets silent zeros."""

    def guard(*arguments):
        if torch.is_grad_enabled() and any(isinstance(a, Tensor) and a.requires_grad for a in arguments):
            what = ("has no derivative: double backward is not offered" if name.endswith("_backward") else
                    f"records no gradient: call compvae_fast.ops.{operation}, or use torch.no_grad(); "
                    "torch.func.grad within torch.compile is not offered")
            raise RuntimeError(f"torch.ops.compvae_fast.{name} {what}")
        if _forward_mode() and any(isinstance(a, Tensor) and forward_ad.unpack_dual(a).tangent is not None
                                   for a in arguments):
            raise NotImplementedError(f"torch.ops.compvae_fast.{name}: forward-mode differentiation is not offered")
        with torch._C._AutoDispatchBelowAutograd():
            return getattr(torch.ops.compvae_fast, name).default(*arguments)

    return guard


def _make_function(operation: Operation) -> type[torch.autograd.Function]:
    count_in, count_out, count_all = len(operation.inputs), len(operation.outputs), len(operation.all_arguments)
    count_tensors, raw, raw_backward = operation.count_tensors, operation.raw, operation.raw_backward
    once = _make_once(operation)

    class Function(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments):
            return _as_tuple(raw(*arguments))

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.mark_non_differentiable(*output[count_out:])
            _remember(ctx, count_tensors, inputs[:count_all], output[count_out:], inputs[-1])

        @staticmethod
        def backward(ctx, *gradients):
            values, saved = _remembered(ctx, count_tensors)
            needs = list(ctx.needs_input_grad[:count_in])
            # Grad mode is on where a graph of the backward pass is being made: torch.func.grad always makes one.
            run = once.apply if torch.is_grad_enabled() and not torch.compiler.is_compiling() else raw_backward
            results = _as_tuple(run(*gradients[:count_out], *values, *saved, needs, ctx.backend))
            wanted = [r if need else None for r, need in zip(results, needs)]
            return *wanted, *[None] * (count_all - count_in + 2)

    Function.__name__ = Function.__qualname__ = operation.name
    return Function


def _remember(ctx, count_tensors: int, values: tuple, saved: Sequence[Tensor], backend: str) -> None:
    """Leaves a call's arguments, options behind tensors, and what it saved for the backward pass."""
    ctx.set_materialize_grads(False)
    ctx.options, ctx.backend = values[count_tensors:], backend
    ctx.save_for_backward(*values[:count_tensors], *saved)


def _remembered(ctx, count_tensors: int) -> tuple[tuple, tuple[Tensor, ...]]:
    kept = ctx.saved_tensors
    return kept[:count_tensors] + ctx.options, kept[count_tensors:]


def _make_plain_function(operation: Operation) -> type[torch.autograd.Function]:
    """The same for eager calls under no transform, at less cost; arguments: the inputs, all arguments, the backend."""
    count_in, count_out, count_tensors = len(operation.inputs), len(operation.outputs), operation.count_tensors
    once = _make_once(operation)

    class Plain(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *arguments):
            values, backend = arguments[count_in:]
            outputs = operation.forward(values, True, backend)
            _remember(ctx, count_tensors, values, outputs[count_out:], backend)
            return outputs[:count_out]

        @staticmethod
        def backward(ctx, *gradients):
            values, saved = _remembered(ctx, count_tensors)
            needs = list(ctx.needs_input_grad[:count_in])
            arguments = (*gradients, *values, *saved, needs, ctx.backend)
            if torch.is_grad_enabled():
                results = _as_tuple(once.apply(*arguments))
            # A mode may have come since the call, and hooks may give back other tensors than were saved.
            elif _nobody_watches() and _checks.plainness((*gradients, *values, *saved)):
                results = operation.backward(gradients, values, saved, needs, ctx.backend)
            else:
                results = _as_tuple(operation.raw_backward(*arguments))
            wanted = [r if need else None for r, need in zip(results, needs)]
            return *wanted, None, None

    Plain.__name__ = Plain.__qualname__ = operation.name
    return Plain


def _make_once(operation: Operation) -> type[torch.autograd.Function]:
    """The backward pass as a function that may enter a graph, but refuses to be differentiated."""
    raw_backward = operation.raw_backward

    class Once(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*arguments):
            return _as_tuple(raw_backward(*arguments))

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def backward(ctx, *gradients):
            raise RuntimeError(f"compvae_fast.ops.{operation.name}: double backward is not offered")

    Once.__name__ = Once.__qualname__ = operation.name + "_backward"
    return Once


def _reference_forward(operation: Operation, values, save: bool) -> tuple[Tensor, ...]:
    named = operation.named(values)
    function = getattr(backends.implementation("reference", operation.name), operation.name)
    outputs = _as_tuple(function(**named))
    described = operation.describe(values, save)
    # The reference saves nothing; NaN meets a backend that would read it.
    left = (torch.full(shape, math.nan, dtype=dtype, device=values[0].device)
            for shape, dtype in described[len(outputs):])
    return *(o.contiguous() for o in outputs), *left


def _reference_backward(operation: Operation, gradients, values, needs) -> tuple[Tensor, ...]:
    """Differentiates the reference by torch's own autograd, which the dispatcher has switched off by now."""
    named = operation.named(values)
    function = getattr(backends.implementation("reference", operation.name), operation.name)
    keys = (torch._C.DispatchKey.AutogradFunctionality, torch._C.DispatchKey.ADInplaceOrView)
    excluded = [torch._C._dispatch_tls_is_dispatch_key_excluded(key) for key in keys]
    try:
        for key in keys:
            torch._C._dispatch_tls_set_dispatch_key_excluded(key, False)
        with torch.enable_grad():
            leaves = [named[a.name].detach().requires_grad_(need) for a, need in zip(operation.inputs, needs)]
            named.update((a.name, leaf) for a, leaf in zip(operation.inputs, leaves))
            outputs = _as_tuple(function(**named))
            pairs = [(o, g) for o, g in zip(outputs, gradients) if g is not None and o.requires_grad]
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad([o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True)
                         if pairs else [None] * len(wanted))
    finally:
        for key, was in zip(keys, excluded):
            torch._C._dispatch_tls_set_dispatch_key_excluded(key, was)
    results = []
    for leaf, need in zip(leaves, needs):
        gradient = next(found) if need else None
        if gradient is None:
            gradient = torch.zeros(leaf.shape if need else 0, dtype=leaf.dtype, device=leaf.device)
        results.append(gradient.contiguous())
    return tuple(results)


def _make_vmap_rule(name: str, kinds: tuple[str, ...], out_kinds: tuple[str, ...]):
    """Folds the mapped dimension into the batch of sets; where tables differ by it, the calls are made one by one."""

    def rule(info, in_dims, *arguments):
        raw = getattr(torch.ops.compvae_fast, name).default
        size = info.batch_size
        if "table" in out_kinds or any(d is not None and kind == "table" for d, kind in zip(in_dims, kinds)):
            calls = [_as_tuple(raw(*(a.select(d, i) if d is not None and isinstance(a, Tensor) else a
                                     for a, d in zip(arguments, in_dims)))) for i in range(size)]
            return _as_results([torch.stack(results) for results in zip(*calls)]), _as_results((0,) * len(out_kinds))
        front = [a if d is None or not isinstance(a, Tensor) else a.movedim(d, 0) for a, d in zip(arguments, in_dims)]
        mapped = [d is not None for d in in_dims]
        offsets = next((a for a, k in zip(front, kinds) if k == "offsets"), None)
        sets, rows = _extent(front, mapped, kinds, offsets)
        device = next(a.device for a in front if isinstance(a, Tensor))
        folded = [_fold(a, m, kind, size, sets, rows, device) for a, m, kind in zip(front, mapped, kinds)]
        return _unfold(_as_tuple(raw(*folded)), out_kinds, size)

    return rule


def _extent(front, mapped, kinds, offsets) -> tuple[int, int]:
    """Sets and rows of one call of those that are folded together."""

    def extent(*among: str) -> int:
        return next((a.shape[m] for a, m, k in zip(front, mapped, kinds)
                     if isinstance(a, Tensor) and k.removeprefix("optional_") in among), 0)

    rows = extent("part")
    return offsets.shape[-1] - 1 if offsets is not None else extent("part", "set"), rows


def _fold(value, mapped: bool, kind: str, size: int, sets: int, rows: int, device: torch.device):
    if kind == "set_index" and value is None:
        return torch.arange(sets, device=device).repeat(size)
    if not isinstance(value, Tensor) or kind == "table":
        return value
    if kind == "seed":
        # one seed for all, or one for each set
        if not mapped and value.dim() == 0:
            return value
        value = value if mapped else value.expand(size, *value.shape)
        return (value[:, None].expand(size, sets) if value.dim() == 1 else value).reshape(-1).contiguous()
    if not mapped:
        value = value.expand(size, *value.shape)
    if kind == "offsets":
        shift = rows * torch.arange(size, device=value.device)[:, None]
        return torch.cat([(value[:, :-1] + shift).reshape(-1), value[-1:, -1] + rows * (size - 1)])
    if kind == "stats":
        return value.movedim(0, 1).flatten(1, 2).contiguous()
    return value.flatten(0, 1)


def _unfold(results, kinds, size: int):
    unfolded, dims = [], []
    for result, kind in zip(results, kinds):
        if kind == "stats":
            unfolded.append(result.unflatten(1, (size, -1)) if result.dim() > 1 else result.expand(size, *result.shape))
            dims.append(1 if result.dim() > 1 else 0)
        else:
            # An unwanted gradient is an empty tensor.
            unfolded.append(result.unflatten(0, (size, result.shape[0] // size)))
            dims.append(0)
    return _as_results(unfolded), _as_results(dims)
