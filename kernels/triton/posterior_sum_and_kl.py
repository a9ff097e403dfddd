"""posterior_sum_and_kl by Triton kernels."""

from compvae_fast.kernels.triton import posterior_kl
from compvae_fast.kernels.triton.sets import given, like_wanted, of_parts, outputs_of, wanted
from compvae_fast.ops.posterior_sum_and_kl import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu_q, _, _, _, _, offsets, lengths, seed, set_index, part_start, coupling = values
    w_sum, kl, stats = outputs_of(OPERATION, values, save)
    call = of_parts(mu_q, offsets, lengths, set_index, part_start, seed)
    posterior_kl.forward(call, values[:5], w_sum, kl, given(stats, save), coupling == "unit")
    return w_sum, kl, stats


def backward(grad_w, grad_kl, *arguments):
    *values, stats, needs = arguments
    mu_q, _, _, _, _, offsets, lengths, seed, set_index, part_start, coupling = values
    gradients = like_wanted(values[:5], needs)
    call = of_parts(mu_q, offsets, lengths, set_index, part_start, seed, spoilt=gradients)
    posterior_kl.backward(call, values[:5], grad_w, grad_kl, stats, wanted(gradients, needs), coupling == "unit", True)
    return gradients
