"""multiset_kl by the compiled kernels."""

from compvae_fast import native
from compvae_fast.ops.multiset_kl import OPERATION


def forward(*arguments):
    *values, save = arguments
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, coupling = values
    described = OPERATION.describe(values, save)
    kl, stats = native.outputs(described, values[0].device)
    sets = native.Sets(mu_q.shape, offsets, lengths)
    native.library().multiset_kl_forward(
        sets.arguments, native.rows(*values[:5]), *native.per_set(kl), stats.data_ptr() if save else 0,
        coupling == "scaled", native.computes_float64(mu_q, logvar_p))
    return kl, stats


def backward(grad_kl, *arguments):
    *values, stats, needs = arguments
    mu_q, logvar_q, rho_logits, mu_p, logvar_p, offsets, lengths, coupling = values
    gradients = native.like_wanted(values[:5], needs)
    sets = native.Sets(mu_q.shape, offsets, lengths)
    native.library().multiset_kl_backward(
        sets.arguments, native.rows(*values[:5]), *native.per_set(grad_kl), stats.data_ptr(),
        native.wanted_rows(gradients, needs), coupling == "scaled", native.computes_float64(mu_q, logvar_p))
    return gradients
