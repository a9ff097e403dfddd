"""multiset_kl by Triton kernels."""

from compvae_fast.kernels.triton import posterior_kl
from compvae_fast.kernels.triton.sets import given, like_wanted, of_parts, outputs_of, wanted
from compvae_fast.ops.multiset_kl import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu_q, _, _, _, _, offsets, lengths, coupling = values
    kl, stats = outputs_of(OPERATION, values, save)
    call = of_parts(mu_q, offsets, lengths)
    posterior_kl.forward(call, values[:5], None, kl, given(stats, save), coupling == "unit")
    return kl, stats


def backward(grad_kl, *arguments):
    *values, stats, needs = arguments
    mu_q, _, _, _, _, offsets, lengths, coupling = values
    gradients = like_wanted(values[:5], needs)
    call = of_parts(mu_q, offsets, lengths, spoilt=gradients)
    posterior_kl.backward(call, values[:5], None, grad_kl, stats, wanted(gradients, needs), coupling == "unit", False)
    return gradients
