"""correlated_normal_log_prob by the compiled kernels."""

from compvae_fast import native
from compvae_fast.ops.correlated_normal_log_prob import OPERATION


def forward(*arguments):
    *values, save = arguments
    w, mu, logvar, rho_logits, offsets, lengths, coupling = values
    described = OPERATION.describe(values, save)
    density, stats = native.outputs(described, values[0].device)
    sets = native.Sets(w.shape, offsets, lengths)
    native.library().correlated_normal_log_prob_forward(
        sets.arguments, *native.rows(w), native.rows(*values[1:4]), *native.per_set(density),
        stats.data_ptr() if save else 0, coupling == "scaled")
    return density, stats


def backward(grad, *arguments):
    *values, stats, needs = arguments
    w, mu, logvar, rho_logits, offsets, lengths, coupling = values
    gradients = native.like_wanted(values[:4], needs)
    sets = native.Sets(w.shape, offsets, lengths)
    wanted = native.wanted_rows(gradients, needs)
    native.library().correlated_normal_log_prob_backward(
        sets.arguments, *native.rows(w), native.rows(*values[1:4]), *native.per_set(grad), stats.data_ptr(),
        wanted[0], wanted[1:], coupling == "scaled")
    return gradients
