"""Every operation's gradient against finite differences in float64."""

import pytest
import torch
from torch.autograd import gradcheck

from compvae_fast import reference

from .cases import LAYOUTS, layout_arguments, random
from .explicit import COUPLINGS

SEED = torch.tensor(-5)
D = 2

CORRELATED = {
    "correlated_normal_rsample": (3, {"seed": SEED, "with_log_prob": True}),
    "correlated_normal_log_prob": (4, {}),
    "multiset_kl": (5, {}),
    "posterior_sum_and_kl": (5, {"seed": SEED}),
    "posterior_sum_and_log_ratio": (5, {"seed": SEED}),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("name", CORRELATED)
def test_correlated(name, coupling, layout):
    inputs, keywords = CORRELATED[name]
    shape, sets = layout_arguments(layout)
    arguments = random((*shape, D), inputs, requires_grad=True)
    function = getattr(reference, name)
    assert gradcheck(lambda *a: function(*a, coupling=coupling, **keywords, **sets), arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduce", ["sum", "mean"])
@pytest.mark.parametrize("post", [None, "tanh"])
@pytest.mark.parametrize("pre", [None, "elu"])
def test_sum_minus_self(pre, post, reduce, layout):
    shape, sets = layout_arguments(layout)
    h = random((*shape, D), 1, requires_grad=True)
    assert gradcheck(lambda x: reference.sum_minus_self(x, pre=pre, post=post, reduce=reduce, **sets), h)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("collapse", [False, True])
def test_prior_sum(collapse, layout):
    shape, sets = layout_arguments(layout)
    tables = random((6, D), 2, requires_grad=True)
    labels = torch.arange(torch.Size(shape).numel()).reshape(shape) % 5
    assert gradcheck(lambda *a: reference.prior_sum(labels, *a, seed=SEED, collapse=collapse, **sets), tables)


def test_prior_sum_of_rows_and_of_counts():
    _, sets = layout_arguments("ragged")
    tables = random((8, D), 2, requires_grad=True)
    assert gradcheck(lambda *a: reference.prior_sum(None, *a, seed=SEED, **sets), tables)
    counts = torch.tensor([[0, 0, 0], [3, 0, 7]])
    tables = random((3, D), 2, requires_grad=True)
    assert gradcheck(lambda *a: reference.prior_sum(None, *a, counts=counts, seed=SEED), tables)


@pytest.mark.parametrize("layout", [*LAYOUTS, "mask"])
@pytest.mark.parametrize("prior", [False, True])
def test_product_of_experts(prior, layout):
    shape, sets = layout_arguments("dense" if layout == "mask" else layout)
    if layout == "mask":
        sets = {"mask": torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5}
        sets["mask"][0] = False
    experts = random((*shape, D), 2, requires_grad=True)

    def finite(mu, logvar):
        mean, log_variance = reference.product_of_experts(mu, logvar, prior=prior, **sets)
        return mean, log_variance.masked_fill(log_variance.isinf(), 0)

    assert gradcheck(finite, experts)


def test_diag_normal_kl():
    assert gradcheck(reference.diag_normal_kl, random((3, 2, 4), 4, requires_grad=True))


@pytest.mark.parametrize("shapes", [((3, 2, 4), (3, 2, 4)), ((2, 4), ()), ((3, 1, 1), (1, 2, 1))], ids=str)
def test_negative_log_likelihoods(shapes):
    parameters = [random(s, 1, i, requires_grad=True)[0] for i, s in enumerate(shapes)]
    x = random((3, 2, 4), 1, 9, requires_grad=True)[0]
    assert gradcheck(reference.gaussian_nll, (x, *parameters))
    levels = torch.tensor([0, 1, 100, 254, 255, 30, 31, 32] * 3, dtype=torch.float64).reshape(3, 2, 4) / 255
    assert gradcheck(reference.discretized_logistic_nll, (levels.requires_grad_(), *parameters))
