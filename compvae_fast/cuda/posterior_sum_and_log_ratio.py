"""posterior_sum_and_log_ratio by CUDA kernels."""

from compvae_fast.cuda import adapted

forward, backward = adapted("posterior_sum_and_log_ratio")
