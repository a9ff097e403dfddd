"""multiset_kl by Numba kernels."""

from compvae_fast.kernels.numba import posterior_kl
from compvae_fast.kernels.numba.calls import adapted


def multiset_kl_forward(sets, inputs, kl, stats, scaled, float64):
    posterior_kl.forward(False, sets, inputs, None, kl, stats, scaled, float64)


def multiset_kl_backward(sets, inputs, grad_kl, stats, gradients, scaled, float64):
    posterior_kl.backward(False, sets, inputs, None, grad_kl, stats, gradients, scaled, float64)


forward, backward = adapted("multiset_kl", multiset_kl_forward, multiset_kl_backward)
