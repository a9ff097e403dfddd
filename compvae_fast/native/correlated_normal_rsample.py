"""correlated_normal_rsample by the compiled kernels."""

import torch

from compvae_fast import native
from compvae_fast.ops.correlated_normal_rsample import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu, logvar, rho_logits, offsets, lengths, seed, set_index, part_start, coupling, with_log_prob = values
    described = OPERATION.describe(values, save)
    w, log_q, stats = native.outputs(described, values[0].device)
    sets = native.Sets(mu.shape, offsets, lengths, set_index, part_start, seed)
    native.library().correlated_normal_rsample_forward(
        sets.arguments, native.rows(*values[:3]), *native.rows(w),
        *native.per_set(log_q if with_log_prob else None), stats.data_ptr() if save else 0,
        coupling == "scaled", native.computes_float64(mu))
    return w, log_q, stats


def backward(grad_w, grad_log_q, *arguments):
    *values, stats, needs = arguments
    mu, logvar, rho_logits, offsets, lengths, seed, set_index, part_start, coupling, _ = values
    gradients = native.like_wanted(values[:3], needs)
    sets = native.Sets(mu.shape, offsets, lengths, set_index, part_start, seed)
    if grad_w is None:
        grad_w = torch.zeros((), dtype=mu.dtype, device=mu.device).expand(mu.shape)
    native.library().correlated_normal_rsample_backward(
        sets.arguments, native.rows(*values[:3]), *native.rows(grad_w), *native.per_set(grad_log_q),
        stats.data_ptr(), native.wanted_rows(gradients, needs), coupling == "scaled", native.computes_float64(mu))
    return gradients
