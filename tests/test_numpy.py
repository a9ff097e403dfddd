"""compvae_fast.numpy: the bits of torch's cpu backend, from any array in CPU memory, without torch."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from ops.calls import CALLS, CLASSES, SEED

import compvae_fast
import compvae_fast.numpy as cnp
from compvae_fast import _loading, ops
from compvae_fast.numpy import _native

if reason := compvae_fast.backends()["cpu"].reason:
    pytest.skip(f"compvae_fast.numpy needs the native module: {reason}", allow_module_level=True)

SETS, PARTS, WIDTH = 3, 40, 70  # more than a chunk of parts, more than a block of coordinates
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
every = pytest.mark.parametrize("call", CALLS, ids=str)


def array(t: torch.Tensor) -> np.ndarray:
    if t.dtype != torch.bfloat16:
        return t.numpy()
    return t.view(torch.int16).numpy().view(pytest.importorskip("ml_dtypes", reason="no ml_dtypes here").bfloat16)


def bits(x) -> tuple:
    """dtype's name, shape and bytes."""
    if isinstance(x, torch.Tensor):
        return str(x.dtype).removeprefix("torch."), tuple(x.shape), x.contiguous().view(-1).view(torch.uint8).tolist()
    return x.dtype.name, x.shape, np.ascontiguousarray(x).reshape(-1).view(np.uint8).tolist()


def called(module, call, inputs, indices) -> list[tuple]:
    """The bits that a module's function of the call's name gives."""
    keywords = {**call.options, **indices, **({"seed": SEED} if call.draws else {})}
    if call.table:
        keywords.setdefault("labels", None)
    if module is cnp:
        keywords.pop("path", None)
    outputs = getattr(module, call.name)(**dict(zip(call.floats, inputs)), **keywords)
    return [bits(x) for x in (outputs if isinstance(outputs, tuple) else (outputs,))]


def by_torch(call, inputs, indices):
    with compvae_fast.use_backend("cpu"):
        return called(ops, call, inputs, indices)


def as_arrays(values: dict) -> dict:
    return {name: array(x) for name, x in values.items()}


class TestBits:
    def test_every_operation_is_here(self):
        assert cnp.__all__ == ops.__all__

    @every
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_dense(self, call, dtype):
        inputs, indices = call.inputs(SETS, PARTS, WIDTH, dtype), call.indices(SETS, PARTS)
        assert called(cnp, call, map(array, inputs), as_arrays(indices)) == by_torch(call, inputs, indices)

    @pytest.mark.parametrize("call", [c for c in CALLS if c.on_sets], ids=str)
    def test_ragged_and_padded(self, call):
        noise = {"set_index": torch.tensor([7, 0, 2**40]), "part_start": torch.tensor([0, 5, 9])} if call.draws else {}
        dense = call.inputs(SETS, PARTS, WIDTH, torch.float32)
        ragged = [x.flatten(0, 1) for x in dense]
        for inputs, layout in ((ragged, {"offsets": torch.tensor([0, 3, 3, 120], dtype=torch.int32)}),
                               (dense, {"lengths": torch.tensor([40, 0, 17])})):
            expected = by_torch(call, inputs, layout | noise)
            assert called(cnp, call, map(array, inputs), as_arrays(layout | noise)) == expected

    @pytest.mark.parametrize("collapse", [False, True])
    def test_labels_of_every_layout(self, collapse):
        call = next(c for c in CALLS if c.name == "prior_sum" and not c.options)
        inputs = call.inputs(SETS, PARTS, WIDTH, torch.float32)
        labels = torch.arange(SETS * PARTS, dtype=torch.int32) % CLASSES
        rows = {"offsets": torch.tensor([0, 1, 1, CLASSES])}
        for indices in ({"labels": labels, "offsets": torch.tensor([0, 50, 50, 120])},
                        {"labels": labels.reshape(SETS, PARTS), "lengths": torch.tensor([40, 0, 2])}, rows):
            options = {"collapse": collapse}
            assert called(cnp, call, map(array, inputs), as_arrays(indices) | options) == by_torch(
                call, inputs, indices | options)

    def test_masks_and_mixed_dtypes(self):
        mu, logvar = torch.randn(2, SETS, PARTS, WIDTH).unbind()
        mask = torch.rand(SETS, PARTS) < 0.3
        with compvae_fast.use_backend("cpu"):
            expected = [bits(x) for x in ops.product_of_experts(mu, logvar, mask=mask.mT.contiguous().mT)]
            kl = bits(ops.multiset_kl(mu.half(), logvar.half(), mu.half(), mu.double(), logvar.double()))
        found = cnp.product_of_experts(mu.numpy(), logvar.numpy(), mask=np.asfortranarray(mask.numpy()))
        assert [bits(x) for x in found] == expected
        mixed = (mu.half(), logvar.half(), mu.half(), mu.double(), logvar.double())
        assert bits(cnp.multiset_kl(*map(array, mixed))) == kl

    @every
    def test_empty(self, call):
        for sets, parts, width in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
            inputs, indices = call.inputs(sets, parts, width, torch.float32), call.indices(sets, parts)
            assert called(cnp, call, map(array, inputs), as_arrays(indices)) == by_torch(call, inputs, indices)


def reversed_memory(x):
    return np.ascontiguousarray(x[..., ::-1])[..., ::-1]


def holes(x):
    memory = np.zeros((*x.shape, 3), x.dtype)
    memory[..., 1] = x
    return memory[..., 1]


def no_whole_steps(x):
    memory = np.zeros(x.shape, [("a", np.int8), ("x", x.dtype)])
    memory["x"] = x
    return memory["x"]


class TestMemory:
    @pytest.mark.parametrize("kept", [np.asfortranarray, reversed_memory, holes, no_whole_steps])
    @every
    def test_strides(self, call, kept):
        inputs, indices = call.inputs(SETS, 5, 6, torch.float32), call.indices(SETS, 5)
        expected = called(cnp, call, map(array, inputs), as_arrays(indices))
        moved = {name: kept(x) for name, x in as_arrays(indices).items()}
        assert called(cnp, call, [kept(array(x)) for x in inputs], moved) == expected

    @every
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_dlpack(self, call, dtype):
        """torch's tensors, as they come: bfloat16 too, which NumPy's own exchange refuses."""
        if dtype == torch.bfloat16:
            pytest.importorskip("ml_dtypes", reason="no ml_dtypes here")
        inputs, indices = call.inputs(SETS, PARTS, WIDTH, dtype), call.indices(SETS, PARTS)
        assert called(cnp, call, inputs, indices) == by_torch(call, inputs, indices)

    def test_dlpack_leaves_the_owner_alone(self):
        pytest.importorskip("ml_dtypes", reason="no ml_dtypes here")
        h = torch.randn(2, 3, 4).to(torch.bfloat16)
        before = h.clone()
        first = cnp.sum_minus_self(h.mT)
        assert torch.equal(h, before) and h.dtype == torch.bfloat16
        assert bits(cnp.sum_minus_self(h.mT)) == bits(first)

    def test_inputs_are_only_read(self):
        h = np.ones((2, 3, 4), np.float32)
        h.flags.writeable = False
        assert (cnp.sum_minus_self(h) == 2).all() and (h == 1).all()


class TestWithoutTorch:
    def test_torch_is_not_imported(self):
        """Every operation, in a process where importing torch fails."""
        script = f"""
import sys
sys.modules["torch"] = None
import numpy as np
import compvae_fast
import compvae_fast.numpy as cnp

x = np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4)
print(cnp.posterior_sum_and_kl(x, x, x, x, x, seed={SEED})[0].tobytes().hex())
cnp.posterior_sum_and_log_ratio(x, x, x, x, x)
cnp.correlated_normal_rsample(x, x, x, lengths=np.array([3, 1]), with_log_prob=True)
for function in (cnp.correlated_normal_log_prob, cnp.diag_normal_kl):
    function(x, x, x, x)
cnp.multiset_kl(x, x, x, x, x)
cnp.sum_minus_self(x[0], offsets=np.array([0, 1, 3]))
cnp.product_of_experts(x, x)
cnp.prior_sum(np.array([[0, 1, 1]]), x[0], x[0])
cnp.prior_sum(None, x[0], x[0], counts=np.array([[0, 10**12, 1]]))
for function in (cnp.gaussian_nll, cnp.discretized_logistic_nll):
    function(x, x[0], x[0])
assert compvae_fast.backends()["cpu"].available
assert sys.modules["torch"] is None
"""
        environment = {**os.environ, "COMPVAE_FAST_BACKEND": "cpu"}
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        x = torch.from_numpy(np.linspace(-1, 1, 24, dtype=np.float32).reshape(2, 3, 4))
        with compvae_fast.use_backend("cpu"):
            expected = ops.posterior_sum_and_kl(x, x, x, x, x, seed=SEED)[0]
        assert done.stdout.strip() == expected.numpy().tobytes().hex()

    def test_a_missing_native_module_is_told(self, monkeypatch):
        monkeypatch.setattr(_loading, "load", lambda: (None, "no compiler was found"))
        with pytest.raises(RuntimeError, match="no compiler was found"):
            cnp.sum_minus_self(np.zeros((1, 2, 3)))

    def test_another_backend_is_refused(self):
        expected = pytest.raises(ValueError, match="expected backend 'cpu', .*, got 'reference'")
        with compvae_fast.use_backend("reference"), expected:
            cnp.sum_minus_self(np.zeros((1, 2, 3)))
        with compvae_fast.use_backend("cpu"):
            cnp.sum_minus_self(np.zeros((1, 2, 3)))


class TestSeedsAndThreads:
    def test_seeds(self):
        x = np.zeros((1, 2, 3))

        def draw(seed):
            return cnp.correlated_normal_rsample(x, x, x, seed=seed).tobytes()

        assert draw(-1) == draw(2**64 - 1) == draw(np.int32(-1)) != draw(1)
        np.random.seed(3)
        first, second = draw(None), draw(None)
        np.random.seed(3)
        assert draw(None) == first != second

    @pytest.mark.parametrize("seed", [True, 1.0, "1", np.zeros(2, np.int64)])
    def test_wrong_seeds(self, seed):
        x = np.zeros((1, 2, 3))
        with pytest.raises(TypeError, match="^seed: expected None or an int, got"):
            cnp.correlated_normal_rsample(x, x, x, seed=seed)

    @every
    def test_bits_do_not_depend_on_threads(self, call):
        inputs, indices = call.inputs(SETS, PARTS, WIDTH, torch.float32), as_arrays(call.indices(SETS, PARTS))
        inputs = list(map(array, inputs))
        one, two, seven = (called(cnp, call, inputs, indices | {"threads": n}) for n in (1, 2, 7))
        assert one == two == seven

    def test_how_many(self, monkeypatch):
        handed = []
        module = _loading.library()

        class Library:
            def sum_minus_self_forward(self, sets, *rest):
                handed.append(sets[-1])
                return module.sum_minus_self_forward(sets, *rest)

        monkeypatch.setattr(_native, "library", Library)
        for asked, environment in ((3, "2"), (None, "2"), (None, "5,2"), (None, None), (None, "nonsense")):
            monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            if environment:
                monkeypatch.setenv("OMP_NUM_THREADS", environment)
            cnp.sum_minus_self(np.zeros((1, 2, 3)), threads=asked)
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        assert handed == [3, 2, 5, processors, processors]

    @pytest.mark.parametrize("threads, error", [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError)])
    def test_wrong_threads(self, threads, error):
        with pytest.raises(error, match="^threads: expected"):
            cnp.sum_minus_self(np.zeros((1, 2, 3)), threads=threads)


X, TABLE = torch.zeros(2, 3, 4), torch.zeros(5, 4)
WRONG = {
    "dtype": ("sum_minus_self", [X.int()], {}),
    "no array": ("sum_minus_self", [[1.0]], {}),
    "dimensions": ("sum_minus_self", [X[0]], {}),
    "shape": ("correlated_normal_log_prob", [X, X, X, X[:, :2]], {}),
    "dtypes of a side": ("multiset_kl", [X, X, X.double(), X, X], {}),
    "coupling": ("multiset_kl", [X] * 5, {"coupling": "half"}),
    "offsets and lengths": ("multiset_kl", [X] * 5, {"offsets": torch.tensor([0]), "lengths": torch.tensor([0])}),
    "offsets' dtype": ("sum_minus_self", [X[0]], {"offsets": torch.tensor([0.0, 3.0])}),
    "offsets' shape": ("sum_minus_self", [X[0]], {"offsets": torch.zeros(0, dtype=torch.int64)}),
    "offsets' end": ("sum_minus_self", [X[0]], {"offsets": torch.tensor([0, 2])}),
    "offsets' order": ("sum_minus_self", [X[0]], {"offsets": torch.tensor([0, 3, 2, 3])}),
    "lengths' shape": ("sum_minus_self", [X], {"lengths": torch.tensor([1])}),
    "lengths": ("sum_minus_self", [X], {"lengths": torch.tensor([1, 4])}),
    "negative lengths": ("sum_minus_self", [X], {"lengths": torch.tensor([1, -4])}),
    "set_index": ("posterior_sum_and_kl", [X] * 5, {"set_index": torch.tensor([0, 2**48 - 1])}),
    "set_index' shape": ("posterior_sum_and_kl", [X] * 5, {"set_index": torch.tensor([0])}),
    "part_start": ("posterior_sum_and_log_ratio", [X] * 5, {"part_start": torch.tensor([0, 2**48 - 1])}),
    "pre": ("sum_minus_self", [X], {"pre": "relu"}),
    "reduce": ("sum_minus_self", [X], {"reduce": "max"}),
    "flag": ("product_of_experts", [X, X], {"prior": 1}),
    "mask's dtype": ("product_of_experts", [X, X], {"mask": torch.ones(2, 3)}),
    "mask's shape": ("product_of_experts", [X, X], {"mask": torch.ones(2, 4, dtype=torch.bool)}),
    "mask and lengths": ("product_of_experts", [X, X], {"mask": torch.ones(2, 3) > 0, "lengths": torch.tensor([1, 1])}),
    "labels": ("prior_sum", [torch.tensor([[0, 5]]), TABLE, TABLE], {}),
    "labels' dtype": ("prior_sum", [torch.zeros(2, 2), TABLE, TABLE], {}),
    "no labels": ("prior_sum", [None, TABLE, TABLE], {}),
    "tables": ("prior_sum", [torch.tensor([[0]]), TABLE[0], TABLE[0]], {}),
    "counts": ("prior_sum", [None, TABLE, TABLE], {"counts": torch.tensor([[0, 0, -1, 0, 0]])}),
    "counts' shape": ("prior_sum", [None, TABLE, TABLE], {"counts": torch.tensor([[0, 1]])}),
    "counts beyond": ("prior_sum", [None, TABLE, TABLE], {"counts": torch.tensor([[0, 0, 2**53 + 1, 0, 0]])}),
    "counts and lengths": ("prior_sum", [None, TABLE, TABLE],
                           {"counts": torch.zeros(1, 5, dtype=torch.int64), "lengths": torch.tensor([0])}),
    "broadcast": ("gaussian_nll", [X, X[:, :2], X], {}),
    "0-d": ("discretized_logistic_nll", [X[0, 0, 0], X[0, 0, 0], X[0, 0, 0]], {}),
}


@pytest.mark.parametrize("name, arguments, keywords", WRONG.values(), ids=WRONG)
def test_refusals_are_those_of_torch(name, arguments, keywords):
    """The same error with the same words, but for what the libraries call their arrays and dtypes."""
    with pytest.raises((TypeError, ValueError, IndexError)) as of_torch:
        getattr(ops, name)(*arguments, **keywords)
    values = [array(x) if isinstance(x, torch.Tensor) else x for x in (*arguments, *keywords.values())]
    with pytest.raises((TypeError, ValueError, IndexError)) as of_numpy:
        getattr(cnp, name)(*values[: len(arguments)], **dict(zip(keywords, values[len(arguments) :])))
    assert of_numpy.type is of_torch.type
    words = str(of_torch.value).replace("a torch.Tensor", "a NumPy array").replace("torch.", "")
    words = re.sub("a (0-d )?[Tt]ensor", r"a \1ndarray", words)
    assert str(of_numpy.value).replace("a NumPy array or an object with __dlpack__", "a NumPy array") == words


class TestExchangeRefusals:
    def test_a_tensor_that_requires_a_gradient(self):
        with pytest.raises(ValueError, match="^h: expected an array that can be exported: "):
            cnp.sum_minus_self(torch.zeros(1, 2, 3, requires_grad=True))

    def test_memory_of_another_device(self):
        class Elsewhere:
            def __dlpack__(self, **_):
                raise AssertionError("not asked for")

            def __dlpack_device__(self):
                return 2, 0

        with pytest.raises(ValueError, match=r"^h: expected an array in CPU memory, got DLPack device \(2, 0\)"):
            cnp.sum_minus_self(Elsewhere())

    def test_other_byte_orders(self):
        with pytest.raises(TypeError, match="^h: expected dtype float32.*got >f4"):
            cnp.sum_minus_self(np.zeros((1, 2, 3), ">f4"))

    def test_bfloat16_without_ml_dtypes(self, monkeypatch):
        monkeypatch.setattr("compvae_fast.numpy._door.BFLOAT16", None)
        with pytest.raises(TypeError, match="^h: expected .* or ml_dtypes installed; got bfloat16"):
            cnp.sum_minus_self(torch.zeros(1, 2, 3, dtype=torch.bfloat16))
