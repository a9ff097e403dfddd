"""posterior_sum_and_kl by Numba kernels."""

from compvae_fast.kernels.numba import posterior_kl
from compvae_fast.kernels.numba.calls import adapted


def posterior_sum_and_kl_forward(sets, inputs, w_sum, kl, stats, scaled, float64):
    posterior_kl.forward(True, sets, inputs, w_sum, kl, stats, scaled, float64)


def posterior_sum_and_kl_backward(sets, inputs, grad_w, grad_kl, stats, gradients, scaled, float64):
    posterior_kl.backward(True, sets, inputs, grad_w, grad_kl, stats, gradients, scaled, float64)


forward, backward = adapted("posterior_sum_and_kl", posterior_sum_and_kl_forward, posterior_sum_and_kl_backward)
