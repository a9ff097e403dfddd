"""diag_normal_kl by Numba kernels: 1/2 (R - 1 - log R + (mu_q - mu_p)^2 / s^2), R = sigma^2 / s^2."""

from compvae_fast.kernels.numba.compiling import inlined
from compvae_fast.kernels.numba.elementary import exp, exp_excess, expm1
from compvae_fast.kernels.numba.elements import sum_of_terms


@inlined
def _value(mu_q, logvar_q, mu_p, logvar_p):
    log_ratio, difference = logvar_q - logvar_p, mu_q - mu_p
    return 0.5 * (exp_excess(log_ratio, exp(log_ratio)) + difference * difference * exp(-logvar_p))


@inlined
def _gradient(mu_q, logvar_q, mu_p, logvar_p):
    excess, difference = expm1(logvar_q - logvar_p), mu_q - mu_p
    scaled = difference * exp(-logvar_p)
    return scaled, 0.5 * excess, -scaled, -0.5 * (excess + difference * scaled)


forward, backward = sum_of_terms("diag_normal_kl", _value, _gradient)
