"""posterior_sum_and_log_ratio by the compiled kernels."""

from compvae_fast import native
from compvae_fast.ops.posterior_sum_and_log_ratio import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, seed, set_index, part_start, coupling, _ = values
    described = OPERATION.describe(values, save)
    w_sum, ratio, stats = native.outputs(described, values[0].device)
    sets = native.Sets(mu_q.shape, offsets, lengths, set_index, part_start, seed)
    native.library().posterior_sum_and_log_ratio_forward(
        sets.arguments, native.rows(*values[:5]), *native.per_set(w_sum, ratio),
        stats.data_ptr() if save else 0, coupling == "scaled",
        native.computes_float64(mu_q, logvar_p))
    return w_sum, ratio, stats


def backward(grad_w, grad_ratio, *arguments):
    *values, stats, needs = arguments
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, seed, set_index, part_start, coupling, path = values
    gradients = native.like_wanted(values[:5], needs)
    sets = native.Sets(mu_q.shape, offsets, lengths, set_index, part_start, seed)
    native.library().posterior_sum_and_log_ratio_backward(
        sets.arguments, native.rows(*values[:5]), *native.per_set(grad_w, grad_ratio),
        stats.data_ptr(), native.wanted_rows(gradients, needs), coupling == "scaled",
        native.computes_float64(mu_q, logvar_p), path=path)
    return gradients
