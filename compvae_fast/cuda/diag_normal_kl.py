"""diag_normal_kl by CUDA kernels."""

from compvae_fast.cuda import adapted

forward, backward = adapted("diag_normal_kl")
