"""correlated_normal_log_prob by CUDA kernels."""

from compvae_fast.cuda import adapted

forward, backward = adapted("correlated_normal_log_prob")
