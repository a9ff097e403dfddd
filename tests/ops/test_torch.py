"""Every operation as a citizen of torch: registration, compilation, autocast, checkpoints, torch.func, threads, forks.

What the operations compute is tested elsewhere; here each is held to itself, called plainly.
"""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

import compvae_fast
from compvae_fast import ops

from .calls import CALLS, CLASSES, SEED

SETS, PARTS = 2, 4  # PARTS is no other size, so that torch.compile takes it for none
DRAWING = [call for call in CALLS if call.draws]
ON_PARTS = [call for call in CALLS if call.on_sets]


@pytest.fixture(scope="module", params=[name for name in compvae_fast.backends() if name != "triton"])
def backend(request):
    """Each backend that serves CPU tensors, but for what Triton's interpreter makes of them, minutes later."""
    known = compvae_fast.backends()[request.param]
    if not known.available or known.device not in ("cpu", "any"):
        pytest.skip(f"{request.param}: {known.reason or f'serves {known.device} tensors'}")
    with compvae_fast.use_backend(request.param):
        yield request.param


def every(calls=CALLS):
    return pytest.mark.parametrize("call", calls, ids=str)


def leaves(call, parts=PARTS, **keywords):
    return [x.requires_grad_() for x in call.inputs(SETS, parts, **keywords)]


def gradients(outputs, inputs):
    """Of a weighted sum of all outputs, so that no output and no element stands for another."""
    total = sum((o.double() * torch.linspace(1, 2, o.numel()).reshape(o.shape)).sum() for o in outputs)
    return torch.autograd.grad(total, inputs)


def loss_of(call, **keywords):
    """The operation's outputs as one differentiable number."""

    def loss(*inputs):
        return sum(o.double().square().sum() for o in call(*inputs, **keywords))

    return loss


def same(found, expected):
    found, expected = ((x,) if isinstance(x, torch.Tensor) else tuple(x) for x in (found, expected))
    assert len(found) == len(expected)
    for x, y in zip(found, expected):
        assert x.dtype == y.dtype and torch.equal(x, y)


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


class Recorder(TorchDispatchMode):
    """Keeps the calls of registered operations."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.namespace == "compvae_fast":
            self.calls.append((function, [a.detach() if isinstance(a, torch.Tensor) else a for a in args]))
        return function(*args, **(kwargs or {}))


def recorded(call, **keywords):
    """The registered operations that a call and its backward pass run, with their arguments."""
    inputs = leaves(call)
    with Recorder() as recorder:
        outputs = call(*inputs, **{**call.indices(SETS, PARTS), **keywords})
        torch.autograd.grad([o.sum() for o in outputs], inputs)
    return recorder.calls


class TestRegistration:
    @every()
    def test_opcheck(self, backend, call):
        """Schema, fake implementation and AOTDispatcher, of the operation and of its backward."""
        calls = recorded(call)
        assert [function.name().split("::")[1] for function, _ in calls] == [call.name, call.name + "_backward"]
        for index, (function, arguments) in enumerate(calls):
            if backend == "reference" and index == 0:
                arguments[-2] = False  # what it saves is NaN, which opcheck takes for a difference
            torch.library.opcheck(function, tuple(arguments))

    @every(ON_PARTS[:1] + ON_PARTS[-1:])
    def test_opcheck_of_ragged_and_padded_sets(self, backend, call):
        ragged = [x.flatten(0, 1) for x in call.inputs(SETS, PARTS)]
        padded = call.inputs(SETS, PARTS)
        for inputs, keywords in ((ragged, dict(offsets=torch.tensor([0, 1, 8], dtype=torch.int32))),
                                 (padded, dict(lengths=torch.tensor([0, 3])))):
            with Recorder() as recorder:
                call(*inputs, **keywords)
            (function, arguments), = recorder.calls
            torch.library.opcheck(function, tuple(arguments))

    @every()
    def test_direct_callers_are_told(self, backend, call):
        (forward, arguments), (backward, its_arguments) = recorded(call)
        same_arguments = [a.clone().requires_grad_() if a is arguments[0] else a for a in arguments]
        with pytest.raises(RuntimeError, match=f"records no gradient: call compvae_fast.ops.{call.name},"):
            forward(*same_arguments)
        with torch.no_grad():
            forward(*same_arguments)
        its_arguments[0] = its_arguments[0].clone().requires_grad_()
        with pytest.raises(RuntimeError, match="double backward is not offered"):
            backward(*its_arguments)

    @every()
    def test_no_graph_without_need(self, backend, call):
        inputs = leaves(call)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                assert not any(o.requires_grad for o in call(*inputs, **call.indices(SETS, PARTS)))
        for some in range(len(inputs)):
            part = [x.detach().requires_grad_(i == some) for i, x in enumerate(inputs)]
            found, = gradients(call(*part, **call.indices(SETS, PARTS)), part[some])
            expected = gradients(call(*inputs, **call.indices(SETS, PARTS)), inputs)[some]
            assert torch.equal(found, expected)


def _everything(inputs, indices):
    return [call(*x, **i) for call, x, i in zip(CALLS, inputs, indices)]


@pytest.fixture(scope="module")
def compiled():
    """Every operation in one graph, and the numbers of parts that it has met."""
    torch._dynamo.reset()
    return torch.compile(_everything, fullgraph=True, dynamic=True, backend="aot_eager"), set()


class TestCompile:
    @pytest.mark.parametrize("parts", [4, 9, 0, 1, 12])
    def test_every_operation_for_every_number_of_parts(self, compiled, backend, parts):
        """One graph for no parts, one for one and one for many serve all backends."""
        function, met = compiled
        inputs = [leaves(call, parts) for call in CALLS]
        indices = [call.indices(SETS, parts) for call in CALLS]
        with torch._dynamo.config.patch(error_on_recompile=min(parts, 2) in met):
            found = sum(map(tuple, function(inputs, indices)), ())
        met.add(min(parts, 2))
        expected = sum(map(tuple, _everything(inputs, indices)), ())
        same(found, expected)
        flat = [x for group in inputs for x in group]
        same(gradients(found, flat), gradients(expected, flat))

    def test_between_other_operations(self, backend):
        """Inductor makes code around the operations, ragged sets grow, and a seed tensor is no constant."""
        def network(h, logits, offsets, seed):
            a = ops.sum_minus_self(h * 2, offsets=offsets, pre="elu")
            w_sum, kl = ops.posterior_sum_and_kl(a.tanh(), h, logits, h, h + 1, offsets=offsets, seed=seed)
            return w_sum.sin() + kl[:, None]

        compiled = torch.compile(network, fullgraph=True, dynamic=True)
        for offsets, seed in (([0, 2, 7], 3), ([0, 0, 9], 4), ([0, 9, 9], 5)):
            offsets = torch.tensor(offsets)
            h, logits = torch.randn(2, int(offsets[-1]), 6, dtype=torch.float64)
            inputs = [h.requires_grad_(), logits.clone().requires_grad_()]
            found, expected = (f(*inputs, offsets, torch.tensor(seed)) for f in (compiled, network))
            close(found, expected)
            close(gradients([found], inputs), gradients([expected], inputs))

    def test_vmap(self, backend):
        call = DRAWING[0]
        copies = [torch.stack(x) for x in zip(*(call.inputs(SETS, PARTS, seed=s) for s in range(3)))]
        mapped = torch.vmap(lambda *x: call(*x))
        same(torch.compile(mapped, fullgraph=True, backend="aot_eager")(*copies), mapped(*copies))

    def test_func_grad_is_right_or_refused(self, backend):
        """Dynamo does not yet trace an autograd.Function within torch.func's transformations, and says so."""
        call = DRAWING[0]
        gradient = torch.func.grad(loss_of(call))
        try:
            found = torch.compile(gradient, fullgraph=True, backend="aot_eager")(*call.inputs(SETS, PARTS))
        except torch._dynamo.exc.TorchDynamoException as error:
            assert "torch.func.grad within torch.compile" in str(error)
        else:
            close(found, gradient(*call.inputs(SETS, PARTS)))

    def test_draws_in_the_graph(self, backend):
        call = DRAWING[0]
        inputs = call.inputs(SETS, PARTS)
        compiled = torch.compile(lambda *x: call(*x, seed=None)[0], fullgraph=True, backend="aot_eager")
        torch.manual_seed(0)
        first, second = compiled(*inputs), compiled(*inputs)
        assert not torch.equal(first, second)
        torch.manual_seed(0)
        assert torch.equal(compiled(*inputs), first)


class TestAutocast:
    @every()
    def test_leaves_dtypes_alone(self, backend, call):
        inputs = leaves(call, dtype=torch.float32)
        expected = call(*inputs, **call.indices(SETS, PARTS))
        with torch.autocast("cpu", torch.bfloat16):
            found = call(*inputs, **call.indices(SETS, PARTS))
        same(found, expected)
        same(gradients(found, inputs), gradients(expected, inputs))

    def test_half_networks_and_float32_tables(self, backend):
        torch.manual_seed(0)
        network = torch.nn.Linear(8, 3 * 6)
        mu_p, logvar_p = torch.randn(2, SETS, PARTS, 6).unbind()
        mu_p.requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            posterior = network(torch.randn(SETS, PARTS, 8)).chunk(3, -1)
            w_sum, kl = ops.posterior_sum_and_kl(*posterior, mu_p, logvar_p, seed=1)
        assert [x.dtype for x in (*posterior, w_sum, kl)] == [torch.bfloat16] * 3 + [torch.float32] * 2
        (w_sum.sum() + kl.sum()).backward()
        assert network.weight.grad.dtype == mu_p.grad.dtype == torch.float32
        same((w_sum, kl), ops.posterior_sum_and_kl(*posterior, mu_p, logvar_p, seed=1))


class TestCheckpoint:
    @every(DRAWING)
    @pytest.mark.parametrize("use_reentrant", [False, True])
    def test_draws_the_same_noise(self, backend, call, use_reentrant):
        inputs, indices = leaves(call), call.indices(SETS, PARTS)
        torch.manual_seed(1)
        expected = call(*inputs, seed=None, **indices)
        torch.manual_seed(1)
        found = checkpoint(lambda *x: call(*x, seed=None, **indices), *inputs, use_reentrant=use_reentrant)
        same(found, expected)
        torch.manual_seed(2)  # what a training step would do meanwhile
        same(_backward(found, inputs), gradients(expected, inputs))


def _backward(outputs, inputs):
    """As gradients does, but through .grad, which is all that reentrant checkpoints offer."""
    total = sum((o.double() * torch.linspace(1, 2, o.numel()).reshape(o.shape)).sum() for o in outputs)
    total.backward()
    found = [x.grad for x in inputs]
    for x in inputs:
        x.grad = None
    return found


class TestFunc:
    """torch.func's transformations against the same calls one by one."""

    @every()
    def test_grad(self, backend, call):
        inputs, indices = leaves(call), call.indices(SETS, PARTS)
        loss = loss_of(call, **indices)
        positions = tuple(range(len(inputs)))
        found = torch.func.grad(loss, positions)(*(x.detach() for x in inputs))
        same(found, torch.autograd.grad(loss(*inputs), inputs))

    @every()
    def test_jacrev(self, backend, call):
        inputs = call.inputs(1, 2, width=2)
        indices = call.indices(1, 2)

        def first(x):
            return call(x, *inputs[1:], **indices)[0]

        same(torch.func.jacrev(first)(inputs[0]), torch.autograd.functional.jacobian(first, inputs[0]))

    @every()
    @pytest.mark.parametrize("mapped", ["all", "first", "last", "inner"])
    def test_vmap(self, backend, call, mapped):
        copies = [call.inputs(SETS, PARTS, seed=s) for s in range(3)]
        dim = 1 if mapped == "inner" else 0
        chosen = [{"first": i == 0, "last": i == len(copies[0]) - 1}.get(mapped, True) for i in range(len(copies[0]))]
        stacked = [torch.stack(x, dim) if m else x[0] for x, m in zip(zip(*copies), chosen)]
        dims = tuple(dim if m else None for m in chosen)
        each = [[x if m else copies[0][i] for i, (x, m) in enumerate(zip(copy, chosen))] for copy in copies]
        indices = call.indices(SETS, PARTS)
        function = torch.vmap(lambda *x: call(*x, **indices), dims)
        same(function(*stacked), map(torch.stack, zip(*(call(*x, **indices) for x in each))))
        positions = tuple(range(len(stacked)))
        gradient = torch.func.grad(loss_of(call, **indices), positions)
        same(torch.vmap(gradient, dims)(*stacked), map(torch.stack, zip(*(gradient(*x) for x in each))))

    @every()
    def test_vmap_within_grad(self, backend, call):
        copies = [call.inputs(SETS, PARTS, seed=s) for s in range(3)]
        indices = call.indices(SETS, PARTS)
        stacked = [torch.stack(x) for x in zip(*copies)]
        loss = loss_of(call, **indices)
        found = torch.func.grad(lambda *x: torch.vmap(loss)(*x).sum(), tuple(range(len(stacked))))(*stacked)
        each = [torch.func.grad(loss, tuple(range(len(stacked))))(*copy) for copy in copies]
        close(found, tuple(map(torch.stack, zip(*each))))

    @every()
    def test_vmap_twice(self, backend, call):
        copies = [[call.inputs(SETS, PARTS, seed=2 * i + j) for j in range(2)] for i in range(3)]
        indices = call.indices(SETS, PARTS)
        stacked = [torch.stack([torch.stack(row) for row in x]) for x in zip(*(zip(*row) for row in copies))]
        found = torch.vmap(torch.vmap(lambda *x: call(*x, **indices)))(*stacked)
        rows = [list(map(torch.stack, zip(*(call(*x, **indices) for x in row)))) for row in copies]
        same(found, map(torch.stack, zip(*rows)))

    @every(DRAWING)
    def test_vmap_over_seeds(self, backend, call):
        inputs, indices = call.inputs(SETS, PARTS), call.indices(SETS, PARTS)
        seeds = torch.tensor([1, -1, 7])
        found = torch.vmap(lambda s: call(*inputs, seed=s, **indices))(seeds)
        each = [call(*inputs, seed=int(s), **indices) for s in seeds]
        same(found, map(torch.stack, zip(*each)))
        both = torch.vmap(lambda s, x: call(x, *inputs[1:], seed=s, **indices), (0, None))(seeds, inputs[0])
        same(both, found)
        gradient = torch.vmap(lambda s: torch.func.grad(loss_of(call, seed=s, **indices))(*inputs))(seeds)
        same(gradient, torch.stack([torch.func.grad(loss_of(call, seed=int(s), **indices))(*inputs) for s in seeds]))
        same([x[0] for x in torch.vmap(lambda s: call(*inputs, seed=s, **indices))(seeds[:1])], each[0])

    @every(DRAWING)
    def test_vmap_s_randomness(self, backend, call):
        inputs, indices = call.inputs(SETS, PARTS), call.indices(SETS, PARTS)
        twice = torch.stack([inputs[0]] * 2)

        def draw(x):
            return call(x, *inputs[1:], seed=None, **indices)[0]

        first, second = torch.vmap(draw, randomness="different")(twice)
        assert not torch.equal(first, second)
        first, second = torch.vmap(draw, randomness="same")(twice)
        assert torch.equal(first, second)
        with pytest.raises(RuntimeError, match="randomness"):
            torch.vmap(draw)(twice)

    @every(ON_PARTS)
    @pytest.mark.parametrize("shared", [False, True])
    def test_vmap_over_layouts(self, backend, call, shared):
        """Lengths, offsets and indices in the noise, mapped with the parts or one for all."""
        copies = [call.inputs(SETS, PARTS, seed=s) for s in range(2)]
        rows = [[x.flatten(0, 1) for x in copy] for copy in copies]
        noise = {"set_index": [[4, 2], [9, 0]], "part_start": [[0, 6], [3, 1]]} if call.draws else {}
        for inputs, layout in ((copies, {"lengths": [[3, 0], [1, 4]]}), (rows, {"offsets": [[0, 3, 8], [0, 8, 8]]})):
            values = {name: torch.tensor(x) for name, x in (layout | noise).items()}
            taken = {name: x[:1].expand(2, -1) if shared else x for name, x in values.items()}
            each = [call(*x, **{name: v[i] for name, v in taken.items()}) for i, x in enumerate(inputs)]
            stacked = [torch.stack(x) for x in zip(*inputs)]

            def mapped(indices, *x):
                return call(*x, **indices)

            keywords = {name: x[0] for name, x in values.items()} if shared else values
            dims = (None if shared else 0, *[0] * len(stacked))
            same(torch.vmap(mapped, dims)(keywords, *stacked), map(torch.stack, zip(*each)))

    def test_vmap_over_labels_counts_and_masks(self, backend):
        tables = torch.randn(2, CLASSES, 5, dtype=torch.float64).unbind()
        labels = torch.randint(CLASSES, (3, SETS, PARTS))
        for collapse in (False, True):
            found = torch.vmap(lambda x, c=collapse: ops.prior_sum(x, *tables, seed=SEED, collapse=c))(labels)
            same(found, torch.stack([ops.prior_sum(x, *tables, seed=SEED, collapse=collapse) for x in labels]))
        counts = torch.randint(9, (3, SETS, CLASSES))
        found = torch.vmap(lambda x: ops.prior_sum(None, *tables, counts=x, seed=SEED))(counts)
        same(found, torch.stack([ops.prior_sum(None, *tables, counts=x, seed=SEED) for x in counts]))
        mu, logvar = torch.randn(2, SETS, PARTS, 5, dtype=torch.float64).unbind()
        masks = torch.rand(3, SETS, PARTS) < 0.5
        found = torch.vmap(lambda x: ops.product_of_experts(mu, logvar, mask=x))(masks)
        same(found, map(torch.stack, zip(*(ops.product_of_experts(mu, logvar, mask=x) for x in masks))))

    @every()
    def test_forward_mode_is_refused(self, backend, call):
        inputs, indices = call.inputs(SETS, PARTS), call.indices(SETS, PARTS)
        refusal = pytest.raises((RuntimeError, NotImplementedError), match="forward|jvp")
        with refusal:
            torch.func.jvp(loss_of(call, **indices), tuple(inputs), tuple(inputs))
        with refusal, forward_ad.dual_level():
            call(forward_ad.make_dual(inputs[0], inputs[0]), *inputs[1:], **indices)
        with refusal:
            torch.func.jacfwd(loss_of(call, **indices))(*inputs)
        with forward_ad.dual_level():  # without a tangent there is nothing to refuse
            call(*inputs, **indices)

    @every()
    def test_double_backward_is_refused(self, backend, call):
        inputs, indices = leaves(call), call.indices(SETS, PARTS)
        loss = loss_of(call, **indices)
        first = torch.autograd.grad(loss(*inputs), inputs, create_graph=True)
        same([x.detach() for x in first], torch.autograd.grad(loss(*inputs), inputs))
        with pytest.raises(RuntimeError, match="double backward is not offered"):
            torch.autograd.grad(sum(x.sum() for x in first), inputs)
        with pytest.raises(RuntimeError, match="double backward is not offered"):
            torch.func.grad(lambda x: torch.func.grad(loss)(x, *inputs[1:]).sum())(inputs[0].detach())
        with pytest.raises((RuntimeError, NotImplementedError), match="forward|jvp|double backward"):
            torch.func.hessian(loss)(*(x.detach() for x in inputs))


class TestProcess:
    def test_threads_at_once(self, backend):
        """Eight Python threads, each with its own numbers, forward and backward."""
        call = next(c for c in CALLS if c.name == "posterior_sum_and_kl")
        work = [leaves(call, parts=40, width=300, seed=s) for s in range(8)]
        expected = [(*(outputs := call(*x)), *gradients(outputs, x)) for x in work]
        found = [None] * len(work)
        start = threading.Barrier(len(work))

        def run(i):
            start.wait()
            with compvae_fast.use_backend(backend):
                for _ in range(3):
                    outputs = call(*work[i])
                    found[i] = *outputs, *gradients(outputs, work[i])

        threads = [threading.Thread(target=run, args=(i,)) for i in range(len(work))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        for x, y in zip(found, expected):
            same(x, y)

    def test_fork_after_a_parallel_region(self, backend):
        """libgomp's threads do not survive a fork. The reference is plain torch, which then wants one thread (a
        DataLoader sees to that); kernels see to it themselves."""
        script = f"""
import os, sys, time, torch
import compvae_fast
from compvae_fast import ops

compvae_fast.set_backend({backend!r})
torch.set_num_threads(2)
inputs = [x.requires_grad_() for x in torch.randn(5, 8, 16, 64).unbind()]

def run():
    w_sum, kl = ops.posterior_sum_and_kl(*inputs, seed=1)
    return w_sum.detach(), *torch.autograd.grad(w_sum.sum() + kl.sum(), inputs)

expected = run()
child = os.fork()
if child == 0:
    if {backend!r} == "reference":
        torch.set_num_threads(1)
    same = all(torch.equal(x, y) for x, y in zip(run(), expected))
    os._exit(0 if same else 3)
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        sys.exit(os.waitstatus_to_exitcode(status))
    time.sleep(0.01)
os.kill(child, 9)
sys.exit("the child hangs")
"""
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr or f"exit status {done.returncode}"

    @every()
    def test_deterministic_mode(self, backend, call):
        assert torch.are_deterministic_algorithms_enabled()
        inputs, indices = leaves(call, dtype=torch.float32), call.indices(SETS, PARTS)
        first, second = (call(*inputs, **indices) for _ in range(2))
        same(first, second)
        same(gradients(first, inputs), gradients(second, inputs))
        assert all(x.isfinite().all() for x in first)
