"""The diagonal KL and the likelihoods on every backend against the float64 reference."""

from __future__ import annotations

import functools
import math

import pytest
import torch

import compvae_fast
from compvae_fast import ops

from .conformity import DTYPES
from .judge import close, error, holds, representable, rounding, strictness
from .sets import strided

# name -> the argument whose dtype the result has, and those of the other side
SIDES = {
    "diag_normal_kl": (("mu_q", "logvar_q"), ("mu_p", "logvar_p")),
    "gaussian_nll": (("x",), ("mu", "logvar")),
    "discretized_logistic_nll": (("x",), ("mu", "log_scale")),
}
SHAPES = ((3, 2, 37), (2, 2500), (4,), (1, 16), (2, 0), (0, 5))
MIXED = ((torch.float32, torch.bfloat16), (torch.bfloat16, torch.float32), (torch.float32, torch.float64))
PAIRS = (*((d, d) for d in DTYPES), *MIXED)
ALL = pytest.mark.parametrize("name", SIDES)


def inputs(name: str, shape, dtypes, extreme: bool = False):
    """Random arguments. x of the discretized logistic are levels, its parameters about them."""
    generator = torch.Generator().manual_seed(7)
    values = []
    for side, dtype in zip(SIDES[name], dtypes):
        for argument in side:
            v = torch.randn(shape, generator=generator)
            if argument == "x" and name.startswith("discretized"):
                v = torch.randint(0, 256, shape, generator=generator) / 255
                v = torch.where(torch.rand(shape, generator=generator) < 0.2, v.round(), v)
            elif argument == "mu" and name.startswith("discretized"):
                v = 0.5 + v / 2
            elif argument == "log_scale":
                v = -4 + (6 if extreme else 1.5) * v
            elif extreme and argument.startswith("logvar"):
                v = 5 * v
            values.append(v.to(dtype))
    if extreme and name == "diag_normal_kl":
        ratio = math.log(1e6) * (2 * torch.rand(shape, generator=generator) - 1)
        values[3] = (values[1].float() + ratio).to(dtypes[1])
    return values


def call(name: str, values, upstream=None):
    leaves = [v.detach().requires_grad_() for v in values]
    out = getattr(ops, name)(*leaves)
    if upstream is None:
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(8)).to(torch.bfloat16)
    return out.detach(), torch.autograd.grad(out, leaves, upstream.to(out.dtype))


@functools.cache
def prepared(name, shape, dtypes, extreme=False):
    values = inputs(name, shape, dtypes, extreme)
    with compvae_fast.use_backend("reference"):
        return values, *call(name, [v.double() for v in values])


def conforms(name, values, truth, true_gradients, found, gradients):
    assert found.dtype == (torch.float32 if values[0].dtype.itemsize == 2 else values[0].dtype)
    # The terms of a Gaussian density have both signs.
    allowed = 1e-5 * truth.abs().clamp(min=1 if name != "gaussian_nll" else values[0][:1].numel())
    if torch.float64 in [v.dtype for v in values]:
        allowed = allowed.clamp(min=torch.finfo(found.dtype).eps)
    close(name, found, truth, allowed)
    joint = sum(g.square() for g in true_gradients).sqrt() if true_gradients[0].shape == true_gradients[-1].shape else 0
    for value, gradient, true_gradient in zip(values, gradients, true_gradients, strict=True):
        assert gradient.dtype == value.dtype
        true_gradient = representable(true_gradient, value.dtype)
        excess = (error(gradient, true_gradient) - rounding(true_gradient, value.dtype)).clamp(min=0)
        holds(f"gradient of {name}", excess, strictness(found.dtype) * (1e-4 * true_gradient.abs() + 1e-6 * joint))


@ALL
@pytest.mark.parametrize("dtypes", PAIRS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_and_dtype(backend, name, shape, dtypes):
    values, truth, true_gradients = prepared(name, shape, dtypes)
    conforms(name, values, truth, true_gradients, *call(name, values))


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_extreme_range(backend, name, dtype):
    """Each element judged alone: sigma^2/s^2 from 1e-6 to 1e6, scales from far below a bin to e^14."""
    values, truth, true_gradients = prepared(name, (4000,), (dtype, dtype), True)
    conforms(name, values, truth, true_gradients, *call(name, values))


@pytest.mark.parametrize("apart", [0.0, 1e-6, 1e-3])
def test_a_posterior_next_to_its_prior(backend, apart):
    """A KL near 0 and its gradient keep their digits: e^x - 1 and e^x - 1 - x must not be taken by subtraction."""
    mu_q, logvar_q, step, other = torch.randn(4, 50, 1, generator=torch.Generator().manual_seed(2))
    values = [mu_q, logvar_q, mu_q + apart * step, logvar_q + apart * other]
    found, gradients = call("diag_normal_kl", values)
    with compvae_fast.use_backend("reference"):
        truth, true_gradients = call("diag_normal_kl", [v.double() for v in values])
    for a, b in zip((found, *gradients), (truth, *true_gradients)):
        close("next to 0", a, b, 1e-5 * b.abs())


@ALL
def test_any_strides(backend, name):
    values, truth, true_gradients = prepared(name, (3, 2, 37), (torch.float32,) * 2)
    conforms(name, values, truth, true_gradients, *call(name, [strided(v) for v in values]))
    shuffled = [v.permute(2, 1, 0).contiguous().permute(2, 1, 0) for v in values]
    conforms(name, values, truth, true_gradients, *call(name, shuffled))


@ALL
def test_expanded_upstream_gradient(backend, name):
    values, *_ = prepared(name, (3, 2, 37), (torch.float32,) * 2)
    one = torch.ones(())
    _, found = call(name, values, one.expand(3))
    _, expected = call(name, values, torch.ones(3))
    assert all(torch.equal(a, b) for a, b in zip(found, expected))


@pytest.mark.parametrize("name", [n for n in SIDES if n.endswith("nll")])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shapes", [((), (1, 37)), ((2, 1), (3, 1, 37)), ((37,), (3, 2, 37)), ((1, 1, 1), (3, 1, 1))],
                         ids=str)
def test_parameters_broadcast(backend, name, dtype, shapes):
    """The value is that of expanded parameters, each gradient the sum of theirs."""
    x, *parameters = inputs(name, (3, 2, 37), (dtype, dtype))
    parameters = [p[tuple(slice(0, 1) if n == 1 else slice(None) for n in (1,) * (3 - len(s)) + s)].reshape(s)
                  for p, s in zip(parameters, shapes)]
    with compvae_fast.use_backend("reference"):
        truth, full = call(name, [x.double(), *(p.double().expand(x.shape).clone() for p in parameters)])
    true_gradients = [full[0], *(g.sum_to_size(s) for g, s in zip(full[1:], shapes))]
    found, gradients = call(name, [x, *parameters])
    conforms(name, [x], truth, true_gradients[:1], found, gradients[:1])
    # of its own size and of all inputs' gradients: an element may be the difference of numbers about 1
    joint = sum(g.square() for g in full).sqrt()
    for p, gradient, true_gradient, elements in zip(parameters, gradients[1:], true_gradients[1:], full[1:]):
        assert gradient.shape == p.shape and gradient.dtype == p.dtype
        allowed = (1e-5 * elements.abs() + 1e-6 * joint).sum_to_size(p.shape)
        close("gradient of a parameter", gradient, true_gradient, allowed)


@ALL
def test_threads_and_batch_do_not_matter(backend, name):
    values, *_ = prepared(name, (2, 2500), (torch.float32,) * 2)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        out, gradients = call(name, values)
        torch.set_num_threads(3)
        again, same = call(name, values)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(out, again) and all(torch.equal(a, b) for a, b in zip(gradients, same))
    alone, _ = call(name, [v[1:] for v in values])
    assert torch.equal(alone, out[1:])


@ALL
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_stay_in_their_row(backend, name, value):
    values, *_ = prepared(name, (2, 2500), (torch.float32,) * 2)
    clean, clean_gradients = call(name, values)
    for i, v in enumerate(values):
        spoilt = [u.clone() if u is v else u for u in values]
        spoilt[i][0, 1200] = value
        out, gradients = call(name, spoilt)
        assert out[1] == clean[1]
        assert all(torch.equal(g[1], c[1]) for g, c in zip(gradients, clean_gradients))
        if value != value:
            assert out[0].isnan()


@pytest.mark.parametrize("log_scale", [-20.0, -6.0, 0.0, 5.0, 40.0])
def test_levels_share_all_the_mass(backend, log_scale):
    """Also where no bin, or the open tails alone, hold it."""
    x = torch.arange(256)[:, None] / 255
    nll = ops.discretized_logistic_nll(x, torch.tensor(0.301), torch.tensor(log_scale))
    assert torch.exp(-nll.double()).sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("log_scale", [-6.0, -3.0, 3.0])
def test_a_level_next_to_its_location(backend, log_scale):
    """The gradient of x vanishes there with x - mu, and keeps its digits."""
    x = torch.full((4, 1), 0.5)
    mu = 0.5 + torch.tensor([[1e-6], [-1e-5], [1e-3], [0.1]])
    values = [x, mu, torch.full((4, 1), log_scale)]
    _, gradients = call("discretized_logistic_nll", values)
    with compvae_fast.use_backend("reference"):
        _, true_gradients = call("discretized_logistic_nll", [v.double() for v in values])
    for gradient, expected in zip(gradients, true_gradients):
        torch.testing.assert_close(gradient.double(), expected, rtol=1e-5, atol=1e-30)


@ALL
def test_wrong_arguments(name):
    names = [n for side in SIDES[name] for n in side]
    good = [torch.zeros(2, 3) for _ in names]
    function = getattr(ops, name)

    def refused(error, message, **changed):
        values = {**dict(zip(names, good)), **changed}
        with pytest.raises(error, match=message):
            function(**values)

    last, before = names[-1], names[-2]
    refused(TypeError, f"^{names[0]}: expected a torch.Tensor, got float$", **{names[0]: 1.0})
    refused(TypeError, f"^{last}: expected dtype float32, .*, got torch.int64$", **{last: torch.zeros(2, 3).long()})
    refused(TypeError, f"^{last}: expected dtype torch.float32 like {before}, got torch.float64$",
            **{last: torch.zeros(2, 3).double()})
    refused(ValueError, rf"^{last}: expected .*\[2, 3\].*, got \[2, 4\]$", **{last: torch.zeros(2, 4)})
    refused(TypeError, f"^{last}: expected a dense tensor, got a torch.sparse_coo one$",
            **{last: torch.zeros(2, 3).to_sparse()})
    nested = torch.nested.nested_tensor([torch.zeros(1, 3), torch.zeros(2, 3)], layout=torch.jagged)
    refused(TypeError, f"^{names[0]}: expected a dense tensor, got a nested one$", **dict.fromkeys(names, nested))
    elsewhere = torch.zeros(2, 3, device="meta")
    refused(ValueError, rf"^{last}: expected device cpu like {names[0]}, got meta$", **{last: elsewhere})
    with pytest.raises(ValueError, match=rf"^{names[0]}: expected shape \[B, ...\], got a 0-d tensor$"):
        function(*(torch.tensor(0.0) for _ in names))
