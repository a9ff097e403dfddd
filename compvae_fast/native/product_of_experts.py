"""product_of_experts by the compiled kernels."""

from compvae_fast import native
from compvae_fast.ops.product_of_experts import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu, logvar, offsets, lengths, mask, prior = values
    described = OPERATION.describe(values, save)
    mean, total, stats = native.outputs(described, values[0].device)
    sets = native.Sets(mu.shape, offsets, lengths)
    mask = None if mask is None else mask.contiguous()
    native.library().product_of_experts_forward(
        sets.arguments, native.rows(*values[:2]), native.address(mask), prior, *native.per_set(mean, total),
        stats.data_ptr() if save else 0, native.computes_float64(mu))
    return mean, total, stats


def backward(grad_mean, grad_logvar, *arguments):
    *values, stats, needs = arguments
    mu, logvar, offsets, lengths, mask, prior = values
    gradients = native.like_wanted(values[:2], needs)
    sets = native.Sets(mu.shape, offsets, lengths)
    mask = None if mask is None else mask.contiguous()
    native.library().product_of_experts_backward(
        sets.arguments, native.rows(*values[:2]), native.address(mask), prior, *native.per_set(grad_mean, grad_logvar),
        stats.data_ptr(), native.wanted_rows(gradients, needs), native.computes_float64(mu))
    return gradients
